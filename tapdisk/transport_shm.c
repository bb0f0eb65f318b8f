/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * transport_shm.c - the stand-in for grants and event channels on a machine
 * without Xen: guest pages in a memfd, two eventfds for each event channel.
 *
 * The frontend is as untrusted as a guest. The memfd must be sealed against
 * shrinking, otherwise a frontend could kill us by SIGBUS; references are
 * checked against the size found when it was mapped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol.h"
#include "transport.h"

struct transport_shm {
	struct transport transport;
	int memfd;
	uint8_t *pages;
	uint64_t nr_pages;
	int eventfds[PROTOCOL_MAX_FDS - 1];	/* per queue: to us, to the frontend */
	unsigned nr_queues;
};

static struct transport_shm *transport_shm(struct transport *transport)
{
	return (struct transport_shm *)transport;
}

static int transport_shm_check(const struct transport_shm *shm, const uint32_t *refs, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (refs[i] >= shm->nr_pages)
			return -EFAULT;
	return 0;
}

static bool transport_shm_adjacent(const uint32_t *refs, unsigned count)
{
	for (unsigned i = 1; i < count; i++)
		if (refs[i] != refs[i - 1] + 1)
			return false;
	return true;
}

/* Map pages that are not adjacent in the memfd once more, adjacent in our memory. */
static int transport_shm_gather(const struct transport_shm *shm, const uint32_t *refs, unsigned count, void **address)
{
	size_t size = (size_t)count << GUEST_PAGE_SHIFT;
	uint8_t *area = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (area == MAP_FAILED)
		return -errno;
	for (unsigned i = 0; i < count; i++) {
		void *at = area + ((size_t)i << GUEST_PAGE_SHIFT);

		if (mmap(at, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, shm->memfd,
			 (off_t)refs[i] << GUEST_PAGE_SHIFT) == MAP_FAILED) {
			ret = -errno;
			munmap(area, size);
			return ret;
		}
	}
	*address = area;
	return 0;
}

static int transport_shm_map(struct transport *transport, const uint32_t *refs, unsigned count, void **address)
{
	struct transport_shm *shm = transport_shm(transport);
	int ret = transport_shm_check(shm, refs, count);

	if (ret)
		return ret;
	if (!transport_shm_adjacent(refs, count))
		return transport_shm_gather(shm, refs, count, address);
	*address = shm->pages + ((size_t)refs[0] << GUEST_PAGE_SHIFT);
	return 0;
}

static void transport_shm_unmap(struct transport *transport, void *address, unsigned count)
{
	struct transport_shm *shm = transport_shm(transport);
	uint8_t *at = address;

	if (at < shm->pages || at >= shm->pages + (shm->nr_pages << GUEST_PAGE_SHIFT))
		munmap(address, (size_t)count << GUEST_PAGE_SHIFT);
}

static int transport_shm_copy(struct transport *transport, struct grant_copy *pieces, unsigned count)
{
	struct transport_shm *shm = transport_shm(transport);

	for (unsigned i = 0; i < count; i++) {
		struct grant_copy *piece = &pieces[i];
		uint8_t *guest;

		piece->error = (int16_t)transport_shm_check(shm, &piece->ref, 1);
		if (piece->error)
			continue;
		if ((unsigned)piece->offset + piece->length > GUEST_PAGE_SIZE) {
			piece->error = -EFAULT;
			continue;
		}
		guest = shm->pages + ((size_t)piece->ref << GUEST_PAGE_SHIFT) + piece->offset;
		if (piece->to_guest)
			memcpy(guest, piece->local, piece->length);
		else
			memcpy(piece->local, guest, piece->length);
	}
	return 0;
}

static int transport_shm_bind(struct transport *transport, uint32_t port, struct event_channel *channel)
{
	struct transport_shm *shm = transport_shm(transport);

	if (port >= shm->nr_queues)
		return -EINVAL;
	channel->fd = shm->eventfds[2 * port];
	channel->port = port;
	channel->priv = NULL;
	return 0;
}

static void transport_shm_unbind(struct transport *transport, struct event_channel *channel)
{
	channel->fd = -1;	/* the transport closes the descriptors */
}

static void transport_shm_notify(struct transport *transport, struct event_channel *channel)
{
	/* non-blocking: a full counter is a signal, too */
	eventfd_write(transport_shm(transport)->eventfds[2 * channel->port + 1], 1);
}

static int transport_shm_acknowledge(struct transport *transport, struct event_channel *channel)
{
	eventfd_t count;
	ssize_t got = read(channel->fd, &count, sizeof(count));

	if (got == sizeof(count) || (got < 0 && errno == EAGAIN))
		return 0;
	return got < 0 ? -errno : -EPIPE;	/* it is not an eventfd */
}

static void transport_shm_close(struct transport *transport)
{
	struct transport_shm *shm = transport_shm(transport);

	if (shm->pages)
		munmap(shm->pages, shm->nr_pages << GUEST_PAGE_SHIFT);
	close(shm->memfd);
	for (unsigned i = 0; i < 2 * shm->nr_queues; i++)
		close(shm->eventfds[i]);
	free(shm);
}

static const struct transport_ops transport_shm_ops = {
	.name = "shm",
	.close = transport_shm_close,
	.map = transport_shm_map,
	.unmap = transport_shm_unmap,
	.copy = transport_shm_copy,
	.bind = transport_shm_bind,
	.unbind = transport_shm_unbind,
	.notify = transport_shm_notify,
	.acknowledge = transport_shm_acknowledge,
};

static int transport_shm_map_memfd(struct transport_shm *shm)
{
	int seals = fcntl(shm->memfd, F_GET_SEALS);
	struct stat st;
	void *pages;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(shm->memfd, &st))
		return -EINVAL;
	if (st.st_size <= 0 || st.st_size % GUEST_PAGE_SIZE)
		return -EINVAL;
	pages = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, shm->memfd, 0);
	if (pages == MAP_FAILED)
		return -errno;
	shm->pages = pages;
	shm->nr_pages = st.st_size >> GUEST_PAGE_SHIFT;
	return 0;
}

/* Make the frontend's descriptors non-blocking: blocking on one would stop all disks of this process. */
static int transport_shm_unblock(const struct transport_shm *shm)
{
	for (unsigned i = 0; i < 2 * shm->nr_queues; i++) {
		int flags = fcntl(shm->eventfds[i], F_GETFL);

		if (flags < 0 || fcntl(shm->eventfds[i], F_SETFL, flags | O_NONBLOCK))
			return -errno;
	}
	return 0;
}

int transport_shm_open(struct transport **transport, const int *fds, unsigned nr_fds)
{
	struct transport_shm *shm;
	int ret;

	if (nr_fds < 3 || nr_fds > PROTOCOL_MAX_FDS || nr_fds % 2 == 0) {
		ret = -EINVAL;
		goto out_fds;
	}
	shm = calloc(1, sizeof(*shm));
	if (!shm) {
		ret = -ENOMEM;
		goto out_fds;
	}
	shm->transport.ops = &transport_shm_ops;
	shm->memfd = fds[0];
	shm->nr_queues = (nr_fds - 1) / 2;
	memcpy(shm->eventfds, fds + 1, (nr_fds - 1) * sizeof(*fds));
	ret = transport_shm_map_memfd(shm);
	if (!ret)
		ret = transport_shm_unblock(shm);
	if (ret) {
		transport_shm_close(&shm->transport);
		return ret;
	}
	*transport = &shm->transport;
	return 0;

out_fds:
	for (unsigned i = 0; i < nr_fds; i++)
		close(fds[i]);
	return ret;
}
