/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-domain.c - lists the disks of a domain; fails unless tapdisks serve all of them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"
#include "tap-ctl-xenstore.h"
#include "xen_disks.h"

struct search {
	struct tapctl_disk *disks;
	unsigned count;
};

/* Is it listed already? The hotplug script shares one minor between disks with the same image. */
static bool is_known(const struct search *search, int pid, int minor)
{
	for (unsigned i = 0; i < search->count; i++) {
		if (search->disks[i].pid == pid && search->disks[i].minor == minor)
			return true;
	}
	return false;
}

static int add_disk(void *arg, const struct xen_disk *disk, struct error_text *text)
{
	struct search *search = arg;
	struct tapctl_disk *grown;

	if (!disk->ours)
		return error_set(text, -EOPNOTSUPP, "%s: no tapdisk serves this disk; to leave it out, name the others with -p and -m",
				 disk->backend);
	if (disk->pid <= 0 || disk->minor < 0)
		return error_set(text, -ENODEV, "%s: no tapdisk serves this disk yet", disk->backend);
	if (is_known(search, disk->pid, disk->minor))
		return 0;
	grown = reallocarray(search->disks, search->count + 1, sizeof(*grown));
	if (!grown)
		return error_set(text, -ENOMEM, "out of memory");
	search->disks = grown;
	search->disks[search->count++] = (struct tapctl_disk){ disk->pid, disk->minor };
	return 0;
}

int domain_disks(const char *domain, struct tapctl_disk **disks, unsigned *count, struct error_text *text)
{
	struct xs_handle *xs = xs_open(0);
	struct search search = { NULL, 0 };
	unsigned domid;
	int error;

	*disks = NULL;
	*count = 0;
	if (!xs)
		return error_set(text, -errno, "cannot reach xenstored: %s; is this a Xen host?", strerror(errno));
	error = xen_find_domain(xs, domain, &domid, text);
	if (!error)
		error = xen_disks_each(xs, domid, add_disk, &search, text);
	xs_close(xs);
	if (!error && !search.count)
		error = error_set(text, -ENOENT, "domain %s has no writable disk that a tapdisk serves", domain);
	if (error) {
		free(search.disks);
		return error;
	}
	*disks = search.disks;
	*count = search.count;
	return 0;
}
