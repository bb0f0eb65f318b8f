/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-xenwait.c - waits for a backend's state, by a watch.
 *
 * A signal ends the wait, not the program, because the caller has to undo its
 * work.
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "tap-ctl.h"
#include "tap-ctl-xenstore.h"

/* Wait for a watch event; may return early. 0, -ETIMEDOUT, -EINTR, -EIO. */
static int wait_for_watch(struct xs_handle *xs, int64_t deadline)
{
	struct pollfd poll_fds[] = { { xs_fileno(xs), POLLIN, 0 }, { tapctl_interrupt(), POLLIN, 0 } };
	int64_t left = deadline - clock_ms();
	char **watch;
	int ready;

	ready = poll(poll_fds, 2, left > 0 ? (int)left : 0);
	if (ready < 0)
		return errno == EINTR ? 0 : -errno;
	if (!ready)
		return -ETIMEDOUT;
	if (poll_fds[1].revents)
		return -EINTR;
	if (poll_fds[0].revents & (POLLERR | POLLHUP | POLLNVAL))
		return -EIO;
	while ((watch = xs_check_watch(xs)))
		free(watch);
	return 0;
}

/* The error that the backend reports in its nodes. */
static char *backend_complaint(const struct xen_device *device)
{
	static const char *const names[] = { "hotplug-error", "error" };
	char *path, *value = NULL;
	unsigned i;

	for (i = 0; i < 2 && !value; i++) {
		if (asprintf(&path, "%s/%s", device->backend, names[i]) < 0)
			break;
		value = xs_read(device->xs, XBT_NULL, path, NULL);
		free(path);
	}
	return value;
}

static int explain_wait(const struct xen_device *device, int error, enum xenbus_state state, struct error_text *text)
{
	char *complaint = backend_complaint(device);
	enum xenbus_state backend = xen_device_state(device, device->backend), frontend = xen_device_state(device, device->frontend);

	if (complaint)
		error_set(text, error, "the backend says: %s", complaint);
	else if (error == -EINTR)
		error_set(text, error, "interrupted");
	else if (error == -ENOENT)
		error_set(text, error, "domain %u ended in the meantime, or the device was removed", device->domid);
	else if (backend == XenbusStateInitialising || (state == XenbusStateClosed && frontend == XenbusStateClosed))
		error_set(text, error, "the backend does not react (state %d); is tapback running?", backend);
	else if (state == XenbusStateClosed)
		error_set(text, error, "the guest does not release %s (frontend in state %d)", device->vdev, frontend);
	else
		error_set(text, error, "the guest does not connect to %s (frontend in state %d, backend in state %d)",
			  device->vdev, frontend, backend);
	free(complaint);
	return error;
}

int xen_device_wait_state(struct xen_device *device, enum xenbus_state state, int timeout_ms, struct error_text *text)
{
	int64_t deadline = clock_ms() + timeout_ms;
	enum xenbus_state now;
	int error = 0;
	char *path;

	interrupts_catch();
	if (asprintf(&path, "%s/state", device->backend) < 0)
		return error_set(text, -ENOMEM, "out of memory");
	if (!xs_watch(device->xs, path, "state")) {
		error = error_set(text, -errno, "xenstore: %s", strerror(errno));
		goto out;
	}
	while (!error) {
		now = xen_device_state(device, device->backend);
		if (now == state)
			break;
		error = now == XenbusStateUnknown ? -ENOENT : wait_for_watch(device->xs, deadline);
	}
	xs_unwatch(device->xs, path, "state");
	if (error)
		explain_wait(device, error, state, text);
out:
	free(path);
	return error;
}
