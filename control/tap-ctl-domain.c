/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-domain.c - the disks of a domain, out of the backends' folders in
 * xenstore, which the domain cannot write.
 *
 * A snapshot of "all disks" that leaves one out is none: a disk that
 * somebody else serves, and that the domain may write, is an error.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"
#include "tap-ctl-xenstore.h"

struct search {
	struct xs_handle *xs;
	unsigned own, domid;
	struct tapctl_disk *disks;
	unsigned count;
};

static char *read_value(struct xs_handle *xs, const char *folder, const char *name)
{
	char *path, *value;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		return NULL;
	value = xs_read(xs, XBT_NULL, path, NULL);
	free(path);
	return value;
}

/* -1 when it is no such number. */
static int read_number(struct xs_handle *xs, const char *folder, const char *name, int max)
{
	char *value = read_value(xs, folder, name), *end = value;
	long number = -1;

	errno = 0;
	if (value && *value)
		number = strtol(value, &end, 10);
	if (!value || errno || *end || number > max || number < 0)
		number = -1;
	free(value);
	return (int)number;
}

static bool is_writable(struct xs_handle *xs, const char *backend)
{
	char *mode = read_value(xs, backend, "mode");
	bool writable = mode && (*mode == 'w' || *mode == '!');

	free(mode);
	return writable;
}

/* The script shares one minor between disks with the same image. */
static bool is_known(const struct search *search, int pid, int minor)
{
	for (unsigned i = 0; i < search->count; i++) {
		if (search->disks[i].pid == pid && search->disks[i].minor == minor)
			return true;
	}
	return false;
}

static int add_disk(struct search *search, const char *backend, struct error_text *text)
{
	int pid = read_number(search->xs, backend, "pid", INT_MAX);
	int minor = read_number(search->xs, backend, "minor", MINOR_MAX);
	struct tapctl_disk *grown;

	if (pid <= 0 || minor < 0)
		return error_set(text, -ENODEV, "%s: no tapdisk serves this disk yet", backend);
	if (is_known(search, pid, minor))
		return 0;
	grown = reallocarray(search->disks, search->count + 1, sizeof(*grown));
	if (!grown)
		return error_set(text, -ENOMEM, "out of memory");
	search->disks = grown;
	search->disks[search->count++] = (struct tapctl_disk){ pid, minor };
	return 0;
}

static int add_device(struct search *search, const char *backend, bool ours, struct error_text *text)
{
	if (!is_writable(search->xs, backend))
		return 0;
	if (ours)
		return add_disk(search, backend, text);
	return error_set(text, -EOPNOTSUPP, "%s: no tapdisk serves this disk; to leave it out, name the others with -p and -m",
			 backend);
}

/* All devices of a kind of backend. */
static int add_kind(struct search *search, const char *kind, bool ours, struct error_text *text)
{
	char folder[128], backend[160], **names;
	unsigned count = 0, i;
	int error = 0;

	snprintf(folder, sizeof(folder), "/local/domain/%u/backend/%s/%u", search->own, kind, search->domid);
	names = xs_directory(search->xs, XBT_NULL, folder, &count);
	for (i = 0; names && !error && i < count; i++) {
		if (snprintf(backend, sizeof(backend), "%s/%s", folder, names[i]) < (int)sizeof(backend))
			error = add_device(search, backend, ours, text);
	}
	free(names);
	return error;
}

static int search_domain(struct search *search, const char *domain, struct error_text *text)
{
	static const char *const others[] = { "vbd", "qdisk", "virtio_disk" };
	char *own;
	size_t i;
	int error;

	error = xen_find_domain(search->xs, domain, &search->domid, text);
	own = xs_read(search->xs, XBT_NULL, "domid", NULL);	/* absent in a dom0 that never wrote it */
	search->own = own ? (unsigned)atoi(own) : 0;
	free(own);
	if (!error)
		error = add_kind(search, "vbd3", true, text);
	for (i = 0; !error && i < sizeof(others) / sizeof(others[0]); i++)
		error = add_kind(search, others[i], false, text);
	if (!error && !search->count)
		error = error_set(text, -ENOENT, "domain %s has no disk that it may write and that a tapdisk serves", domain);
	return error;
}

int domain_disks(const char *domain, struct tapctl_disk **disks, unsigned *count, struct error_text *text)
{
	struct search search = { .xs = xs_open(0) };
	int error;

	*disks = NULL;
	*count = 0;
	if (!search.xs)
		return error_set(text, -errno, "cannot reach xenstored: %s; is this a Xen host?", strerror(errno));
	error = search_domain(&search, domain, text);
	xs_close(search.xs);
	if (error) {
		free(search.disks);
		return error;
	}
	*disks = search.disks;
	*count = search.count;
	return 0;
}
