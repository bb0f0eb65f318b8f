/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront_xenbus.c - the handshake in xenstore, as Linux' blkfront does it
 * (xen/io/blkif.h has the nodes).
 *
 *   Initialising --backend InitWait--> publish: Initialised --backend Connected--> Connected
 *   Connected -> Closing --backend Closing or Closed--> Closed
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "array.h"
#include "blkfront_xen_internal.h"
#include "clock.h"

#define PATH_SIZE	512
/* Long enough that only a failed backend exceeds it, not a slow one. */
#define TIMEOUT_MS	30000

/* The value of the node below @directory, which the caller frees, or NULL. */
static char *read_node(const struct blkfront *front, const char *directory, const char *name)
{
	char path[PATH_SIZE];

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return NULL;
	return xs_read(front->xen->xs, XBT_NULL, path, NULL);
}

/* False, with *@number unchanged, if there is no such number. */
static bool read_number(const struct blkfront *front, const char *directory, const char *name, uint64_t *number)
{
	char *value = read_node(front, directory, name);
	char *end;
	uint64_t read;

	if (!value)
		return false;
	read = strtoull(value, &end, 10);
	if (*value && !*end)
		*number = read;
	free(value);
	return true;
}

static bool __attribute__((format(printf, 4, 5)))
write_node(const struct blkfront *front, xs_transaction_t transaction, const char *name, const char *format, ...)
{
	char path[PATH_SIZE], value[64];
	va_list args;

	va_start(args, format);
	vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	if (snprintf(path, sizeof(path), "%s/%s", front->options.xen_frontend, name) >= (int)sizeof(path))
		return false;
	return xs_write(front->xen->xs, transaction, path, value, (unsigned)strlen(value));
}

static bool remove_node(const struct blkfront *front, xs_transaction_t transaction, const char *name)
{
	char path[PATH_SIZE];

	if (snprintf(path, sizeof(path), "%s/%s", front->options.xen_frontend, name) >= (int)sizeof(path))
		return false;
	return xs_rm(front->xen->xs, transaction, path) || errno == ENOENT;
}

int blkfront_xenbus_open(struct blkfront *front, struct error_text *text)
{
	struct blkfront_xen *xen = front->xen;
	char path[PATH_SIZE];
	uint64_t domid = 0;

	xen->xs = xs_open(0);
	if (!xen->xs)
		return error_set(text, -errno, "cannot reach xenstored: %m");
	xen->backend = read_node(front, front->options.xen_frontend, "backend");
	if (!xen->backend)
		return error_set(text, -ENOENT, "%s/backend cannot be read", front->options.xen_frontend);
	read_number(front, front->options.xen_frontend, "backend-id", &domid);
	xen->backend_domid = (unsigned)domid;
	if (snprintf(path, sizeof(path), "%s/state", xen->backend) >= (int)sizeof(path))
		return error_set(text, -ENAMETOOLONG, "%s: too long", xen->backend);
	return xs_watch(xen->xs, path, "state") ? 0 : error_set(text, -errno, "cannot watch %s: %m", path);
}

void blkfront_xenbus_close(struct blkfront *front)
{
	if (front->xen->xs)
		xs_close(front->xen->xs);
	free(front->xen->backend);
}

/* ---- waiting for the backend ---- */

/* Consume the watch events so far; true if there were any. */
static bool take_events(struct blkfront *front)
{
	bool any = false;
	char **event;

	while ((event = xs_check_watch(front->xen->xs))) {
		free(event);
		any = true;
	}
	return any;
}

int blkfront_xen_wait_written(struct blkfront *front, int timeout_ms)
{
	struct pollfd fd = { .fd = xs_fileno(front->xen->xs), .events = POLLIN };
	int64_t deadline = clock_ms() + timeout_ms, left;
	int r;

	while (!take_events(front)) {
		left = deadline - clock_ms();
		r = poll(&fd, 1, left > 0 ? (int)left : 0);
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			return -ETIMEDOUT;
	}
	return 0;
}

static enum blkfront_state state_below(const struct blkfront *front, const char *directory)
{
	uint64_t state = BLKFRONT_GONE;

	read_number(front, directory, "state", &state);
	return state <= BLKFRONT_CLOSED ? state : BLKFRONT_GONE;
}

enum blkfront_state blkfront_xen_backend_state(struct blkfront *front)
{
	return state_below(front, front->xen->backend);
}

int blkfront_xen_wait_backend(struct blkfront *front, enum blkfront_state state, int timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms, left;
	int r;

	while (blkfront_xen_backend_state(front) != state) {
		left = deadline - clock_ms();
		r = blkfront_xen_wait_written(front, left > 0 ? (int)left : 0);
		if (r < 0)
			return r;
	}
	return 0;
}

int blkfront_xenbus_fd(struct blkfront *front)
{
	return xs_fileno(front->xen->xs);
}

bool blkfront_xenbus_is_alive(struct blkfront *front)
{
	enum blkfront_state state;

	take_events(front);
	state = blkfront_xen_backend_state(front);
	return state != BLKFRONT_GONE && state != BLKFRONT_CLOSED;
}

/* ---- the steps ---- */

int blkfront_xen_set_state(struct blkfront *front, enum blkfront_state state)
{
	return write_node(front, XBT_NULL, "state", "%d", state) ? 0 : -errno;
}

static bool is_ring_node(const char *name)
{
	static const char *const prefixes[] = {
		"ring-", "event-channel", "multi-queue-num-queues", "queue-", "protocol", "feature-persistent",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

/* Remove the nodes of an earlier frontend, perhaps with other rings. */
static bool remove_old(const struct blkfront *front, xs_transaction_t transaction)
{
	unsigned count;
	char **names = xs_directory(front->xen->xs, transaction, front->options.xen_frontend, &count);
	bool removed = names != NULL;

	for (unsigned i = 0; removed && i < count; i++)
		if (is_ring_node(names[i]))
			removed = remove_node(front, transaction, names[i]);
	free(names);
	return removed;
}

/* Write one queue's nodes: at the top level if it is the only queue. */
static bool write_queue(const struct blkfront *front, xs_transaction_t transaction, unsigned queue)
{
	char prefix[24] = "", name[48];
	bool written = true;
	unsigned i;

	if (front->options.queues > 1)
		snprintf(prefix, sizeof(prefix), "queue-%u/", queue);
	for (i = 0; i < front->ring_pages && written; i++) {
		if (front->ring_pages > 1)
			snprintf(name, sizeof(name), "%sring-ref%u", prefix, i);
		else
			snprintf(name, sizeof(name), "%sring-ref", prefix);
		written = write_node(front, transaction, name, "%u", blkfront_xen_ring_ref(front, queue, i));
	}
	snprintf(name, sizeof(name), "%sevent-channel", prefix);
	return written && write_node(front, transaction, name, "%u", front->queues[queue].port);
}

static bool write_all(const struct blkfront *front, xs_transaction_t transaction)
{
	const struct blkfront_options *options = &front->options;
	const char *protocol = blkfront_layouts[options->abi].protocol;
	bool written = remove_old(front, transaction);
	unsigned i;

	if (options->ring_page_order)
		written = written && write_node(front, transaction, "ring-page-order", "%u", options->ring_page_order);
	if (options->queues > 1)
		written = written && write_node(front, transaction, "multi-queue-num-queues", "%u", options->queues);
	if (protocol)
		written = written && write_node(front, transaction, "protocol", "%s", protocol);
	for (i = 0; i < options->queues; i++)
		written = written && write_queue(front, transaction, i);
	return written && write_node(front, transaction, "feature-persistent", "%d", options->persistent);
}

int blkfront_xen_write_nodes(struct blkfront *front)
{
	xs_transaction_t transaction;
	bool written;

	do {
		transaction = xs_transaction_start(front->xen->xs);
		if (transaction == XBT_NULL)
			return -errno;
		written = write_all(front, transaction);
		if (xs_transaction_end(front->xen->xs, transaction, !written) && written)
			return 0;
	} while (written && errno == EAGAIN);
	return -errno;
}

int blkfront_xen_publish(struct blkfront *front)
{
	int r = blkfront_xen_write_nodes(front);

	return r < 0 ? r : blkfront_xen_set_state(front, BLKFRONT_INITIALISED);
}

int blkfront_xen_learn_geometry(struct blkfront *front)
{
	struct blkfront_geometry *geometry = &front->geometry;
	const char *backend = front->xen->backend;
	uint64_t size = 0, physical = 0, info = 0, discard = 0, indirect = 0;

	if (!read_number(front, backend, "sectors", &geometry->sectors) ||
	    !read_number(front, backend, "sector-size", &size))
		return -ENOENT;
	read_number(front, backend, "physical-sector-size", &physical);
	read_number(front, backend, "info", &info);
	read_number(front, backend, "feature-discard", &discard);
	read_number(front, backend, "feature-max-indirect-segments", &indirect);
	geometry->sector_size = (unsigned)size;
	geometry->physical_sector_size = (unsigned)(physical ? physical : size);
	geometry->read_only = info & VDISK_READONLY;
	geometry->discard = discard;
	geometry->max_indirect_segments = (unsigned)indirect;
	return 0;
}

int blkfront_xen_finish(struct blkfront *front)
{
	int r = blkfront_xen_wait_backend(front, BLKFRONT_CONNECTED, TIMEOUT_MS);

	if (r == 0)
		r = blkfront_xen_learn_geometry(front);
	return r < 0 ? r : blkfront_xen_set_state(front, BLKFRONT_CONNECTED);
}

int blkfront_xenbus_connect(struct blkfront *front, struct error_text *text)
{
	int r = blkfront_xen_wait_backend(front, BLKFRONT_INIT_WAIT, TIMEOUT_MS);

	if (r == 0)
		r = blkfront_xen_publish(front);
	if (r == 0)
		r = blkfront_xen_finish(front);
	return r < 0 ? error_set(text, r, "backend %s (state %d) does not connect: %s", front->xen->backend,
				 blkfront_xen_backend_state(front), strerror(-r)) : 0;
}

/* Stop at the first step that the backend does not answer: it would not answer the next one either. */
void blkfront_xenbus_disconnect(struct blkfront *front)
{
	enum blkfront_state state;

	blkfront_xen_set_state(front, BLKFRONT_CLOSING);
	do
		state = blkfront_xen_backend_state(front);
	while (state != BLKFRONT_CLOSING && state != BLKFRONT_CLOSED && state != BLKFRONT_GONE &&
	       !blkfront_xen_wait_written(front, TIMEOUT_MS));
	blkfront_xen_set_state(front, BLKFRONT_CLOSED);
	if (state != BLKFRONT_GONE)
		blkfront_xen_wait_backend(front, BLKFRONT_CLOSED, TIMEOUT_MS);
}
