/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-xenstore.c - the nodes of a device with backendtype=tap: the same
 * names, values and permissions that libxl writes (libxl_disk.c,
 * libxl_device.c in Xen's tools/libs/light).
 *
 * Frontend and backend appear, and disappear, in one transaction: neither
 * side ever sees half a device.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"
#include "tap-ctl-xenstore.h"
#include "xen_disks.h"

#define BACKEND_KIND "vbd3"
#define SCRIPT "/etc/xen/scripts/block-tap"
#define MAX_DOMID 0x7ff0	/* DOMID_FIRST_RESERVED */
#define VALUE_MAX 4096		/* bytes in a node, XENSTORE_PAYLOAD_MAX */
#define TRANSACTION_TRIES 100	/* a guest that keeps writing causes conflicts, but must not block us for ever */

struct entry {
	const char *name, *value;
};

static char *join_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

static char *join_path(const char *format, ...)
{
	va_list args;
	char *path;

	va_start(args, format);
	if (vasprintf(&path, format, args) < 0)
		path = NULL;
	va_end(args);
	return path;
}

static bool write_node(struct xs_handle *xs, xs_transaction_t transaction, const char *directory, const char *name,
		       const char *value)
{
	char *path = join_path("%s/%s", directory, name);
	bool written = path && xs_write(xs, transaction, path, value, (unsigned)strlen(value));

	free(path);
	return written;
}

static bool node_exists(struct xs_handle *xs, xs_transaction_t transaction, const char *path)
{
	char *value = xs_read(xs, transaction, path, NULL);
	bool exists = value;

	free(value);
	return exists;
}

/* The number of the domain called @name, or -1. */
static int find_domain_name(struct xs_handle *xs, const char *name)
{
	unsigned count = 0, i;
	char **domains = xs_directory(xs, XBT_NULL, "/local/domain", &count);
	int domid = -1;

	for (i = 0; domains && i < count && domid < 0; i++) {
		char *path = join_path("/local/domain/%s", domains[i]);
		char *value = path ? xen_read_value(xs, path, "name") : NULL;

		if (value && !strcmp(value, name))
			domid = atoi(domains[i]);
		free(value);
		free(path);
	}
	free(domains);
	return domid;
}

int xen_find_domain(struct xs_handle *xs, const char *domain, unsigned *domid, struct error_text *text)
{
	char *end;
	unsigned long number;

	errno = 0;
	number = strtoul(domain, &end, 10);
	if (*domain >= '0' && *domain <= '9' && !errno && !*end) {
		if (number >= MAX_DOMID)
			return error_set(text, -EINVAL, "domain %s: a domain's number must be below %d", domain, MAX_DOMID);
		*domid = (unsigned)number;
		return 0;
	}
	number = (unsigned long)find_domain_name(xs, domain);
	if (number == (unsigned long)-1)
		return error_set(text, -ENOENT, "there is no domain '%s'; see 'xl list'", domain);
	*domid = (unsigned)number;
	return 0;
}

/* libxl fails to list devices if /libxl has nodes of a kind that it does not know. */
static bool libxl_knows_vbd3(void)
{
	static const char *const files[] = { "/sys/hypervisor/version/major", "/sys/hypervisor/version/minor" };
	int version[2] = { 0, 0 };
	unsigned i;

	for (i = 0; i < 2; i++) {
		FILE *file = fopen(files[i], "re");

		if (!file)
			return false;
		if (fscanf(file, "%d", &version[i]) != 1)
			version[i] = 0;
		fclose(file);
	}
	return version[0] > 4 || (version[0] == 4 && version[1] >= 19);
}

int xen_device_open(struct xen_device *device, const char *domain, const char *vdev, struct error_text *text)
{
	int error;

	*device = (struct xen_device){ .vdev = vdev };
	error = vdev_parse(vdev, &device->devid, text);
	if (error)
		return error;
	device->xs = xs_open(0);
	if (!device->xs)
		return error_set(text, -errno, "cannot reach xenstored: %s; is this a Xen host?", strerror(errno));
	error = xen_find_domain(device->xs, domain, &device->domid, text);
	if (error)
		return error;
	device->backend_domid = xen_own_domid(device->xs);
	device->libxl_knows = libxl_knows_vbd3();
	device->frontend = join_path("/local/domain/%u/device/vbd/%u", device->domid, device->devid);
	device->backend = join_path("/local/domain/%u/backend/" BACKEND_KIND "/%u/%u", device->backend_domid, device->domid,
				    device->devid);
	device->libxl = join_path("/libxl/%u/device/vbd/%u", device->domid, device->devid);
	if (!device->frontend || !device->backend || !device->libxl)
		return error_set(text, -ENOMEM, "out of memory");
	return 0;
}

void xen_device_close(struct xen_device *device)
{
	if (device->xs)
		xs_close(device->xs);
	free(device->frontend);
	free(device->backend);
	free(device->libxl);
}

/* Create @directory, owned by @owner, readable by @reader; nodes below inherit that. */
static bool make_directory(struct xs_handle *xs, xs_transaction_t transaction, const char *directory, unsigned owner,
			   unsigned reader)
{
	struct xs_permissions permissions[2] = {
		{ .id = owner, .perms = XS_PERM_NONE },
		{ .id = reader, .perms = XS_PERM_READ },
	};

	if (!xs_rm(xs, transaction, directory) && errno != ENOENT)
		return false;
	return xs_mkdir(xs, transaction, directory) && xs_set_permissions(xs, transaction, directory, permissions, 2);
}

static bool write_entries(struct xs_handle *xs, xs_transaction_t transaction, const char *directory,
			  const struct entry *entries)
{
	for (; entries->name; entries++) {
		if (!write_node(xs, transaction, directory, entries->name, entries->value))
			return false;
	}
	return true;
}

static bool write_frontend(struct xen_device *device, xs_transaction_t transaction)
{
	char devid[16], backend_domid[16];
	const struct entry entries[] = {
		{ "backend", device->backend },
		{ "backend-id", backend_domid },
		{ "state", "1" },
		{ "virtual-device", devid },
		{ "device-type", "disk" },
		{ "trusted", "1" },
		{ NULL, NULL },
	};

	snprintf(devid, sizeof(devid), "%u", device->devid);
	snprintf(backend_domid, sizeof(backend_domid), "%u", device->backend_domid);
	return make_directory(device->xs, transaction, device->frontend, device->domid, device->backend_domid) &&
	       write_entries(device->xs, transaction, device->frontend, entries);
}

static bool write_backend(struct xen_device *device, xs_transaction_t transaction, const char *target, bool read_only)
{
	char domid[16];
	const struct entry entries[] = {
		{ "frontend", device->frontend },
		{ "params", target },
		{ "script", SCRIPT },
		{ "frontend-id", domid },
		{ "online", "1" },
		{ "removable", "0" },
		{ "bootable", "1" },
		{ "state", "1" },
		{ "dev", device->vdev },
		{ "type", BACKEND_KIND },
		{ "mode", read_only ? "r" : "w" },
		{ "device-type", "disk" },
		{ "discard-enable", read_only ? "0" : "1" },
		{ "specification", "xen" },
		{ NULL, NULL },
	};

	snprintf(domid, sizeof(domid), "%u", device->domid);
	if (!make_directory(device->xs, transaction, device->backend, device->backend_domid, device->domid) ||
	    !write_entries(device->xs, transaction, device->backend, entries))
		return false;
	if (!device->libxl_knows)
		return true;
	return write_node(device->xs, transaction, device->libxl, "backend", device->backend) &&
	       write_entries(device->xs, transaction, device->libxl, entries);
}

/* Run @body in a transaction, and again after a conflict. */
static int transact(struct xen_device *device, int (*body)(struct xen_device *device, xs_transaction_t transaction,
							   const void *arg, struct error_text *text),
		    const void *arg, struct error_text *text)
{
	xs_transaction_t transaction;
	int error;

	for (int try = 0; try < TRANSACTION_TRIES; try++) {
		transaction = xs_transaction_start(device->xs);
		if (transaction == XBT_NULL)
			break;
		error = body(device, transaction, arg, text);
		if (xs_transaction_end(device->xs, transaction, error != 0) || error)
			return error;
		if (errno != EAGAIN)
			break;
	}
	return error_set(text, -errno, "cannot write to xenstore: %s", strerror(errno));
}

struct added {
	const char *target;
	bool read_only;
};

static int add_nodes(struct xen_device *device, xs_transaction_t transaction, const void *arg, struct error_text *text)
{
	const struct added *added = arg;
	char *home = join_path("/local/domain/%u", device->domid);
	bool exists = home && node_exists(device->xs, transaction, home);

	free(home);
	if (!exists)
		return error_set(text, -ENOENT, "there is no domain %u; see 'xl list'", device->domid);
	if (node_exists(device->xs, transaction, device->frontend) || node_exists(device->xs, transaction, device->libxl))
		return error_set(text, -EEXIST, "domain %u already has a device %s; choose another or detach it",
				 device->domid, device->vdev);
	/* a backend that an earlier device left behind may still have a tapdisk */
	if (node_exists(device->xs, transaction, device->backend))
		return error_set(text, -EEXIST, "%s is left from an earlier device; run 'tap-ctl xen-detach --force %u %s' "
				 "first", device->backend, device->domid, device->vdev);
	if (write_frontend(device, transaction) && write_backend(device, transaction, added->target, added->read_only))
		return 0;
	return error_set(text, -errno, "cannot write to xenstore: %s", strerror(errno));
}

int xen_device_add(struct xen_device *device, const char *target, bool read_only, struct error_text *text)
{
	if (strlen(target) >= VALUE_MAX)
		return error_set(text, -ENAMETOOLONG, "the image's name is too long for xenstore");
	return transact(device, add_nodes, &(struct added){ target, read_only }, text);
}

static int write_backend_nodes(struct xen_device *device, xs_transaction_t transaction, const void *entries,
			       struct error_text *text)
{
	/* the domain may have been destroyed: do not create half a device again */
	if (!node_exists(device->xs, transaction, device->backend))
		return error_set(text, -ENOENT, "%s is gone, the domain has ended", device->backend);
	if (write_entries(device->xs, transaction, device->backend, entries))
		return 0;
	return error_set(text, -errno, "cannot write to xenstore: %s", strerror(errno));
}

int xen_device_publish(struct xen_device *device, int pid, int minor, struct error_text *text)
{
	char pid_value[16], minor_value[16], path[PATH_MAX];
	const struct entry entries[] = {
		{ "pid", pid_value },
		{ "minor", minor_value },
		{ "physical-device-path", path },
		{ "hotplug-status", "connected" },
		{ NULL, NULL },
	};

	snprintf(pid_value, sizeof(pid_value), "%d", pid);
	snprintf(minor_value, sizeof(minor_value), "%d", minor);
	snprintf(path, sizeof(path), NBD_SOCKET_FORMAT, tapctl_run_dir(), pid, minor);
	return transact(device, write_backend_nodes, entries, text);
}

int xen_device_close_backend(struct xen_device *device, struct error_text *text)
{
	static const struct entry entries[] = { { "online", "0" }, { "state", "5" }, { NULL, NULL } };

	return transact(device, write_backend_nodes, entries, text);
}

void xen_device_remove_frontend(struct xen_device *device)
{
	xs_rm(device->xs, XBT_NULL, device->frontend);	/* may be gone with the domain */
}

/* Remove @path, and then each of the @levels directories above it that is left empty. */
static void remove_path(struct xs_handle *xs, xs_transaction_t transaction, const char *path, unsigned levels)
{
	char *directory = strdup(path), *slash, **names;
	unsigned count;

	if (directory)
		xs_rm(xs, transaction, directory);
	for (; directory && levels; levels--) {
		slash = strrchr(directory, '/');
		*slash = '\0';
		names = xs_directory(xs, transaction, directory, &count);
		free(names);
		if (!names || count)
			break;
		xs_rm(xs, transaction, directory);
	}
	free(directory);
}

static int remove_nodes(struct xen_device *device, xs_transaction_t transaction, const void *arg, struct error_text *text)
{
	remove_path(device->xs, transaction, device->frontend, 0);
	remove_path(device->xs, transaction, device->backend, 1);
	if (device->libxl_knows)
		remove_path(device->xs, transaction, device->libxl, 0);
	return 0;
}

int xen_device_remove(struct xen_device *device, struct error_text *text)
{
	return transact(device, remove_nodes, NULL, text);
}

enum xenbus_state xen_device_state(const struct xen_device *device, const char *directory)
{
	int state = xen_read_number(device->xs, directory, "state", XenbusStateReconfigured);

	return state < 0 ? XenbusStateUnknown : (enum xenbus_state)state;
}

int xen_device_tapdisk(const struct xen_device *device, int *pid, int *minor)
{
	*pid = xen_read_number(device->xs, device->backend, "pid", INT_MAX);
	*minor = xen_read_number(device->xs, device->backend, "minor", MINOR_MAX);
	return *pid > 0 && *minor >= 0 ? 0 : -ENOENT;
}

static bool uses_tapdisk(const struct xen_device *device, const char *backend, int pid, int minor)
{
	return strcmp(backend, device->backend) && xen_read_number(device->xs, backend, "pid", INT_MAX) == pid &&
	       xen_read_number(device->xs, backend, "minor", MINOR_MAX) == minor;
}

bool xen_device_is_shared(const struct xen_device *device, int pid, int minor)
{
	char *base = join_path("/local/domain/%u/backend/" BACKEND_KIND, device->backend_domid);
	unsigned domains = 0, devices, i, j;
	char **domain = base ? xs_directory(device->xs, XBT_NULL, base, &domains) : NULL;
	bool shared = false;

	for (i = 0; domain && i < domains; i++) {
		char *path = join_path("%s/%s", base, domain[i]);
		char **names = path ? xs_directory(device->xs, XBT_NULL, path, &devices) : NULL;

		for (j = 0; names && j < devices; j++) {
			char *backend = join_path("%s/%s", path, names[j]);

			shared |= backend && uses_tapdisk(device, backend, pid, minor);
			free(backend);
		}
		free(names);
		free(path);
	}
	free(domain);
	free(base);
	return shared;
}
