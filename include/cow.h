/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow.h - a store: one disk and all its snapshots. docs/cow-format.md is the
 * specification; this is its library, synchronous, used by the tools, by the
 * tests and, a step at a time, by the driver.
 *
 * Sizes are in 512-byte sectors unless said. Calls return 0 or -errno. Once
 * a sync, a write to the log or to a superblock has failed, nothing is known
 * any more of what is on the medium: the store then fails all that writes
 * (-EIO) until it has been opened again, and goes on reading.
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
 * What a store stands on: a file, a block device, or in tests a simulation
 * of one that loses power. Offsets and lengths are bytes, multiples of 512;
 * every call moves all of it or fails with -errno.
 */
struct cow_device;

struct cow_read_part {
	void *data;
	uint64_t offset;
	size_t length;
};

struct cow_device_ops {
	int (*read)(struct cow_device *device, void *data, uint64_t offset, size_t length);
	/* All of them, in any order. NULL: read() does, one after the other. */
	int (*read_many)(struct cow_device *device, const struct cow_read_part *part, unsigned count);
	int (*write)(struct cow_device *device, const void *data, uint64_t offset, size_t length);
	/* Durable when it returns; says nothing of other writes. */
	int (*write_durable)(struct cow_device *device, const void *data, uint64_t offset, size_t length);
	/* Every write that has returned is durable. */
	int (*sync)(struct cow_device *device);
	/* Give the space back where that is possible; contents become undefined. */
	int (*punch)(struct cow_device *device, uint64_t offset, uint64_t length);
	/* Bytes. */
	uint64_t (*size)(struct cow_device *device);
	/* The same, looked at again: it may have been made larger. NULL: that does not happen. */
	uint64_t (*size_now)(struct cow_device *device);
	/* Make it @size bytes large, zeros where it was smaller; NULL: it is as large as it is. */
	int (*resize)(struct cow_device *device, uint64_t size);
	/* Make it read as zeros, without writing them where that is possible; NULL: they have to be written. */
	int (*zero)(struct cow_device *device, uint64_t offset, uint64_t length);
	/* A part that begins at @offset is all hole or may all be data: shortens *@length to it. NULL: all data. */
	int (*hole)(struct cow_device *device, uint64_t offset, uint64_t *length, bool *hole);
};

/* The first member of what implements one. */
struct cow_device {
	const struct cow_device_ops *ops;
	const char *name;		/* for messages */
};

/*
 * cow_file.c: a file or block device through the page cache, locked against
 * other users. To create makes the file if it is not there; what an existing
 * one holds is lost in cow_create(), once that has found nothing to refuse.
 * An image that has an overlay record is refused, but for as_is: the store's own base.
 */
int cow_file_open_as_is(struct cow_device **device, const char *path, bool read_only, struct error_text *error);
int cow_file_open(struct cow_device **device, const char *path, bool read_only, struct error_text *error);
int cow_file_create(struct cow_device **device, const char *path, struct error_text *error);
void cow_file_close(struct cow_device *device);

#define COW_TARGET_MAX 1024u

enum cow_base_kind { COW_BASE_NONE, COW_BASE_RAW, COW_BASE_COW };

#define COW_BASE_COMMITTING 1u		/* the disk is being written to its raw base: size and time mean nothing */
#define COW_BASE_COMMITTED 2u		/* all of it is there: the base is the disk, and the store is not opened any more */

struct cow_base_fields {
	uint64_t sectors;		/* 512-byte sectors, when it was attached */
	uint64_t size, mtime_sec, mtime_nsec, inode;	/* of a raw base that is a file; 0 for a device */
	char target[COW_TARGET_MAX];	/* "aio:PATH" or "cow:PATH@NAME", NUL-padded */
	uint8_t uuid[16];		/* of a cow base: its store, */
	uint32_t version;		/* the snapshot's id there; 0 for a raw base */
	uint32_t flags;
	uint64_t time;			/* and when the snapshot was taken */
};

struct cow_store;

/* What shows through where nothing was written. Sectors after its end read as zeros. */
struct cow_base {
	int (*read)(void *owner, void *data, uint64_t sector, uint64_t nr_sectors);
	void *owner;
	uint64_t sectors;
	/* A part that begins at @sector is all zeros or may all be data: shortens *@nr_sectors to it. NULL: not known. */
	int (*zero)(void *owner, uint64_t sector, uint64_t *nr_sectors, bool *zero);
};

struct cow_create_options {
	uint64_t sectors;
	unsigned sector_size;		/* 0: 512 */
	uint64_t log_blocks;		/* 0: by the size of the disk */
	enum cow_base_kind base_kind;
	const struct cow_base_fields *base;	/* NULL without a base */
};

struct cow_open_options {
	bool read_only;
	size_t cache_bytes;		/* of map nodes; 0: 32 MiB */
	unsigned layer_entries;		/* map changes that call for a checkpoint; 0: 45056 */
	struct cow_base base;		/* all zero: there is none, and the store names none */
	const char *journal;		/* path of the journal (docs/takeover.md): played if it is there, and kept; NULL: none */
};

struct cow_info {
	uint8_t uuid[16];
	uint64_t sectors;
	unsigned sector_size;
	uint64_t store_blocks, free_blocks;
	uint64_t log_blocks;
	uint32_t generation;
	bool clean;			/* when it was opened */
	unsigned snapshots, deletions;	/* those that are listed; versions whose space is still to be given back */
	enum cow_base_kind base_kind;
	const struct cow_base_fields *base;
};

/*
 * The device must be the caller's alone. What it held is lost. On failure there is no store, or, when nothing had been
 * written yet, what was there before.
 */
int cow_create(struct cow_device *device, const struct cow_create_options *options, struct error_text *error);
/* There is no store any more, as far as the device can be written. */
void cow_wipe(struct cow_device *device);

/* What the superblock says of the base, before it can be opened. */
int cow_probe(struct cow_device *device, enum cow_base_kind *kind, struct cow_base_fields *base,
	      struct error_text *error);

/* The device stays the caller's, and must live until the close. */
int cow_open(struct cow_store **store, struct cow_device *device, const struct cow_open_options *options,
	     struct error_text *error);
/* Checkpoint and clean flag; the store is gone in any case. */
int cow_close(struct cow_store *store);
/* Let go without writing, as a crash does. */
void cow_abandon(struct cow_store *store);

void cow_get_info(const struct cow_store *store, struct cow_info *info);

int cow_read(struct cow_store *store, void *data, uint64_t sector, uint64_t nr_sectors);
int cow_write(struct cow_store *store, const void *data, uint64_t sector, uint64_t nr_sectors);
int cow_discard(struct cow_store *store, uint64_t sector, uint64_t nr_sectors);	/* for tests: no tool does */
int cow_write_zeroes(struct cow_store *store, uint64_t sector, uint64_t nr_sectors);
int cow_flush(struct cow_store *store);
/*
 * Of a new disk without a base: blocks of 4096 bytes from @block on get their
 * places, which read as zeros; @full: which are written, so that a file has
 * no holes there. *@count: how many did. Not flushed.
 */
int cow_preallocate_step(struct cow_store *store, uint64_t block, bool full, uint64_t *count);
int cow_resize(struct cow_store *store, uint64_t sectors, struct error_text *error);
/* The longest part of a resize to fewer @sectors, before it: what lies behind them is zeroed, some of it from *@sector on. */
int cow_resize_cut(struct cow_store *store, uint64_t sectors, uint64_t *sector, struct error_text *error);

int cow_snapshot_create(struct cow_store *store, const char *name, const char *description, struct error_text *error);
int cow_snapshot_delete(struct cow_store *store, const char *name, struct error_text *error);
int cow_snapshot_revert(struct cow_store *store, const char *name, struct error_text *error);
/* Whether a snapshot of that name could be created, or is there. Also for a store that is open for reading only. */
int cow_snapshot_check_new(const struct cow_store *store, const char *name, const char *description, struct error_text *error);
int cow_snapshot_check_there(const struct cow_store *store, const char *name, struct error_text *error);
/* Calls @each for every snapshot, oldest first, until it returns non-zero, and returns that. */
int cow_snapshot_list(struct cow_store *store, int (*each)(void *owner, const struct snapshot_info *info),
		      void *owner);
/* For tests (tools have cow_view_read()): what the snapshot holds; -ENOENT. */
int cow_snapshot_read(struct cow_store *store, const char *name, void *data, uint64_t sector, uint64_t nr_sectors);

/*
 * Several stores at one instant. Each gets a snapshot that is prepared, by
 * memory alone; durable after cow_flush(). Then one process decides for all of
 * them, once: the decision record is a file that says "commit", linked to its
 * name when it is complete, or an empty one, made by the process that finds a
 * prepared snapshot, and no decision, at opening: then no other decision is possible.
 */
int cow_snapshot_prepare(struct cow_store *store, const char *name, const char *description, const char *decision,
			 struct error_text *error);
int cow_snapshot_commit(struct cow_store *store, const char *name, struct error_text *error);
int cow_snapshot_abort(struct cow_store *store, const char *name, struct error_text *error);
/* The same for going back: durable when it returns, and then to be committed or aborted by the name SNAPSHOT_REVERT_INTENT. */
int cow_revert_prepare(struct cow_store *store, const char *name, const char *decision, struct error_text *error);

#define COW_DECISION_DIRECTORY "groups"	/* in path_state_dir(): where the records are */

/* cow_decision.c. A record of this host: 32 hexadecimal digits in that directory, and possibly "." and its owner's name. */
bool cow_decision_valid(const char *path);
/* Decide for commit: 0; -ECANCELED: it was decided otherwise. Durable when it returns. */
int cow_decision_commit(const char *path, struct error_text *error);
/* 0: aborted, now or before, or no record of this host; 1: it was committed. Durable when it returns. */
int cow_decision_abort(const char *path, struct error_text *error);
/* How many snapshots are prepared. */
unsigned cow_prepared_count(const struct cow_store *store);
/* After an opening: what was prepared is committed or aborted, as was or is now decided. One for reading leaves it. */
int cow_prepared_settle(struct cow_store *store, struct error_text *error);

int cow_checkpoint(struct cow_store *store);

/* One step of giving back the space of deleted versions. 1: there is more to do, 0: all done. */
int cow_delete_step(struct cow_store *store);
/* How much of their disks is still to be looked at for that, in bytes. */
uint64_t cow_delete_left(const struct cow_store *store);

struct cow_check {
	uint64_t leaks;			/* store blocks marked used that nothing uses */
	uint64_t errors;		/* anything else that is wrong */
	uint64_t mapped, metadata;	/* store blocks with data, with maps and tables */
	void (*report)(void *owner, const char *text);	/* a line for each thing found; may be NULL */
	int (*progress)(void *owner, uint64_t done, uint64_t total);	/* may be NULL; non-zero ends the check with it */
	void *owner;
};
/* Looks at all maps. @repair: leaked blocks are given back. -errno when the check itself could not be done. */
int cow_check(struct cow_store *store, struct cow_check *check, bool repair);

enum cow_extent_kind { COW_EXTENT_DATA, COW_EXTENT_ZERO, COW_EXTENT_BASE };
struct cow_extent {
	uint64_t sector, nr_sectors;
	enum cow_extent_kind kind;
	uint64_t offset;		/* DATA: byte in the store */
};
/* The extent of the active disk that begins at @sector, a multiple of 8. */
int cow_extent_find(struct cow_store *store, uint64_t sector, struct cow_extent *extent);

/* What can be read: a snapshot, or the active disk. */
struct cow_view {
	uint32_t id;
	uint64_t sectors;
	uint64_t time;			/* when the snapshot was taken, seconds since the epoch */
};
/* @name NULL: the active disk. -ENOENT. */
int cow_view_find(const struct cow_store *store, const char *name, struct cow_view *view);
int cow_view_find_id(const struct cow_store *store, uint32_t id, struct cow_view *view);
int cow_view_read(struct cow_store *store, const struct cow_view *view, void *data, uint64_t sector,
		  uint64_t nr_sectors);
/* As in struct cow_base: zeros by the map, and by what the base knows of itself. */
int cow_view_zero(struct cow_store *store, const struct cow_view *view, uint64_t sector, uint64_t *nr_sectors,
		  bool *zero);

#endif
