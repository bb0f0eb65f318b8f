/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* client_many.c - one command to many disks at the same time (client_many.h). */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "client_internal.h"
#include "client_many.h"
#include "clock.h"

static void cut_off(struct many_disk *disk)
{
	tapctl_close(disk->ctl);
	disk->ctl = NULL;
	disk->pending = false;
}

static int check_disks(const struct tapctl_disk *disks, unsigned count, struct error_text *text)
{
	unsigned i, j;

	if (!count)
		return error_set(text, -EINVAL, "no disk given");
	for (i = 0; i < count; i++) {
		for (j = 0; j < i; j++) {
			if (disks[i].pid == disks[j].pid && disks[i].minor == disks[j].minor)
				return error_set(text, -EINVAL, "minor %d of tapdisk %d is given twice", disks[i].minor,
						 disks[i].pid);
		}
	}
	return 0;
}

int many_open(struct many *many, const struct tapctl_disk *disks, unsigned count, struct error_text *text)
{
	int error = check_disks(disks, count, text);
	unsigned i;

	*many = (struct many){ 0 };
	if (error)
		return error;
	many->disks = calloc(count, sizeof(*many->disks));
	if (!many->disks)
		return error_set(text, -ENOMEM, "out of memory");
	many->count = count;
	for (i = 0; i < count; i++) {
		many->disks[i].disk = disks[i];
		error = tapctl_connect(&many->disks[i].ctl, disks[i].pid, text);
		if (!error)
			error = tapctl_set_nonblocking(many->disks[i].ctl);
		if (error)
			return error_set(text, error, "tapdisk %d: %s", disks[i].pid, strerror(-error));
	}
	return 0;
}

void many_reconnect(struct many *many)
{
	unsigned i;

	for (i = 0; i < many->count; i++) {
		struct many_disk *disk = &many->disks[i];

		if (!disk->ctl && tapctl_connect(&disk->ctl, disk->disk.pid, NULL))
			disk->ctl = NULL;
		if (disk->ctl && tapctl_set_nonblocking(disk->ctl))
			cut_off(disk);
	}
}

void many_close(struct many *many)
{
	unsigned i;

	for (i = 0; i < many->count; i++) {
		cut_off(&many->disks[i]);
		json_decref(many->disks[i].reply);
		free(many->disks[i].store);
	}
	free(many->disks);
	*many = (struct many){ 0 };
}

/* Cut off a disk whose connection failed with @error (-errno). */
static void disk_failed(struct many_disk *disk, int error)
{
	disk->error = error;
	if (error == -EPIPE)
		error_set(&disk->text, error, "it ended in the middle of the command; see the system log");
	else if (error == -ETIMEDOUT)
		error_set(&disk->text, error, "no answer in time");
	else
		error_set(&disk->text, error, "%s", strerror(-error));
	cut_off(disk);
}

static void disk_reset(struct many_disk *disk)
{
	json_decref(disk->reply);
	disk->reply = NULL;
	disk->error = 0;
	disk->text.text[0] = '\0';
	disk->skip = false;
}

static void disk_send(struct many_disk *disk, json_t *request)
{
	int error;

	if (!disk->ctl)
		disk->error = error_set(&disk->text, -ENOTCONN, "the connection was lost earlier");
	else if (!request)
		disk->error = error_set(&disk->text, -ENOMEM, "out of memory");
	if (disk->error) {
		json_decref(request);
		return;
	}
	disk->pending = true;
	error = tapctl_send(disk->ctl, request);
	if (error)
		disk_failed(disk, error);
}

static void disk_receive(struct many_disk *disk)
{
	json_t *message;
	int error = tapctl_flush(disk->ctl);

	/* a tapdisk that closed the connection may have sent the reason first */
	if (!error || error == -EPIPE)
		error = tapctl_receive(disk->ctl, &message);
	if (error == -EAGAIN)
		return;
	if (error) {
		disk_failed(disk, error);
		return;
	}
	disk->pending = false;
	disk->error = tapctl_reply_error(message, &disk->text);
	if (disk->error)
		json_decref(message);
	else
		disk->reply = message;
}

/* Wait for the first event on any connection. 0, -ETIMEDOUT or another error of poll(). */
static int wait_pending(struct many *many, struct pollfd *poll_fds, int64_t deadline)
{
	int64_t left = deadline < 0 ? -1 : deadline - clock_ms();
	unsigned i;
	int ready;

	for (i = 0; i < many->count; i++) {
		const struct many_disk *disk = &many->disks[i];

		poll_fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		if (!disk->pending)
			continue;
		poll_fds[i].fd = tapctl_fd(disk->ctl);
		if (tapctl_wants_write(disk->ctl))
			poll_fds[i].events |= POLLOUT;
	}
	if (deadline >= 0 && left < 0)
		left = 0;
	ready = poll(poll_fds, many->count, left > INT_MAX ? INT_MAX : (int)left);
	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	for (i = 0; i < many->count; i++) {
		if (many->disks[i].pending && poll_fds[i].revents)
			disk_receive(&many->disks[i]);
	}
	return ready ? 0 : -ETIMEDOUT;
}

static bool any_pending(const struct many *many)
{
	for (unsigned i = 0; i < many->count; i++) {
		if (many->disks[i].pending)
			return true;
	}
	return false;
}

static const struct many_disk *first_failure(const struct many *many)
{
	for (unsigned i = 0; i < many->count; i++) {
		if (many->disks[i].error)
			return &many->disks[i];
	}
	return NULL;
}

static void fail_pending(struct many *many, int error)
{
	for (unsigned i = 0; i < many->count; i++) {
		if (many->disks[i].pending)
			disk_failed(&many->disks[i], error);
	}
}

int many_call(struct many *many, json_t *(*request)(struct many_disk *disk, void *arg), void *arg, bool stop,
	      int timeout_ms, struct error_text *text)
{
	int64_t deadline = timeout_ms < 0 ? -1 : clock_ms() + timeout_ms;
	const struct many_disk *failed = NULL;
	struct pollfd *poll_fds = calloc(many->count, sizeof(*poll_fds));
	unsigned i;
	int error = 0;

	if (!poll_fds)
		return error_set(text, -ENOMEM, "out of memory");
	for (i = 0; i < many->count; i++) {
		json_t *message;

		disk_reset(&many->disks[i]);
		message = request(&many->disks[i], arg);
		if (!many->disks[i].skip)
			disk_send(&many->disks[i], message);
	}
	if (many->sent && !first_failure(many)) {
		sched_yield();		/* the tapdisks first, where they wait for this processor */
		many->sent(many->sent_arg);
	}
	while (!error && any_pending(many) && !(stop && (failed = first_failure(many))))
		error = wait_pending(many, poll_fds, deadline);
	free(poll_fds);
	/* report the failure that ended the wait, not those of the disks that were cut off because of it */
	if (!failed && error)
		fail_pending(many, error);
	if (!failed)
		failed = first_failure(many);
	if (!failed)
		return 0;
	error = error_set(text, failed->error, "minor %d of tapdisk %d: %s", failed->disk.minor, failed->disk.pid,
			  failed->text.text);
	fail_pending(many, -ECANCELED);
	return error;
}
