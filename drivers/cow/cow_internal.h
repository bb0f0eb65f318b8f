/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_internal.h - a store in memory, shared by the files of this directory only:
 * the library (cow.h, cow_base.h), and on top of it the driver, whose files
 * are cow.c and cow_disk_*.c (cow_disk.h). From a write to the medium:
 *
 *   the disk
 *     cow_io.c          reads, writes, zeroing, discards, one at a time
 *     cow_extent.c cow_run.c   which parts are alike
 *   the map: where a block is
 *     cow_map.c         lookups, and whose a block is
 *     cow_layer.c cow_dirty_nodes.c   changes in memory, and under which nodes they are
 *     cow_cache.c cow_readahead.c   nodes in memory, and those that are needed next
 *   the space
 *     cow_alloc.c       which blocks are in use
 *     cow_set.c         a page's bits, in little memory where few are set or clear
 *     cow_unpunched.c   which of the free ones still take space on the host
 *   the versions of the disk
 *     cow_version.c     the list, and its table on the store
 *     cow_snapshot.c cow_revert.c cow_text.c   taking one, going back to one, names
 *     cow_decision.c    whether a group's prepared ones count
 *     cow_delete.c      giving back what only a deleted one holds
 *   what is durable
 *     cow_flush.c cow_log.c       the data, then map changes and events as records
 *     cow_journal.c     what the log does not have yet, should only the process die
 *     cow_checkpoint.c cow_tree.c cow_bitmap.c   from layers to trees, and the bitmap that goes with them
 *     cow_superblock.c  what names all of it
 *   from the beginning to the end of a store
 *     cow_create.c cow_preallocate.c   making one
 *     cow_open.c cow_replay.c     opening one, and the log after a crash
 *     cow_check.c       everything that is mapped, against the bitmap
 *   what it stands on
 *     cow_base.c cow_rebase.c cow_commit.c   a base, another one, back to it
 *     cow_peek.c        of a store that another process has open
 *     cow_device.c cow_file.c     the medium: in general; a file, for the tools
 *   cow_list.c          growing arrays, and the checksum
 *
 * Invariants:
 * 1. A map node on the store is never changed where it stands, so a cached
 *    one is always clean.
 * 2. What a version maps: its layer, else its own tree, else its parent's
 *    map. Only the active version's layer changes.
 * 3. A block that was freed stays on hold (not allocated, not punched) until
 *    the record or the superblocks that free it are durable.
 * 4. A version is older, and has a smaller id, than all below it.
 */
#ifndef DRIVERS_COW_INTERNAL_H
#define DRIVERS_COW_INTERNAL_H

#include "cow_format.h"

/* A growing array of numbers. */
struct cow_list {
	uint64_t *item;
	size_t count, room;
};
int cow_list_add(struct cow_list *list, uint64_t item);
void cow_list_free(struct cow_list *list);
void cow_list_sort(struct cow_list *list);

uint32_t cow_crc(uint32_t crc, const void *data, size_t length);	/* start and chain with 0 */

/* The same block, and the same contents of it. */
static inline bool cow_ref_same(const struct cow_ref *a, const struct cow_ref *b)
{
	return a->where == b->where && a->crc == b->crc;
}

/* cow_dirty_nodes.c: nodes of a tree, by level and index. */
struct cow_dirty_nodes {
	uint32_t *slot;			/* 0: empty */
	size_t count, room;
	bool all;			/* there was no memory to tell them apart */
};
void cow_dirty_nodes_add(struct cow_dirty_nodes *dirty, uint64_t block);	/* all that are above that disk block */
bool cow_dirty_nodes_has(const struct cow_dirty_nodes *dirty, unsigned level, uint64_t index);
void cow_dirty_nodes_free(struct cow_dirty_nodes *dirty);

/* cow_layer.c: map changes of one version since its tree was written. */
struct cow_layer {
	struct cow_map_element *slot;	/* block: disk block + 1; 0: empty slot */
	uint8_t *dirty;			/* by slot: not in the log yet */
	size_t count, room;
	size_t dirty_count;
	struct cow_dirty_nodes dirty_nodes;	/* nodes under which it has changes */
	struct cow_layer *below;	/* what a checkpoint at work makes a tree of; NULL: nothing */
};
/* Here, or below. */
bool cow_layer_find(const struct cow_layer *layer, uint64_t block, uint64_t *entry);
/* cow_layer_find() will ask here. */
void cow_layer_prefetch(const struct cow_layer *layer, uint64_t block);
/* Makes sure that one cow_layer_set() cannot fail. */
int cow_layer_reserve(struct cow_layer *layer, size_t more);
void cow_layer_set(struct cow_layer *layer, uint64_t block, uint64_t entry, bool dirty);
void cow_layer_free(struct cow_layer *layer);
/* All that is in it goes below; it comes back; or it is in a tree now. */
int cow_layer_split(struct cow_layer *layer);
void cow_layer_join(struct cow_layer *layer);
void cow_layer_drop_below(struct cow_layer *layer);
/* False: it has no changes, and none below, under that node of a tree. */
bool cow_layer_touches(const struct cow_layer *layer, unsigned level, uint64_t index);
/* Its changes, none below, in the order of disk blocks; the caller frees. */
int cow_layer_sorted(const struct cow_layer *layer, struct cow_map_element **elements, size_t *count);

struct cow_version {
	struct cow_version *next;	/* by id */
	struct cow_version *parent;
	struct cow_version *first_child, *sibling, **link;	/* link: where its parent's list names it */
	uint32_t id, generation;	/* the active one's generation is the store's */
	bool deleted;			/* durably */
	unsigned children;
	uint64_t time, sectors, base_shows, cursor;
	uint64_t nodes_done;		/* by its deletion, since the store was opened */
	bool has_tree;
	struct cow_ref root;
	unsigned levels;
	struct cow_layer layer;
	char *name, *description;	/* "" where there is none */
	char *decision;			/* of the group that it was prepared for; "": not, or committed */

	struct cow_ref new_root;	/* during a checkpoint */
	unsigned new_levels;
};

/* cow_cache.c: map nodes. */
union cow_node {
	uint64_t entry[COW_LEAF_ENTRIES];
	struct cow_ref ref[COW_NODE_REFS];
	uint8_t bytes[COW_BLOCK];
};

struct cow_slot {
	uint64_t block;
	uint32_t crc;
	uint32_t chain;			/* next of the bucket, or next free one */
	uint16_t shortcut;		/* one that leads here is that one */
	uint8_t level;
};

struct cow_shortcut {
	uint32_t leaf;			/* index of a leaf of the tree in use */
	uint32_t number;		/* its slot; 0: none */
};

struct cow_cache {
	union cow_node *node;		/* by slot */
	struct cow_slot *slot;
	uint32_t *bucket;
	uint8_t *used;			/* by slot: since the hand came by */
	struct cow_shortcut *shortcut;	/* by leaf, and what else has that remainder */
	struct cow_ref root;		/* of the tree whose shortcuts those are */
	size_t buckets;
	uint32_t count, limit;		/* slots that have had a node; that there are */
	uint32_t free, hand;
	void *mapping;			/* all arrays */
	size_t mapped;
};

/* A node that has to be loaded before a lookup can go on. */
struct cow_missing {
	struct cow_ref ref;
	unsigned level;
};

int cow_cache_init(struct cow_cache *cache, size_t bytes);
void cow_cache_free(struct cow_cache *cache);
const union cow_node *cow_cache_find(struct cow_cache *cache, const struct cow_ref *ref, unsigned level);
/*
 * A leaf of the tree with that root, by its index, without a walk; NULL: who
 * knows. They are remembered for one tree at a time.
 */
const union cow_node *cow_cache_shortcut(struct cow_cache *cache, const struct cow_ref *root, uint64_t leaf);
void cow_cache_remember(struct cow_cache *cache, const struct cow_ref *root, uint64_t leaf, const union cow_node *node);
void cow_cache_insert(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes);
void cow_cache_drop(struct cow_cache *cache, uint64_t block);
/* Checks and caches what was read; -EUCLEAN. */
int cow_node_accept(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes);
/* Reads, checks and caches a node; @bytes (COW_BLOCK) may be NULL. */
int cow_node_load(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes);
/* The same, from the cache if it is there. */
int cow_node_get(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes);

/* cow_readahead.c: nodes that are needed next. */
#define COW_READAHEAD_MAX 64u

struct cow_readahead {
	struct cow_missing node[COW_READAHEAD_MAX];
	unsigned count;
};

/* False: it has no place. Nothing to do for what is in the cache, or is none. */
bool cow_readahead_add(struct cow_readahead *readahead, struct cow_store *store, const struct cow_ref *ref, unsigned level);
/* They are in the cache now, if they can be had. */
void cow_readahead_read(struct cow_readahead *readahead, struct cow_store *store);

/* cow_set.c: a set of the bits of a bitmap page; all 0 is an empty one. */
enum cow_set_form {
	COW_SET_FEW,			/* the list of the bits that are set */
	COW_SET_ALL_BUT,		/* the list of those that are clear */
	COW_SET_BITMAP,
};

struct cow_set {
	void *items;			/* uint16_t, sorted; or COW_BLOCK bytes */
	uint16_t count;			/* bits that are set */
	uint16_t listed, room;
	uint8_t form;
};
bool cow_set_has(const struct cow_set *set, unsigned bit);
/* The first that is set from @bit on; COW_PAGE_BITS: none. */
unsigned cow_set_next(const struct cow_set *set, unsigned bit);
/*
 * 0 or -ENOMEM, and then it is as it was. Does not fail where it undoes the
 * last one, nor in a bitmap, nor where a set that began empty loses a bit.
 */
int cow_set_put(struct cow_set *set, unsigned bit, bool value);
int cow_set_make_bitmap(struct cow_set *set);
/* COW_BLOCK bytes in, into an empty set, or out. */
int cow_set_load(struct cow_set *set, const uint8_t *bytes);
void cow_set_store(const struct cow_set *set, uint8_t *bytes);
void cow_set_free(struct cow_set *set);		/* it is empty */

/* cow_alloc.c: which store blocks are in use. */
struct cow_page {
	struct cow_ref ref;		/* as on the store */
	struct cow_set bits;		/* in use; of a page that is loaded */
	struct cow_set hold;		/* freed, not free yet */
	struct cow_set unpunched;	/* cow_unpunched.c */
	uint32_t clear;			/* clear bits of bits, within the store */
	bool loaded, dirty;
};

struct cow_alloc {
	struct cow_page *page;
	size_t pages, dirty_pages;
	uint64_t clear, held, unpunched;	/* sums */
	uint64_t unpunched_at;		/* where the next hole is looked for */
	size_t at_page;			/* the region that is being filled */
	unsigned at_bit;
	struct cow_ref *node[COW_BITMAP_MAX_LEVELS + 1];	/* references to the nodes of each level above the pages */
	size_t nodes[COW_BITMAP_MAX_LEVELS + 1];
	unsigned levels;
};
unsigned cow_bitmap_levels(uint64_t store_blocks);
int cow_alloc_init(struct cow_store *store);
int cow_alloc_load(struct cow_store *store, struct error_text *error);
void cow_alloc_free(struct cow_alloc *alloc);
/* Up to @want neighbours; @data ones leave the reserve alone. */
int cow_alloc_run(struct cow_store *store, uint64_t want, bool data, uint64_t *block, uint64_t *got);
/* The next cow_alloc_run(data) does no I/O, and takes @bit of the current page; else cow_alloc_prepare(), which does I/O. */
bool cow_alloc_ready(struct cow_store *store, unsigned *bit);
/* Puts the run of free blocks that begins at @block on hold; returns its length, 0 when that is below @least. */
unsigned cow_alloc_hold_run(struct cow_store *store, uint64_t block, unsigned most, unsigned least);
void cow_alloc_unhold_run(struct cow_store *store, uint64_t block, unsigned count);
int cow_alloc_prepare(struct cow_store *store);
int cow_alloc_mark(struct cow_store *store, uint64_t block);		/* in use; may be already */
int cow_alloc_release(struct cow_store *store, uint64_t block);	/* free, on hold */
/* Of a cow_alloc_run() that came to nothing: free again at once. */
void cow_alloc_return(struct cow_store *store, uint64_t block, uint64_t count);
/* The same of the end of one: what comes next begins there, if nothing has come since. */
void cow_alloc_give_back(struct cow_store *store, uint64_t block, uint64_t count);
void cow_alloc_unhold(struct cow_store *store, uint64_t block);
bool cow_alloc_is_used(struct cow_store *store, uint64_t block, int *error);
int cow_alloc_grow(struct cow_store *store, uint64_t store_blocks);
void cow_alloc_trim(struct cow_alloc *alloc);				/* lets clean pages go */
uint64_t cow_alloc_reserve(struct cow_store *store);
/* That much is there. In a file it can always be had; a device that has become larger is found to be so. */
bool cow_alloc_has_reserve(struct cow_store *store);
void cow_alloc_count_others(struct cow_store *store);

/* cow_unpunched.c: blocks that were freed and still take space on the host. By one fiber at a time. */
void cow_unpunched_add(struct cow_store *store, uint64_t block);
/* The next run of them that are still free, on hold until cow_alloc_unhold_run(); returns its length, 0: there is none. */
unsigned cow_unpunched_hold(struct cow_store *store, uint64_t *block);
void cow_unpunched_forget(struct cow_store *store);

/* cow_log.c: positions count on and on; a position's place is position % size. */
struct cow_log {
	uint64_t start, size;		/* bytes */
	uint64_t head, tail;
	uint64_t sequence;		/* of the next record */
	uint32_t chain;
	uint64_t salt;
	uint8_t *buffer;		/* records that are not written yet */
	size_t used, room;
};
int cow_log_add(struct cow_log *log, enum cow_record_type type, uint32_t count, const void *payload, size_t length,
		const void *more, size_t more_length);
int cow_log_write(struct cow_store *store);
uint64_t cow_log_used(const struct cow_log *log);
uint64_t cow_log_room(const struct cow_log *log);	/* for more, in a number of records */
/* A look at the log after a crash, much of it with one call to the device. */
struct cow_log_reader {
	struct cow_record *record;	/* COW_RECORD_MAX bytes */
	uint8_t *ahead;
	uint64_t at;			/* where in the log's area that is, bytes */
	size_t length;
};
int cow_log_reader_init(struct cow_log_reader *reader);
void cow_log_reader_free(struct cow_log_reader *reader);
/* Where the last whole group of records ends. */
int cow_log_find_end(struct cow_store *store, struct cow_log_reader *reader, uint64_t *end);
/* The record at the head, which moves on; -ENOENT at the end. */
int cow_log_read(struct cow_store *store, struct cow_log_reader *reader, uint64_t end);
#define COW_RECORD_MAX 65536u
#define COW_RECORD_PAYLOAD (COW_RECORD_MAX - sizeof(struct cow_record))

/* A record that has to follow a version's map changes in the log. */
struct cow_event {
	struct cow_event *next;
	struct cow_version *version;
	enum cow_record_type type;
	uint32_t count;
	size_t length;
	uint8_t payload[];
};

struct cow_journal;

struct cow_store {
	struct cow_device *device;
	struct cow_superblock sb;	/* as last written */
	bool read_only, clean;
	int failed;			/* sticky */
	uint64_t store_blocks, pool_start;
	uint32_t generation, next_version;
	struct cow_version *versions, *active;
	struct cow_version **version_index;	/* the same by place in the list: there may be very many */
	struct cow_version *begun;	/* the one whose deletion has a cursor; NULL: none */
	struct cow_version *gone_from;	/* none before it is gone; NULL: none is */
	unsigned version_count, version_room;
	struct cow_cache cache;
	struct cow_alloc alloc;
	struct cow_log log;
	struct cow_base base;
	unsigned layer_entries;
	struct cow_event *events, **last_event;
	struct cow_list releases;	/* freed by the active disk, not in the log yet */
	struct cow_list table_blocks;	/* of the version table, as on the store */
	bool flushing;			/* cow_flush() is at work */
	struct cow_journal *journal;	/* NULL: there is none */
	struct cow_checkpoint *checkpoint;	/* the one that is at work; NULL */
	/* Takes over what was freed and is out of use for good once those who may still read it have ended. NULL: nobody
	 * does. @blocks is sorted. */
	void (*retire)(void *owner, struct cow_list *blocks);
	void *retire_owner;
	int (*pause)(void *owner);	/* the same owner's: called now and then while trees are built; ends it if not 0. NULL */
	/* Of the versions that are not active, when valid: those without a settled tree, the entries of their layers, the
	 * blocks that those need at a checkpoint. */
	unsigned others;
	uint64_t others_entries, others_reserve;
	bool others_valid;
};

/* cow_superblock.c */
/* For who looks only, at a store that was committed, too. */
int cow_superblock_peek(struct cow_device *device, struct cow_superblock *sb, struct error_text *error);
int cow_superblock_read(struct cow_device *device, struct cow_superblock *sb, bool *read_only, struct error_text *error);
/* Both copies, one after the other; sequence and checksum are filled in. */
int cow_superblock_write(struct cow_store *store, struct cow_superblock *sb);

/* cow_map.c */
unsigned cow_levels_for(uint64_t sectors);
uint64_t cow_blocks_for(uint64_t sectors);
int cow_map_lookup(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t *entry,
		   struct cow_missing *missing);
/* Has the processor bring what a lookup of any @block will need, as far as the nodes are there. */
void cow_map_prefetch(struct cow_store *store, const struct cow_version *version, uint64_t block);
int cow_map_find(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t *entry);
/* cow_run.c: like cow_map_lookup() they do not wait (-EAGAIN with @missing). */
enum cow_run_kind { COW_RUN_ABSENT, COW_RUN_ZERO, COW_RUN_STORED };
/* What is at @block, and for how many blocks from there on, below @end, it is the same. */
int cow_map_run(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		enum cow_run_kind *kind, uint64_t *count, struct cow_missing *missing);
/* The same of whether two versions have the same there, in the same place: then neither has written since. */
int cow_map_compare(struct cow_store *store, const struct cow_version *a, const struct cow_version *b, uint64_t block,
		    uint64_t end, bool *same, uint64_t *count, struct cow_missing *missing);
/* How much of the base it may show. */
uint64_t cow_base_sectors(const struct cow_store *store, const struct cow_version *version);
bool cow_map_shows_base(const struct cow_store *store, const struct cow_version *version, uint64_t block);
bool cow_entry_valid(const struct cow_store *store, uint64_t entry, uint32_t max_birth);
/* The last generation of the nearest ancestor of the active version that is not gone; 0: none. */
uint32_t cow_map_shared_until(const struct cow_store *store);
/* True when only @version holds what was born in @birth and ends, in disk blocks, at @end. */
bool cow_map_exclusive(const struct cow_version *version, uint32_t birth, uint64_t end);
const struct cow_version *cow_map_tree(const struct cow_version *version);	/* whose tree it uses; NULL: none */
/* The node that stands at a place of the tree it uses. */
int cow_map_node(struct cow_store *store, const struct cow_version *version, unsigned level, uint64_t index,
		 struct cow_ref *ref);

/* cow_extent.c: the first block from @block on, below @end, for which there may be an entry; @end: there is none. */
int cow_map_next(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		 uint64_t *next);
/* The same in a layer and what is below it. */
uint64_t cow_layer_next(const struct cow_layer *layer, uint64_t block, uint64_t end);
/* At most @max sectors of it. */
int cow_version_extent(struct cow_store *store, const struct cow_version *version, uint64_t sector, uint64_t max,
		       struct cow_extent *extent);

/* cow_io.c: zeroes, or discards what is whole blocks, from *@sector on, which moves on, until *@budget blocks were looked at. */
int cow_zero_some(struct cow_store *store, uint64_t *sector, uint64_t end, bool parts, uint64_t *budget);
/* What was absent is zero. */
int cow_zero_mask(struct cow_store *store, uint64_t block);

/* cow_commit.c: 0 when the active disk is all that there is; then deleted versions have been given back, too. */
int cow_no_snapshots(const struct cow_store *store, const char *otherwise, struct error_text *error);
int cow_only_active(struct cow_store *store, const char *otherwise, struct error_text *error);
/* The superblocks say COW_BASE_COMMITTING or COW_BASE_COMMITTED, durable. */
int cow_commit_mark(struct cow_store *store, uint32_t flag);
/* -ENOSPC: the device called @name does not take the whole disk. With the mark set it is taken when it has grown. */
int cow_commit_too_small(const struct cow_store *store, const char *name, struct error_text *error);

/* cow_version.c */
struct cow_version *cow_version_new(struct cow_store *store, uint32_t id, struct cow_version *parent);
struct cow_version *cow_version_find(const struct cow_store *store, uint32_t id);
struct cow_version *cow_version_by_name(const struct cow_store *store, const char *name);
struct cow_version *cow_version_child(const struct cow_version *version);	/* of several one */
/* Durably; how far its deletion has come. */
void cow_version_delete(struct cow_store *store, struct cow_version *version);
void cow_version_set_cursor(struct cow_store *store, struct cow_version *version, uint64_t cursor);
void cow_version_remove(struct cow_store *store, struct cow_version *version);
void cow_version_free_all(struct cow_store *store);
bool cow_version_gone(const struct cow_version *version);
int cow_version_load(struct cow_store *store, struct error_text *error);
/* Writes the table to fresh blocks. @blocks: where; @ref: the first. */
int cow_version_save(struct cow_store *store, struct cow_list *blocks, struct cow_ref *ref);
size_t cow_version_table_blocks(const struct cow_store *store);

/* cow_snapshot.c: what a record does to the store in memory, at replay and at work. */
int cow_snapshot_apply(struct cow_store *store, const struct cow_snapshot_payload *payload, const char *text);
int cow_event_add(struct cow_store *store, struct cow_version *version, enum cow_record_type type, uint32_t count,
		  const void *payload, size_t length);
/* A fresh active version on @parent, in the next generation. */
int cow_active_begin(struct cow_store *store, struct cow_version *parent);
/* A new version must fit into the table that the next checkpoint writes, and have a number. */
int cow_version_room(struct cow_store *store, struct error_text *error);
/* cow_snapshot_prepare() with a name that is not looked at. */
int cow_version_prepare(struct cow_store *store, const char *name, const char *description, const char *decision,
			struct error_text *error);
/* One that is listed, or one that is only prepared. */
int cow_snapshot_find(struct cow_store *store, const char *name, bool prepared, struct cow_version **version,
		      struct error_text *error);
int cow_snapshot_room(struct cow_store *store, struct error_text *error);	/* in the log, for a command */
int cow_snapshot_flush(struct cow_store *store, const char *what, const char *name, struct error_text *error);

/* cow_decision.c: one that is prepared; NULL: none is */
const struct cow_version *cow_prepared_next(const struct cow_store *store);

/* cow_revert.c */
int cow_revert_apply(struct cow_store *store, const struct cow_revert_payload *payload);
int cow_revert_commit(struct cow_store *store, const struct cow_version *intent, struct error_text *error);
bool cow_revert_awaits(const struct cow_store *store, const char *name);

/* A version's three texts, out of a record that holds them one behind the other. */
int cow_version_set_text(struct cow_version *version, const char *text, size_t name, size_t description, size_t decision);

/* cow_text.c */
bool cow_name_valid(const char *name, size_t length);
/* What a record may hold: also none, and that of a revert that was prepared. */
bool cow_name_kept(const char *name, size_t length);
bool cow_description_valid(const char *text);
/* With a "?" for each byte that may not be there, hence of the same length. */
void cow_description_show(const char *text, char *shown);

/* cow_delete.c */
struct cow_version *cow_delete_next(struct cow_store *store);
/* A step of the deletion that is next: no checkpoint has to come first; it brings the nodes that it needs into the cache,
 * which may be done while others change the map; it is taken, and becomes durable with the next flush. */
bool cow_delete_ready(struct cow_store *store);
void cow_delete_look(struct cow_store *store);
int cow_delete_walk(struct cow_store *store);

/* cow_flush.c */
/* Nothing to be logged, and no log record on its way: a flush is a sync. */
bool cow_flush_idle(const struct cow_store *store);

/* cow_replay.c: the log, then the journal that is at @journal (may be NULL). */
int cow_replay(struct cow_store *store, const char *journal, struct error_text *error);

/* cow_journal.c. Of the active disk's map: @count blocks from @block on, whose entries follow from @entry. */
void cow_journal_map(struct cow_store *store, uint64_t block, uint64_t entry, uint64_t count);
/* Counts with the map change that follows. */
void cow_journal_release(struct cow_store *store, uint64_t block);
void cow_journal_event(struct cow_store *store, enum cow_record_type type, uint32_t count, const void *payload, size_t length);
/* A flush gathers what has changed by now. */
void cow_journal_cut(struct cow_store *store);
/* Around the checkpoint that begins writing, under the salt @salt: before; when it is durable. */
int cow_journal_prepare(struct cow_store *store, const char *path, uint64_t salt);
void cow_journal_begin(struct cow_store *store);
/* The store is let go of; @needed: and not closed in order. */
void cow_journal_end(struct cow_store *store, bool needed);
/* -ESTALE: the store is not as the journal's process left it; -ENOBUFS: it has not all; -EUCLEAN. */
int cow_journal_replay(struct cow_store *store, const char *path, int (*replay)(struct cow_store *store,
		       const struct cow_record *record), struct error_text *text);
/* Of a store that is open: a fresh journal in another place. */
int cow_journal_attach(struct cow_store *store, const char *path);

/* cow_checkpoint.c */
int cow_checkpoint_write(struct cow_store *store, uint32_t flags, uint64_t salt);
/* The same in four steps. The map stands still for begin and settle, and is in the log; others may write during build and
 * end. Each that fails leaves none at work. */
int cow_checkpoint_begin(struct cow_store *store, uint32_t flags, uint64_t salt);
int cow_checkpoint_build(struct cow_store *store);
int cow_checkpoint_settle(struct cow_store *store);
int cow_checkpoint_end(struct cow_store *store);
void cow_checkpoint_abort(struct cow_store *store);	/* between two of them */
/* Before a change: makes room in the log and in memory. */
int cow_checkpoint_if_due(struct cow_store *store);
bool cow_checkpoint_due(struct cow_store *store);
/* False: what changes the map is to wait until the one that is at work has come on. */
bool cow_checkpoint_keeps_up(const struct cow_store *store);
/* Much more than due: nothing may come before it. */
bool cow_checkpoint_overdue(struct cow_store *store);
/* Map changes that are not in the log, in bytes of it. */
uint64_t cow_flush_bytes(const struct cow_store *store);
int cow_bitmap_write(struct cow_store *store, struct cow_list *allocated, struct cow_list *freed, struct cow_ref *root);

#endif
