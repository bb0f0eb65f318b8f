/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_sharing.c - the rule of Xen's hotplug scripts (block-common.sh:
 * same_vm) for two domains on one disk, applied to connected rings. The
 * scripts check the toolstack's nodes; this check covers disks that were
 * attached in any way.
 *
 * Invariant: if a domain cannot be identified, the disk is not shared, except
 * with a domain whose nodes are gone, which we take for the old end of a
 * migration, as the scripts do.
 */
#include "tapback_sharing.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A domain's `vm` ("/vm/<uuid>"), or NULL. Some toolstacks add "-1" to it while migrating. */
static char *read_vm(struct xenstore *xenstore, uint64_t domid)
{
	char path[64], *vm, *suffix;

	snprintf(path, sizeof(path), "/local/domain/%llu", (unsigned long long)domid);
	if (xenstore_read(xenstore, path, "vm", &vm))
		return NULL;
	suffix = strrchr(vm, '-');
	if (suffix && !strcmp(suffix, "-1"))
		*suffix = '\0';
	return vm;
}

/* If @domid is a stub domain, the `vm` of its target domain, else NULL. */
static char *read_target_vm(struct xenstore *xenstore, uint64_t domid)
{
	char path[64];
	uint64_t target;

	snprintf(path, sizeof(path), "/local/domain/%llu", (unsigned long long)domid);
	return xenstore_read_number(xenstore, path, "target", UINT32_MAX, &target) ? NULL : read_vm(xenstore, target);
}

static bool same(const char *a, const char *b)
{
	return a && b && !strcmp(a, b);
}

static bool same_vm(struct xenstore *xenstore, uint32_t domid, uint32_t other)
{
	char *vm = read_vm(xenstore, domid), *target_vm = read_target_vm(xenstore, domid);
	char *other_vm = read_vm(xenstore, other), *other_target_vm = read_target_vm(xenstore, other);
	bool result = !other_vm || same(vm, other_vm) || same(target_vm, other_vm) || same(vm, other_target_vm) ||
		      same(target_vm, other_target_vm);

	free(vm);
	free(target_vm);
	free(other_vm);
	free(other_target_vm);
	return result;
}

static bool other_writes(struct xenstore *xenstore, uint32_t domid, uint32_t devid)
{
	char path[64], *mode;
	bool writes;

	snprintf(path, sizeof(path), BACKEND_ROOT "/%u/%u", domid, devid);
	if (xenstore_read(xenstore, path, "mode", &mode))
		return true;
	writes = strchr(mode, 'w');
	free(mode);
	return writes;
}

int sharing_check(struct xenstore *xenstore, uint32_t domid, const struct device_nodes *nodes,
		  uint32_t other_domid, uint32_t other_devid, struct error_text *text)
{
	if (nodes->shared || other_domid == domid || same_vm(xenstore, domid, other_domid))
		return 0;
	if (nodes->read_only && !other_writes(xenstore, other_domid, other_devid))
		return 0;
	return error_set(text, -EBUSY,
			 "domain %u already has this disk; only mode 'w!' lets two domains share it", other_domid);
}
