/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-xen.c - xen-attach and xen-detach, for toolstacks without that: they
 * do the work of `xl block-attach` with backendtype=tap and its hotplug script,
 * on any Xen.
 *
 * attach:  tapdisk -> nodes -> backend InitWait -> pid and minor -> backend Connected
 * detach:  backend Closing -> backend Closed -> tapdisk -> nodes
 *
 * If a step fails, attach undoes all; detach stops there, and can be called
 * again.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tap-ctl.h"
#include "tap-ctl-xenstore.h"

#define INIT_WAIT_TIMEOUT_MS 10000	/* libxl's */
#define ATTACH_TIMEOUT_MS 30000
#define DETACH_TIMEOUT_MS 10000		/* libxl's */
#define UNDO_TIMEOUT_MS 5000

/* Write the nodes and wait until the frontend is connected. */
static int connect_frontend(struct xen_device *device, int pid, int minor, const struct arguments *args,
			    struct error_text *text)
{
	int error;

	error = xen_device_wait_state(device, XenbusStateInitWait, INIT_WAIT_TIMEOUT_MS, text);
	if (!error)
		error = xen_device_publish(device, pid, minor, text);
	if (!error)
		error = xen_device_wait_state(device, XenbusStateConnected,
					      args->timeout_ms < 0 ? ATTACH_TIMEOUT_MS : args->timeout_ms, text);
	return error;
}

static void undo_nodes(struct xen_device *device)
{
	/* let the backend unmap the guest's pages; if it does not, the frontend is removed by force below */
	if (!xen_device_close_backend(device, NULL))
		xen_device_wait_state(device, XenbusStateClosed, UNDO_TIMEOUT_MS, NULL);
	xen_device_remove(device, NULL);
}

static int attach_device(struct xen_device *device, const struct arguments *args, int *pid, int *minor,
			 struct error_text *text)
{
	const struct disk_options options = call_disk_options(args);
	bool added;
	json_t *disk;
	int error;

	interrupts_catch();
	error = disk_create(&options, pid, minor, &disk, text);
	if (error)
		return error;
	json_decref(disk);
	error = xen_device_add(device, args->target, args->read_only, text);
	added = !error;
	if (!error)
		error = connect_frontend(device, *pid, *minor, args, text);
	if (!error)
		return 0;
	interrupts_stop();
	if (added)
		undo_nodes(device);
	disk_destroy(*pid, *minor, true, UNDO_TIMEOUT_MS, NULL);
	return error;
}

static int run_xen_attach(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct xen_device device;
	int pid, minor;
	int error = xen_device_open(&device, args->words[0], args->words[1], text);

	if (!error)
		error = attach_device(&device, args, &pid, &minor, text);
	if (!error && (json_object_set_new(result, "pid", json_integer(pid)) ||
		       json_object_set_new(result, "minor", json_integer(minor)) ||
		       json_object_set_new(result, "domid", json_integer(device.domid)) ||
		       json_object_set_new(result, "devid", json_integer(device.devid))))
		error = error_set(text, -ENOMEM, "the disk was attached, but there is no memory to report it");
	xen_device_close(&device);
	return error;
}

static void print_xen_attach(const json_t *result, bool terminal)
{
	printf("pid=%lld minor=%lld domid=%lld devid=%lld\n",
	       (long long)json_integer_value(json_object_get(result, "pid")),
	       (long long)json_integer_value(json_object_get(result, "minor")),
	       (long long)json_integer_value(json_object_get(result, "domid")),
	       (long long)json_integer_value(json_object_get(result, "devid")));
}

const struct command command_xen_attach = {
	.name = "xen-attach", .options = "RDbMPt", .required = "", .words = "DOMAIN VDEV TYPE:PATH", .nr_words = 3,
	.summary = "attach a disk to a running domain",
	.run = run_xen_attach, .print = print_xen_attach,
};

/* With force the guest gets little time: then its frontend is removed, as when a domain is destroyed. */
static int close_frontend(struct xen_device *device, const struct arguments *args, struct error_text *text)
{
	struct error_text reason = { "" };
	int error;

	error = xen_device_close_backend(device, text);
	if (error)
		return error;
	error = xen_device_wait_state(device, XenbusStateClosed, args->timeout_ms < 0 ? DETACH_TIMEOUT_MS : args->timeout_ms,
				      &reason);
	if (!error || error == -ENOENT)
		return 0;
	if (!args->force)
		return error_set(text, error, "%s; --force detaches the disk anyway", reason.text);
	xen_device_remove_frontend(device);
	error = xen_device_wait_state(device, XenbusStateClosed, UNDO_TIMEOUT_MS, NULL);
	return error == -EINTR ? error_set(text, error, "interrupted") : 0;
}

static int detach_device(struct xen_device *device, const struct arguments *args, struct error_text *text)
{
	struct error_text reason = { "" };
	int pid, minor, error;
	bool has_tapdisk;

	if (xen_device_state(device, device->backend) == XenbusStateUnknown)
		return error_set(text, -ENOENT, "domain %u has no device %s with backend vbd3", device->domid, device->vdev);
	has_tapdisk = !xen_device_tapdisk(device, &pid, &minor);
	if (xen_device_state(device, device->backend) != XenbusStateClosed) {
		error = close_frontend(device, args, text);
		if (error)
			return error;
	}
	if (has_tapdisk && !xen_device_is_shared(device, pid, minor)) {
		error = disk_destroy(pid, minor, args->force, args->timeout_ms, &reason);
		/* -ENOENT: everything is removed already */
		if (error && error != -ENOENT)
			return error_set(text, error, "%s", reason.text);
	}
	return xen_device_remove(device, text);
}

static int run_xen_detach(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct xen_device device;
	int error = xen_device_open(&device, args->words[0], args->words[1], text);

	if (!error)
		error = detach_device(&device, args, text);
	xen_device_close(&device);
	return error;
}

const struct command command_xen_detach = {
	.name = "xen-detach", .options = "tf", .required = "", .words = "DOMAIN VDEV", .nr_words = 2,
	.summary = "detach a disk from a domain, and end its tapdisk",
	.run = run_xen_detach,
};
