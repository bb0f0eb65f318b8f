/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_base.h - what a store stands on, and the work between the two: a base
 * is a raw image or another store's snapshot, read through the page cache,
 * for the tools.
 */
#ifndef TAPSNAP_COW_BASE_H
#define TAPSNAP_COW_BASE_H

#include "cow.h"

/* Longer chains of bases are refused, and so are those that run in a circle. */
#define COW_BASE_DEPTH 64

/* Describing fills in @fields for cow_create() and cow_rebase_end(). */
int cow_base_describe(struct cow_base_fields *fields, const char *path, struct error_text *error);
/* While it is being written, as a disk of @sectors: what is known only at its end cow_base_settle() fills in. */
int cow_base_describe_running(struct cow_base_fields *fields, const char *path, uint64_t sectors, struct error_text *error);
/* @target: "PATH@NAME", with "cow:" before it or without. */
int cow_base_describe_snapshot(struct cow_base_fields *fields, const char *target, struct error_text *error);
/* The same while another process has the store @path open, and says what it knows of the snapshot. */
int cow_base_describe_peek(struct cow_base_fields *fields, const char *path, const struct snapshot_info *snapshot,
			   struct error_text *error);
/* What the guest sees of the disk in the store @path, which another process may have open: 512 or 4096 bytes. */
int cow_sector_size_peek(const char *path, unsigned *sector_size, struct error_text *error);
/*
 * What the store at @path, which another process may have open, says that it stands on, and that was committed, too. While it
 * is open it stays on that. @uuid: 16 bytes, the store's own; NULL: not wanted.
 */
int cow_base_probe_peek(const char *path, uint8_t *uuid, enum cow_base_kind *kind, struct cow_base_fields *fields,
			struct error_text *error);
/* The store that the one at @path stands on, or NULL; the caller frees. It may change at any time: for looking only. */
char *cow_base_peek(const char *path);

/* The uuid of the store that an open disk, or snapshot, is in. False: it is in none. */
bool cow_backend_uuid(const struct backend *backend, uint8_t uuid[16]);
/* Also of that store: what is still to be given back. */
struct cow_leftover {
	unsigned deletions;		/* deleted snapshots whose blocks are not all free yet */
	uint64_t unpunched;		/* bytes that are free and still take space on the host */
};
bool cow_backend_leftover(const struct backend *backend, struct cow_leftover *leftover);

/*
 * Locked against writers. Fails when it is not what was described any more.
 * A base of kind COW opens the store it is in, and that one's base.
 */
int cow_base_open(struct cow_base *base, enum cow_base_kind kind, const struct cow_base_fields *fields,
		  struct error_text *error);
/* A raw base, to commit to: locked against everybody. */
int cow_base_open_writable(struct cow_base *base, const struct cow_base_fields *fields, struct error_text *error);
struct cow_device *cow_base_device(const struct cow_base *base);
void cow_base_close(struct cow_base *base);
/* True when @path is the base, or one beneath it. */
bool cow_base_stands_on(const struct cow_base *base, const char *path);
/* What was written to the base is durable, and @fields describe it as it is now. */
int cow_base_settle(const struct cow_base *base, struct cow_base_fields *fields, struct error_text *error);

/* -EPERM: what a store says it stands on, "TYPE:PATH", is where no image may be (image_directories.h). */
int cow_target_check(const char *target, struct error_text *error);
/* "PATH@NAME": a copy of PATH, which the caller frees, and the name in @target. NULL: there is no name in it. */
char *cow_target_split(const char *target, const char **name);

/*
 * Commit: the disk is written to its raw base, and the store is empty then.
 * The store may hold nothing but the disk. From the beginning on the base
 * differs from what the store had recorded, which is durable before the first
 * write to it; until the end each block written there is also still the
 * store's. So the disk reads the same at each moment, and a commit that a crash
 * cut off is begun again.
 */
int cow_commit_begin(struct cow_store *store, struct cow_device *base, struct error_text *error);
/* Some of it, from @sector on; *@nr_sectors: how many are done. */
int cow_commit_step(struct cow_store *store, struct cow_device *base, uint64_t sector, uint64_t *nr_sectors);
/* The base is durable, and @fields are what it is like now. */
int cow_commit_end(struct cow_store *store, const struct cow_base_fields *fields, struct error_text *error);

/*
 * Rebase: the store is put on another base, @next, or on none. Where that
 * shows something else than the base of now, the disk gets what it shows now.
 * -EBUSY when there are snapshots: they would change.
 */
int cow_rebase_begin(struct cow_store *store, struct error_text *error);
int cow_rebase_step(struct cow_store *store, const struct cow_base *next, uint64_t sector, uint64_t *nr_sectors);
/* From here on it is the other one; all that is left to do with the store is to close it. */
int cow_rebase_end(struct cow_store *store, enum cow_base_kind kind, const struct cow_base_fields *fields,
		   struct error_text *error);

/* Bytes of @device read as zeros afterwards. */
int cow_device_zero(struct cow_device *device, uint64_t offset, uint64_t length);
bool cow_all_zero(const void *data, size_t length);

/*
 * How large a store has to be for a disk of @sectors of which @blocks blocks
 * of 4096 bytes in @leaves ranges of 2 MiB hold data, in bytes. 0: no store holds so large a disk.
 */
uint64_t cow_measure(uint64_t sectors, uint64_t blocks, uint64_t leaves);

#endif
