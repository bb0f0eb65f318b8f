/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_base.h - bases of stores, and commit and rebase: a base is a raw image
 * or another store's snapshot, read through the page cache, for the tools.
 */
#ifndef TAPSNAP_COW_BASE_H
#define TAPSNAP_COW_BASE_H

#include "cow.h"

/* Longer chains of bases are refused, and so are loops. */
#define COW_BASE_DEPTH 64

/* The describe functions fill in @fields for cow_create() and cow_rebase_end(). */
int cow_base_describe(struct cow_base_fields *fields, const char *path, struct error_text *error);
/* For an image that is being written, as a disk of @sectors: cow_base_settle() fills in what is known only at the end. */
int cow_base_describe_running(struct cow_base_fields *fields, const char *path, uint64_t sectors, struct error_text *error);
/* @target: "PATH@NAME", with "cow:" before it or without. */
int cow_base_describe_snapshot(struct cow_base_fields *fields, const char *target, struct error_text *error);
/* The same while another process has the store @path open; @snapshot is what that process says about the snapshot. */
int cow_base_describe_peek(struct cow_base_fields *fields, const char *path, const struct snapshot_info *snapshot,
			   struct error_text *error);
/* The guest's sector size of the store @path, which another process may have open: 512 or 4096 bytes. */
int cow_sector_size_peek(const char *path, unsigned *sector_size, struct error_text *error);
/*
 * The base of the store at @path, also if it was committed. Another process may have the store open; the base does not
 * change while it does. @uuid: 16 bytes, the store's own; NULL: not wanted.
 */
int cow_base_probe_peek(const char *path, uint8_t *uuid, enum cow_base_kind *kind, struct cow_base_fields *fields,
			struct error_text *error);
/* The store under the store at @path, or NULL; the caller frees it. It may change at any time: use it for display only. */
char *cow_base_peek(const char *path);

/* The uuid of the store that holds an open disk or snapshot. False: not in a store. */
bool cow_backend_uuid(const struct backend *backend, uint8_t uuid[16]);
/* Space of that store that is still to be freed. */
struct cow_leftover {
	unsigned deletions;		/* deleted snapshots whose blocks are not all free yet */
	uint64_t unpunched;		/* free bytes that still take space on the host */
};
bool cow_backend_leftover(const struct backend *backend, struct cow_leftover *leftover);

/*
 * Open a base, locked against writers. Fails when it no longer matches its description.
 * A base of kind COW opens its store, and that store's base.
 * @store: the store that names it; NULL: our user does. On the word of a store alone no block device is opened (-EPERM).
 */
int cow_base_open(struct cow_base *base, enum cow_base_kind kind, const struct cow_base_fields *fields,
		  struct cow_device *store, struct error_text *error);
/* Open a raw base to commit to: locked against all other users. */
int cow_base_open_writable(struct cow_base *base, const struct cow_base_fields *fields, struct cow_device *store,
			   struct error_text *error);
struct cow_device *cow_base_device(const struct cow_base *base);
void cow_base_close(struct cow_base *base);
/* True when @path is the base, or below it. */
bool cow_base_includes(const struct cow_base *base, const char *path);
/* Make writes to the base durable, and describe its present state in @fields. */
int cow_base_settle(const struct cow_base *base, struct cow_base_fields *fields, struct error_text *error);

/* Block devices as bases (cow_base_device.c). May @device be the base of the store at @store that has this uuid? */
bool cow_base_device_allowed(const char *store, const uint8_t uuid[16], dev_t device);
/* -EPERM with a text: @fd is open on a block device that may not be the base of @store; @path is for the message. */
int cow_base_check_device(struct cow_device *store, const char *path, int fd, struct error_text *error);
/* Our user has named this base for @store, a store already: if it is a block device, later opens accept it. Durable. */
int cow_base_confirm(struct cow_device *store, enum cow_base_kind kind, const struct cow_base_fields *fields,
		     struct error_text *error);

/* -EPERM: "TYPE:PATH", the base that a store names, is outside the image directories (image_directories.h). */
int cow_target_check(const char *target, struct error_text *error);
/* Split "PATH@NAME": returns a copy of PATH, which the caller frees; *@name points into @target. NULL: no name. */
char *cow_target_split(const char *target, const char **name);

/*
 * Commit: write the disk to its raw base, which leaves the store empty. The
 * store may hold nothing but the disk. From the beginning on the base differs
 * from its description in the store; that is recorded durably before the first
 * write to the base. Until the end each block written there also stays in the
 * store. So the disk reads the same at every moment, and a commit that a crash
 * interrupted can be started again.
 */
int cow_commit_begin(struct cow_store *store, struct cow_device *base, struct error_text *error);
/* Copy a part, from @sector on; *@nr_sectors: how many are done. */
int cow_commit_step(struct cow_store *store, struct cow_device *base, uint64_t sector, uint64_t *nr_sectors);
/* Call when the base is durable; @fields describe its present state. */
int cow_commit_end(struct cow_store *store, const struct cow_base_fields *fields, struct error_text *error);

/*
 * Rebase: put the store on another base, @next, or on none. Where that differs
 * from the present base, the present contents are copied to the disk. -EBUSY
 * when there are snapshots: their contents would change.
 */
int cow_rebase_begin(struct cow_store *store, struct error_text *error);
int cow_rebase_step(struct cow_store *store, const struct cow_base *next, uint64_t sector, uint64_t *nr_sectors);
/* Switches to the new base; afterwards the store can only be closed. */
int cow_rebase_end(struct cow_store *store, enum cow_base_kind kind, const struct cow_base_fields *fields,
		   struct error_text *error);

/* Make a range of @device, in bytes, read as zeros. */
int cow_device_zero(struct cow_device *device, uint64_t offset, uint64_t length);
bool cow_all_zero(const void *data, size_t length);

/*
 * The size in bytes of a store for a disk of @sectors with data in @blocks
 * blocks of 4096 bytes, in @leaves ranges of 2 MiB. 0: the disk is too large for any store.
 */
uint64_t cow_measure(uint64_t sectors, uint64_t blocks, uint64_t leaves);

#endif
