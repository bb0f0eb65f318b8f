/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow.h - a store: one disk and all its snapshots. docs/cow-format.md is the
 * specification; this is its library, synchronous, used by the tools, by the
 * tests and, a step at a time, by the driver.
 *
 * Sizes are in 512-byte sectors unless said. Calls return 0 or -errno. After
 * a failed sync, or a failed write to the log or a superblock, the contents of
 * the medium are unknown: the store then fails everything that writes (-EIO)
 * until it is opened again; reads still work.
 *
 * Threads: a store belongs to one.
 */
#ifndef TAPSNAP_COW_H
#define TAPSNAP_COW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "driver.h"

/*
 * The storage under a store: a file, a block device, or in tests a simulation
 * of one that loses power. Offsets and lengths are bytes, multiples of 512;
 * every call transfers all of it or fails with -errno.
 */
struct cow_device;

struct cow_read_part {
	void *data;
	uint64_t offset;
	size_t length;
};

struct cow_device_ops {
	int (*read)(struct cow_device *device, void *data, uint64_t offset, size_t length);
	/* Reads all parts, in any order. NULL: read() is called for each. */
	int (*read_many)(struct cow_device *device, const struct cow_read_part *part, unsigned count);
	int (*write)(struct cow_device *device, const void *data, uint64_t offset, size_t length);
	/* Durable when it returns; gives no guarantee for other writes. -ENOSPC, -EDQUOT: the write, not the sync, found no room. */
	int (*write_durable)(struct cow_device *device, const void *data, uint64_t offset, size_t length);
	/* Makes every write that has returned durable. */
	int (*sync)(struct cow_device *device);
	/* Free the space if possible; the contents become undefined. */
	int (*punch)(struct cow_device *device, uint64_t offset, uint64_t length);
	/* Bytes. */
	uint64_t (*size)(struct cow_device *device);
	/* The size, queried again: it may have grown. NULL: it never does. */
	uint64_t (*size_now)(struct cow_device *device);
	/* Make it @size bytes large; the new part reads as zeros. NULL: the size is fixed. */
	int (*resize)(struct cow_device *device, uint64_t size);
	/* Make the range read as zeros, if possible without writing. NULL: the caller writes zeros. */
	int (*zero)(struct cow_device *device, uint64_t offset, uint64_t length);
	/* Shortens *@length to a part that is all hole or may be data. NULL: all is data. */
	int (*hole)(struct cow_device *device, uint64_t offset, uint64_t *length, bool *hole);
};

/* The first member of an implementation's struct. */
struct cow_device {
	const struct cow_device_ops *ops;
	const char *name;		/* for messages */
};

/*
 * cow_file.c: a file or block device through the page cache, locked against
 * other users. cow_file_create() makes the file if it does not exist; the contents of
 * an existing one are lost in cow_create(), after its checks have passed.
 * An image that has an overlay record is refused, except by as_is: it is the store's own base.
 */
int cow_file_open_as_is(struct cow_device **device, const char *path, bool read_only, struct error_text *error);
int cow_file_open(struct cow_device **device, const char *path, bool read_only, struct error_text *error);
int cow_file_create(struct cow_device **device, const char *path, struct error_text *error);
/*
 * A new file, locked. It gets its name in cow_file_place(), durable with its contents; closed before, or by the death of the
 * process, it is gone. -EEXIST, in both: a file of that name exists, and stays as it is.
 */
int cow_file_new(struct cow_device **device, const char *path, struct error_text *error);
int cow_file_place(struct cow_device *device, struct error_text *error);
void cow_file_close(struct cow_device *device);
int cow_file_descriptor(struct cow_device *device);	/* stays the device's */
int cow_sync_error(int error);		/* the error of a failed sync, for a device's own syncs; cow_device.c */

#define COW_TARGET_MAX 1024u

enum cow_base_kind { COW_BASE_NONE, COW_BASE_RAW, COW_BASE_COW };

#define COW_BASE_COMMITTING 1u		/* the disk is being written to its raw base: ignore size and time */
#define COW_BASE_COMMITTED 2u		/* the commit is complete: the base is the disk, and the store is not opened any more */

struct cow_base_fields {
	uint64_t sectors;		/* size of the base in 512-byte sectors, when the store was put on it */
	uint64_t size, mtime_sec, mtime_nsec, inode;	/* of a raw base that is a file; 0 for a device */
	char target[COW_TARGET_MAX];	/* "aio:PATH" or "cow:PATH@NAME", NUL-padded */
	uint8_t uuid[16];		/* of a cow base: the uuid of its store, */
	uint32_t version;		/* the snapshot's id there; 0 for a raw base */
	uint32_t flags;
	uint64_t time;			/* and the time when the snapshot was taken */
};

struct cow_store;

/* The disk's contents where the store has no data. Sectors after its end read as zeros. */
struct cow_base {
	int (*read)(void *owner, void *data, uint64_t sector, uint64_t nr_sectors);
	void *owner;
	uint64_t sectors;
	/* Shortens *@nr_sectors to a part that is all zeros or may be data. NULL: not known. */
	int (*zero)(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero);
};

struct cow_create_options {
	uint64_t sectors;
	unsigned sector_size;		/* 0: 512 */
	uint64_t log_blocks;		/* 0: chosen from the size of the disk */
	enum cow_base_kind base_kind;
	const struct cow_base_fields *base;	/* NULL without a base */
};

struct cow_open_options {
	bool read_only;
	size_t cache_bytes;		/* memory for map nodes; 0: 32 MiB */
	unsigned layer_entries;		/* number of map changes that starts a checkpoint; 0: 45056 */
	struct cow_base base;		/* all zero: none; then the store must name none */
	const char *journal;		/* path of the journal (docs/takeover.md): replayed if it exists, and kept; NULL: none */
};

struct cow_info {
	uint8_t uuid[16];
	uint64_t sectors;
	unsigned sector_size;
	uint64_t store_blocks, free_blocks;
	uint64_t log_blocks;
	uint32_t generation;
	bool clean;			/* the store was closed cleanly before it was opened */
	unsigned snapshots, deletions;	/* listed snapshots; versions whose space is still to be freed */
	enum cow_base_kind base_kind;
	const struct cow_base_fields *base;
};

/*
 * The device must be the caller's alone. Its contents are lost. On failure there is no store; if nothing had been
 * written yet, the old contents are still there.
 */
int cow_create(struct cow_device *device, const struct cow_create_options *options, struct error_text *error);
/* Destroy the store, as far as the device can be written. */
void cow_wipe(struct cow_device *device);

/* Read from the superblock which base cow_open() will need. */
int cow_probe(struct cow_device *device, enum cow_base_kind *kind, struct cow_base_fields *base,
	      struct error_text *error);

/* The device stays the caller's, and must outlive the store. */
int cow_open(struct cow_store **store, struct cow_device *device, const struct cow_open_options *options,
	     struct error_text *error);
/* Write a checkpoint and the clean flag. Frees the store, also on failure. */
int cow_close(struct cow_store *store);
/* Free the store without writing, as a crash does. */
void cow_abandon(struct cow_store *store);

void cow_get_info(const struct cow_store *store, struct cow_info *info);

int cow_read(struct cow_store *store, void *data, uint64_t sector, uint64_t nr_sectors);
int cow_write(struct cow_store *store, const void *data, uint64_t sector, uint64_t nr_sectors);
int cow_write_zeroes(struct cow_store *store, uint64_t sector, uint64_t nr_sectors);
int cow_flush(struct cow_store *store);
/*
 * Allocate blocks of 4096 bytes from @block on, in a new disk without a base.
 * They read as zeros; @full: zeros are written, so that a file has no holes
 * there. *@count: the number of blocks allocated. Not flushed.
 */
int cow_preallocate_step(struct cow_store *store, uint64_t block, bool full, uint64_t *count);
int cow_resize(struct cow_store *store, uint64_t sectors, struct error_text *error);
/* The long part of a shrink to @sectors, in steps before cow_resize(): zero a part behind the new end, from *@sector on. */
int cow_resize_cut(struct cow_store *store, uint64_t sectors, uint64_t *sector, struct error_text *error);

int cow_snapshot_create(struct cow_store *store, const char *name, const char *description, struct error_text *error);
int cow_snapshot_delete(struct cow_store *store, const char *name, struct error_text *error);
int cow_snapshot_revert(struct cow_store *store, const char *name, struct error_text *error);
/* Check that a snapshot of that name could be created, or that it exists. Also for a store opened read-only. */
int cow_snapshot_check_new(const struct cow_store *store, const char *name, const char *description, struct error_text *error);
int cow_snapshot_check_there(const struct cow_store *store, const char *name, struct error_text *error);
/* Calls @each for every snapshot, oldest first, until it returns non-zero, and returns that; from id @from on. */
int cow_snapshot_list(struct cow_store *store, int (*each)(void *owner, const struct snapshot_info *info),
		      void *owner);
int cow_snapshot_list_from(struct cow_store *store, uint64_t from,
			   int (*each)(void *owner, const struct snapshot_info *info), void *owner);

/*
 * Snapshots of several stores at one instant. Each store prepares a snapshot, in
 * memory only; cow_flush() makes it durable. Then one process decides once for
 * all stores. The decision record is a file that says "commit", linked to its
 * name when it is complete. A process that opens a store and finds a prepared
 * snapshot but no record makes an empty one, which rules out any other decision.
 */
int cow_snapshot_prepare(struct cow_store *store, const char *name, const char *description, const char *decision,
			 struct error_text *error);
int cow_snapshot_commit(struct cow_store *store, const char *name, struct error_text *error);
int cow_snapshot_abort(struct cow_store *store, const char *name, struct error_text *error);
/* The same for a revert: durable when it returns; then commit or abort it by the name SNAPSHOT_REVERT_INTENT. */
int cow_revert_prepare(struct cow_store *store, const char *name, const char *decision, struct error_text *error);

#define COW_DECISION_DIRECTORY "groups"	/* in path_state_dir(): holds the records */

/* cow_decision.c. True for a record of this host: 32 hexadecimal digits in that directory, optionally "." and an owner's name. */
bool cow_decision_valid(const char *path);
/* Decide for commit: 0; -ECANCELED: abort had been decided. Durable when it returns. */
int cow_decision_commit(const char *path, struct error_text *error);
/* Decide for abort. 0: aborted, now or before, or no record of this host; 1: commit had been decided. Durable when it returns. */
int cow_decision_abort(const char *path, struct error_text *error);
/* The number of prepared snapshots. */
unsigned cow_prepared_count(const struct cow_store *store);
/*
 * After an open: commit or abort prepared snapshots by their record, which is made if missing. A read-only store shows
 * those decided for as committed, and leaves the others; neither the store nor the record changes.
 */
int cow_prepared_settle(struct cow_store *store, struct error_text *error);

int cow_checkpoint(struct cow_store *store);

/* One step of freeing the space of deleted versions. 1: there is more to do, 0: done. */
int cow_delete_step(struct cow_store *store);
/* Bytes of the deleted versions' disks that these steps have yet to look at. */
uint64_t cow_delete_left(const struct cow_store *store);

struct cow_check {
	uint64_t leaks;			/* store blocks marked used but not referenced */
	unsigned copies;		/* damaged copies of the superblock: the next open for writing mends them */
	uint64_t errors;		/* any other defect */
	uint64_t mapped, metadata;	/* store blocks with data, with maps and tables */
	void (*report)(void *owner, const char *text);	/* called with one line for each finding; may be NULL */
	int (*progress)(void *owner, uint64_t done, uint64_t total);	/* may be NULL; ends the check if not 0 */
	void *owner;
};
/* Checks all maps. @repair: frees leaked blocks, and writes the superblock anew. -errno when the check itself failed. */
int cow_check(struct cow_store *store, struct cow_check *check, bool repair);

enum cow_extent_kind { COW_EXTENT_DATA, COW_EXTENT_ZERO, COW_EXTENT_BASE };
struct cow_extent {
	uint64_t sector, nr_sectors;
	enum cow_extent_kind kind;
	uint64_t offset;		/* DATA: byte offset in the store */
};
/* The extent of the active disk that begins at @sector, a multiple of 8. */
int cow_extent_find(struct cow_store *store, uint64_t sector, struct cow_extent *extent);

/* A readable state of the disk: a snapshot, or the active disk. */
struct cow_view {
	uint32_t id;
	uint64_t sectors;
	uint64_t time;			/* when the snapshot was taken, seconds since the epoch */
};
/* @name NULL: the active disk. -ENOENT: no such snapshot. */
int cow_view_find(const struct cow_store *store, const char *name, struct cow_view *view);
int cow_view_find_id(const struct cow_store *store, uint32_t id, struct cow_view *view);
int cow_view_read(struct cow_store *store, const struct cow_view *view, void *data, uint64_t sector,
		  uint64_t nr_sectors);
/* As zero() in struct cow_base: from the map, and from the base. */
int cow_view_zero(struct cow_store *store, const struct cow_view *view, uint64_t sector, uint64_t *nr_sectors,
		  bool *zero);

#endif
