/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_internal.h - a store in memory, shared by the files of this directory only:
 * the library (cow.h, cow_base.h), and on top of it the driver, whose files
 * are cow.c and cow_disk_*.c (cow_disk.h). In the order from a write to the medium:
 *
 *   the disk
 *     cow_io.c          reads, writes, zeroing, discards, one at a time
 *     cow_extent.c cow_run.c   extents: parts of a disk of one kind
 *   the map: from disk blocks to store blocks
 *     cow_map.c         lookups, and which version owns a block
 *     cow_layer.c cow_dirty_nodes.c   map changes in memory, and the nodes that they affect
 *     cow_cache.c cow_readahead.c   nodes in memory, and read-ahead of nodes
 *   the space
 *     cow_alloc.c       which blocks are in use
 *     cow_set.c         a bitmap page in memory, small when few bits are set or clear
 *     cow_unpunched.c   free blocks that still take space on the host
 *   the versions of the disk
 *     cow_version.c     the list, and its table on the store
 *     cow_snapshot.c cow_revert.c cow_text.c   snapshots, reverts, names
 *     cow_decision.c    commit or abort of a group's prepared snapshots
 *     cow_delete.c      free the blocks that only a deleted version holds
 *   durability
 *     cow_flush.c cow_log.c       the data, then map changes and events as records
 *     cow_journal.c     what is not in the log yet, for when only the process dies
 *     cow_checkpoint.c cow_tree.c cow_bitmap.c   turn layers into trees, and write the bitmap
 *     cow_superblock.c  the root of all metadata
 *   a store's life
 *     cow_create.c cow_preallocate.c   create
 *     cow_open.c cow_replay.c     open, and replay the log after a crash
 *     cow_check.c       compare all maps with the bitmap, and the copies of the superblock
 *   bases and devices
 *     cow_base.c cow_rebase.c cow_commit.c   open a base, change it, commit to it
 *     cow_peek.c        read the superblock of a store that another process has open
 *     cow_device.c cow_file.c     the medium: in general; a file, for the tools
 *   cow_list.c          growing arrays, and the checksum
 *
 * Invariants:
 * 1. A map node on the store is never changed in place, so a cached
 *    one is always clean.
 * 2. A version maps a block by its layer, else by its own tree, else by its
 *    parent's map. Only the active version's layer changes.
 * 3. A block that was freed stays on hold (not allocated, not punched) until
 *    the record or the superblocks that free it are durable.
 * 4. A version is older than all its descendants, and has a smaller id.
 */
#ifndef DRIVERS_COW_INTERNAL_H
#define DRIVERS_COW_INTERNAL_H

#include <errno.h>

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

/* True for the same block with the same contents. */
static inline bool cow_ref_same(const struct cow_ref *a, const struct cow_ref *b)
{
	return a->where == b->where && a->crc == b->crc;
}

/* cow_dirty_nodes.c: nodes of a tree, by level and index. */
struct cow_dirty_nodes {
	uint32_t *slot;			/* 0: empty */
	size_t count, room;
	bool all;			/* out of memory: treat all nodes as dirty */
};
void cow_dirty_nodes_add(struct cow_dirty_nodes *dirty, uint64_t block);	/* all nodes above that disk block */
bool cow_dirty_nodes_has(const struct cow_dirty_nodes *dirty, unsigned level, uint64_t index);
void cow_dirty_nodes_free(struct cow_dirty_nodes *dirty);

/* cow_layer.c: map changes of one version since its tree was written. */
struct cow_layer {
	struct cow_map_element *slot;	/* block: disk block + 1; 0: empty slot */
	uint8_t *dirty;			/* by slot: not in the log yet */
	size_t count, room;
	size_t dirty_count;
	struct cow_dirty_nodes dirty_nodes;	/* nodes under which the layer has changes */
	struct cow_layer *below;	/* the part that a running checkpoint turns into a tree; NULL: none */
};
/* Looks in the layer, then below it. */
bool cow_layer_find(const struct cow_layer *layer, uint64_t block, uint64_t *entry);
/* Call before cow_layer_find(): prefetches what it will read. */
void cow_layer_prefetch(const struct cow_layer *layer, uint64_t block);
/* Ensures that the next @more calls of cow_layer_set() cannot fail. */
int cow_layer_reserve(struct cow_layer *layer, size_t more);
void cow_layer_set(struct cow_layer *layer, uint64_t block, uint64_t entry, bool dirty);
void cow_layer_free(struct cow_layer *layer);
/* Move all changes to ->below; move them back; or drop them, as they are in a tree now. */
int cow_layer_split(struct cow_layer *layer);
void cow_layer_join(struct cow_layer *layer);
void cow_layer_drop_below(struct cow_layer *layer);
/* False: neither the layer nor ->below has changes under that node of a tree. */
bool cow_layer_touches(const struct cow_layer *layer, unsigned level, uint64_t index);
/* The layer's changes, without those below, sorted by disk block; the caller frees them. */
int cow_layer_sorted(const struct cow_layer *layer, struct cow_map_element **elements, size_t *count);

struct cow_version {
	struct cow_version *next;	/* by id */
	struct cow_version *parent;
	struct cow_version *first_child, *sibling, **link;	/* link: the pointer to it in its parent's list */
	uint32_t id, generation;	/* the active one's generation is the store's */
	bool deleted;			/* durably */
	bool leaving;			/* its deletion is in memory, not durable yet; to a user it is gone */
	unsigned children;
	uint64_t time, sectors, base_shows, cursor;
	uint64_t nodes_done;		/* nodes that its deletion has processed since the store was opened */
	bool has_tree;
	struct cow_ref root;
	unsigned levels;
	struct cow_layer layer;
	char *name, *description;	/* "" if empty */
	char *decision;			/* decision record of its group while it is prepared; "": not prepared, or committed */

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
	uint32_t chain;			/* next in the bucket, or in the free list */
	uint16_t shortcut;		/* the only shortcut that may lead here */
	uint8_t level;
};

struct cow_shortcut {
	uint32_t leaf;			/* index of a leaf of the active disk's tree */
	uint32_t number;		/* its slot; 0: none */
};

struct cow_cache {
	union cow_node *node;		/* by slot */
	struct cow_slot *slot;
	uint32_t *bucket;
	uint8_t *used;			/* by slot: used since the hand passed */
	struct cow_shortcut *shortcut;	/* by leaf % size */
	struct cow_ref root;		/* of the tree that the shortcuts belong to */
	size_t buckets;
	uint32_t count, limit;		/* slots used so far; number of slots */
	uint32_t free, hand;
	void *mapping;			/* holds all arrays */
	size_t mapped;
};

/* A node that must be loaded before a lookup can continue. */
struct cow_missing {
	struct cow_ref ref;
	unsigned level;
};

int cow_cache_init(struct cow_cache *cache, size_t bytes);
void cow_cache_free(struct cow_cache *cache);
const union cow_node *cow_cache_find(struct cow_cache *cache, const struct cow_ref *ref, unsigned level);
/*
 * A leaf of the tree with that root, by its index, without a walk; NULL: not
 * cached. Only one tree at a time has shortcuts.
 */
const union cow_node *cow_cache_shortcut(struct cow_cache *cache, const struct cow_ref *root, uint64_t leaf);
void cow_cache_remember(struct cow_cache *cache, const struct cow_ref *root, uint64_t leaf, const union cow_node *node);
void cow_cache_insert(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes);
void cow_cache_drop(struct cow_cache *cache, uint64_t block);
/* Checks a node that was read, and caches it; -EUCLEAN. */
int cow_node_accept(struct cow_store *store, const struct cow_ref *ref, unsigned level, const void *bytes);
/* Reads, checks and caches a node; @bytes (COW_BLOCK) may be NULL. */
int cow_node_load(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes);
/* The same, from the cache if possible. */
int cow_node_get(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes);

/* cow_readahead.c: nodes that will be needed next. */
#define COW_READAHEAD_MAX 64u

struct cow_readahead {
	struct cow_missing node[COW_READAHEAD_MAX];
	unsigned count;
};

/* False: no room. Ignores a reference to nothing or to a cached node. */
bool cow_readahead_add(struct cow_readahead *readahead, struct cow_store *store, const struct cow_ref *ref, unsigned level);
/* Loads the nodes into the cache, as far as they can be read. */
void cow_readahead_read(struct cow_readahead *readahead, struct cow_store *store);

/* cow_set.c: the bits of a bitmap page as a set; all zero: an empty one. */
enum cow_set_form {
	COW_SET_FEW,			/* the list of set bits */
	COW_SET_ALL_BUT,		/* the list of clear bits */
	COW_SET_BITMAP,
};

struct cow_set {
	void *items;			/* uint16_t, sorted; or COW_BLOCK bytes */
	uint16_t count;			/* set bits */
	uint16_t listed, room;
	uint8_t form;
};
bool cow_set_has(const struct cow_set *set, unsigned bit);
/* The first set bit from @bit on; COW_PAGE_BITS: none. */
unsigned cow_set_next(const struct cow_set *set, unsigned bit);
/*
 * 0, or -ENOMEM with the set unchanged. Does not fail when it undoes the last
 * change, nor in a bitmap, nor when a set that began empty loses a bit.
 */
int cow_set_put(struct cow_set *set, unsigned bit, bool value);
int cow_set_make_bitmap(struct cow_set *set);
/* Load COW_BLOCK bytes into an empty set, or store them. */
int cow_set_load(struct cow_set *set, const uint8_t *bytes);
void cow_set_store(const struct cow_set *set, uint8_t *bytes);
void cow_set_free(struct cow_set *set);		/* leaves an empty set */

/* cow_alloc.c: which store blocks are in use. */
struct cow_page {
	struct cow_ref ref;		/* as on the store */
	struct cow_set bits;		/* in use; valid if loaded */
	struct cow_set hold;		/* freed, but not to be reused yet */
	struct cow_set unpunched;	/* cow_unpunched.c */
	uint32_t clear;			/* clear bits of bits, within the store */
	bool loaded, dirty;
};

struct cow_alloc {
	struct cow_page *page;
	size_t pages, dirty_pages;
	uint64_t clear, held, unpunched;	/* sums */
	uint64_t unpunched_at;		/* where the search for the next hole starts */
	bool unrecorded;		/* other free blocks may take space on the host, too */
	bool searching;			/* for those, in what was free at the open; at search_at now */
	uint64_t search_at;
	size_t at_page;			/* page and bit of the allocation cursor */
	unsigned at_bit;
	struct cow_ref *node[COW_BITMAP_MAX_LEVELS + 1];	/* references to the nodes of each level above the pages */
	size_t nodes[COW_BITMAP_MAX_LEVELS + 1];
	unsigned levels;
	bool growing;			/* the file is being made larger */
};
unsigned cow_bitmap_levels(uint64_t store_blocks);
int cow_alloc_init(struct cow_store *store);
int cow_alloc_load(struct cow_store *store, struct error_text *error);
void cow_alloc_free(struct cow_alloc *alloc);
/* Allocates up to @want adjacent blocks; for @data it keeps the reserve free. */
int cow_alloc_run(struct cow_store *store, uint64_t want, bool data, uint64_t *block, uint64_t *got);
/*
 * True: the next cow_alloc_run(data), if there is room, takes @bit of the current page without I/O. False:
 * cow_alloc_prepare() does that I/O.
 */
bool cow_alloc_ready(struct cow_store *store, unsigned *bit);
/* Puts the run of free blocks that begins at @block on hold; returns its length, 0 if it is shorter than @least. */
unsigned cow_alloc_hold_run(struct cow_store *store, uint64_t block, unsigned most, unsigned least);
void cow_alloc_unhold_run(struct cow_store *store, uint64_t block, unsigned count);
/* Makes room for @count data blocks, and loads a page with a free one. */
int cow_alloc_prepare(struct cow_store *store, uint64_t count);
int cow_alloc_mark(struct cow_store *store, uint64_t block);		/* mark as used; may be used already */
int cow_alloc_release(struct cow_store *store, uint64_t block);	/* free, but on hold */
/* Undo a cow_alloc_run() whose blocks were not used: they are free immediately. */
void cow_alloc_return(struct cow_store *store, uint64_t block, uint64_t count);
/* The same for the end of a run; moves the cursor back if nothing was allocated since. */
void cow_alloc_give_back(struct cow_store *store, uint64_t block, uint64_t count);
void cow_alloc_unhold(struct cow_store *store, uint64_t block);
bool cow_alloc_is_used(struct cow_store *store, uint64_t block, int *error);
/* Makes the next checkpoint write all bitmap pages, and the nodes above them, to new blocks. */
int cow_alloc_move_pages(struct cow_store *store);
int cow_alloc_grow(struct cow_store *store, uint64_t store_blocks);
void cow_alloc_trim(struct cow_alloc *alloc);				/* drops clean pages */
void cow_alloc_trim_page(struct cow_alloc *alloc, size_t page);		/* this one, if it is clean */
uint64_t cow_alloc_reserve(struct cow_store *store);
/* The number of data blocks that cow_alloc_run() can give before the store has to grow. */
uint64_t cow_alloc_room(struct cow_store *store);
/* Grows the store until that is at least @count; in one fiber at a time. -ENOSPC: it cannot. Other errors: of the file system. */
int cow_alloc_make_room(struct cow_store *store, uint64_t count);
/* True if the reserve is available. A file can always grow; the size of a device is checked again. */
bool cow_alloc_has_reserve(struct cow_store *store);
void cow_alloc_count_others(struct cow_store *store);

/* cow_unpunched.c: freed blocks that still take space on the host. Used by one fiber at a time. */
void cow_unpunched_add(struct cow_store *store, uint64_t block);
/* Puts the next run of them that is still free on hold, until cow_alloc_unhold_run(); returns its length, 0: none. */
unsigned cow_unpunched_hold(struct cow_store *store, uint64_t *block);
void cow_unpunched_forget(struct cow_store *store);
/* Begin to search for free blocks that an earlier opening has left. */
void cow_unpunched_search(struct cow_store *store);
/*
 * The next part of the search: puts a run on hold, as above, which may take space on the host. Blocks before @ready that the
 * allocator takes next are left out. 0: none in this page, or the search is over.
 */
unsigned cow_unpunched_search_hold(struct cow_store *store, uint64_t ready, uint64_t *block);
/* True: the next open has to search. */
bool cow_unpunched_left(const struct cow_store *store);

/* cow_log.c: positions only grow; their place in the ring is position % size. */
struct cow_log {
	uint64_t start, size;		/* bytes */
	uint64_t head, tail;
	uint64_t sequence;		/* of the next record */
	uint32_t chain;
	uint64_t salt;
	uint8_t *buffer;		/* records not written yet */
	size_t used, room;
	bool stuck;			/* the buffer's records found no room below; they will be written again as they are */
};
int cow_log_add(struct cow_log *log, enum cow_record_type type, uint32_t count, const void *payload, size_t length,
		const void *more, size_t more_length);
int cow_log_write(struct cow_store *store);
/* With an empty buffer: write a block of zeros where the next record will begin, which only shows whether there is room. */
int cow_log_probe(struct cow_store *store);
uint64_t cow_log_used(const struct cow_log *log);
uint64_t cow_log_room(const struct cow_log *log);	/* bytes that a number of records may still take */
/* Reads the log after a crash, in large pieces. */
struct cow_log_reader {
	struct cow_record *record;	/* COW_RECORD_MAX bytes */
	uint8_t *ahead;
	uint64_t at;			/* position of ahead in the log's area, bytes */
	size_t length;
};
int cow_log_reader_init(struct cow_log_reader *reader);
void cow_log_reader_free(struct cow_log_reader *reader);
/* Finds the end of the last complete group of records. */
int cow_log_find_end(struct cow_store *store, struct cow_log_reader *reader, uint64_t *end);
/* Reads the record at the head and moves the head on; -ENOENT at the end. */
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
	int failed;			/* fatal error; never cleared */
	uint64_t store_blocks, pool_start;
	uint32_t generation, next_version;
	struct cow_version *versions, *active;
	struct cow_version **version_index;	/* the list as an array, for searches: there may be very many */
	struct cow_version *begun;	/* the version whose deletion has started; NULL: none */
	struct cow_version *gone_from;	/* no version before it is gone; NULL: none is */
	unsigned version_count, version_room;
	struct cow_cache cache;
	struct cow_alloc alloc;
	struct cow_log log;
	struct cow_base base;
	unsigned layer_entries;
	struct cow_event *events, **last_event;
	struct cow_list releases;	/* freed by the active disk, not in the log yet */
	struct cow_event *logged_events;	/* of the records in the log's buffer: see cow_flush.c */
	struct cow_list logged_releases;
	struct cow_list table_blocks;	/* of the version table on the store */
	bool flushing;			/* cow_flush() is running */
	struct cow_journal *journal;	/* NULL: none */
	struct cow_checkpoint *checkpoint;	/* the running one, or one whose superblock found no room; NULL: none */
	/* Takes over freed blocks, sorted, whose release is durable, until requests that may still read them have ended. NULL:
	 * they are free immediately. */
	void (*retire)(void *owner, struct cow_list *blocks);
	void *retire_owner;
	int (*pause)(void *owner);	/* same owner; called at times while trees are built; non-zero ends that. NULL: none */
	/* Sums over the inactive versions, if valid: those without an up-to-date tree, the entries of their layers, the
	 * blocks that those need at a checkpoint. */
	unsigned others;
	uint64_t others_entries, others_reserve;
	bool others_valid;
};

/*
 * The file system or thin volume below is full: also for overwrites, if they need new space there. Nothing in memory has
 * changed, and the same call made again may succeed.
 */
static inline bool cow_no_room(const struct cow_store *store, int error)
{
	return !store->failed && (error == -ENOSPC || error == -EDQUOT);
}

/* cow_superblock.c */
/* For readers that take no lock; accepts a committed store, too. */
int cow_superblock_peek(struct cow_device *device, struct cow_superblock *sb, struct error_text *error);
int cow_superblock_read(struct cow_device *device, struct cow_superblock *sb, bool *read_only, struct error_text *error);
/* 1, with a @text: one of the copies is as no crash leaves it. 0; -errno: neither is valid. */
int cow_superblock_compare(struct cow_device *device, char *text, size_t size);
/* The copies from *@copies on, one after the other; sequence and checksum are filled in. After cow_no_room(): call it again. */
int cow_superblock_write(struct cow_store *store, struct cow_superblock *sb, unsigned *copies);

/* cow_map.c */
unsigned cow_levels_for(uint64_t sectors);
uint64_t cow_blocks_for(uint64_t sectors);
int cow_map_lookup(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t *entry,
		   struct cow_missing *missing);
/* Prefetches what a lookup of any @block will read, as far as the nodes are cached. */
void cow_map_prefetch(struct cow_store *store, const struct cow_version *version, uint64_t block);
int cow_map_find(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t *entry);
/* cow_run.c: like cow_map_lookup() these do not wait (-EAGAIN with @missing). */
enum cow_run_kind { COW_RUN_ABSENT, COW_RUN_ZERO, COW_RUN_STORED };
/* The kind of @block, and the number of blocks of that kind from there on, below @end. */
int cow_map_run(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		enum cow_run_kind *kind, uint64_t *count, struct cow_missing *missing);
/* The same for whether two versions map the same store blocks: then neither has written since. */
int cow_map_compare(struct cow_store *store, const struct cow_version *a, const struct cow_version *b, uint64_t block,
		    uint64_t end, bool *same, uint64_t *count, struct cow_missing *missing);
/* How much of the base the version may show. */
uint64_t cow_base_sectors(const struct cow_store *store, const struct cow_version *version);
bool cow_map_shows_base(const struct cow_store *store, const struct cow_version *version, uint64_t block);
bool cow_entry_valid(const struct cow_store *store, uint64_t entry, uint32_t max_birth);
/* The last generation of the nearest ancestor of the active version that is not gone; 0: none. */
uint32_t cow_map_shared_until(const struct cow_store *store);
/* True when only @version holds the block born in @birth that ends, in disk blocks, at @end. */
bool cow_map_exclusive(const struct cow_version *version, uint32_t birth, uint64_t end);
const struct cow_version *cow_map_tree(const struct cow_version *version);	/* the version whose tree it uses; NULL: none */
/* The node at a place of the tree that the version uses. */
int cow_map_node(struct cow_store *store, const struct cow_version *version, unsigned level, uint64_t index,
		 struct cow_ref *ref);

/* cow_extent.c: the first block from @block on, below @end, that may have an entry; @end: none. */
int cow_map_next(struct cow_store *store, const struct cow_version *version, uint64_t block, uint64_t end,
		 uint64_t *next);
/* The same for a layer and what is below it. */
uint64_t cow_layer_next(const struct cow_layer *layer, uint64_t block, uint64_t end);
/* Looks at @max sectors at most. */
int cow_version_extent(struct cow_store *store, const struct cow_version *version, uint64_t sector, uint64_t max,
		       struct cow_extent *extent);

/* cow_io.c: zero, or discard whole blocks, from *@sector on. Advances *@sector; stops after *@budget blocks. */
int cow_zero_some(struct cow_store *store, uint64_t *sector, uint64_t end, bool parts, uint64_t *budget);
/* Makes an absent block an explicit zero. */
int cow_zero_mask(struct cow_store *store, uint64_t block);
/* For tests: tools have cow_view_read(), and never discard. Read a snapshot; -ENOENT. */
int cow_discard(struct cow_store *store, uint64_t sector, uint64_t nr_sectors);
int cow_snapshot_read(struct cow_store *store, const char *name, void *data, uint64_t sector, uint64_t nr_sectors);

/* cow_commit.c: 0 when there are no snapshots; cow_only_active() also frees the space of deleted versions. */
int cow_no_snapshots(const struct cow_store *store, const char *otherwise, struct error_text *error);
int cow_only_active(struct cow_store *store, const char *otherwise, struct error_text *error);
/* Set COW_BASE_COMMITTING or COW_BASE_COMMITTED in the superblocks, durable. */
int cow_commit_mark(struct cow_store *store, uint32_t flag);
/* -ENOSPC with a text: the device @name is smaller than the disk. The commit can continue when it has grown. */
int cow_commit_too_small(const struct cow_store *store, const char *name, struct error_text *error);

/* cow_version.c */
struct cow_version *cow_version_new(struct cow_store *store, uint32_t id, struct cow_version *parent);
struct cow_version *cow_version_find(const struct cow_store *store, uint32_t id);
/* The first one whose id is @id or more; NULL: none. */
struct cow_version *cow_version_from(const struct cow_store *store, uint64_t id);
struct cow_version *cow_version_by_name(const struct cow_store *store, const char *name);
struct cow_version *cow_version_child(const struct cow_version *version);	/* NULL: none; any of several */
/* Set the in-memory state of a durable deletion, and its progress. */
void cow_version_delete(struct cow_store *store, struct cow_version *version);
void cow_version_set_cursor(struct cow_store *store, struct cow_version *version, uint64_t cursor);
void cow_version_remove(struct cow_store *store, struct cow_version *version);
void cow_version_free_all(struct cow_store *store);
bool cow_version_gone(const struct cow_version *version);
int cow_version_load(struct cow_store *store, struct error_text *error);
/* Writes the table to new blocks. @blocks: the blocks; @ref: the first. */
int cow_version_save(struct cow_store *store, struct cow_list *blocks, struct cow_ref *ref);
size_t cow_version_table_blocks(const struct cow_store *store);

/* cow_snapshot.c: apply a record to the store in memory, at replay and otherwise. */
int cow_snapshot_apply(struct cow_store *store, const struct cow_snapshot_payload *payload, const char *text);
int cow_event_add(struct cow_store *store, struct cow_version *version, enum cow_record_type type, uint32_t count,
		  const void *payload, size_t length);
/* Begin a new active version on @parent, in the next generation. */
int cow_active_begin(struct cow_store *store, struct cow_version *parent);
/* Check that a new version fits into the table that the next checkpoint writes, and has an id. */
int cow_version_room(struct cow_store *store, struct error_text *error);
int cow_version_drop(struct cow_store *store, struct cow_version *version);	/* add the record of its deletion */
/* cow_snapshot_prepare() without the check of the name. */
int cow_version_prepare(struct cow_store *store, const char *name, const char *description, const char *decision,
			struct error_text *error);
/* Find a listed snapshot, or with @prepared a prepared one. */
int cow_snapshot_find(struct cow_store *store, const char *name, bool prepared, struct cow_version **version,
		      struct error_text *error);
int cow_snapshot_room(struct cow_store *store, struct error_text *error);	/* in the log, for a command */
int cow_snapshot_flush(struct cow_store *store, const char *what, const char *name, struct error_text *error);
/*
 * The flush for a new snapshot ended with @ret. A record that found no room cannot be taken back: unless the snapshot is in
 * @use already, its deletion follows.
 */
int cow_snapshot_made(struct cow_store *store, const char *name, bool use, int ret, struct error_text *error);
/* A command that cannot be taken back fails before it has an effect, if there is no room for its record. */
int cow_snapshot_probe(struct cow_store *store, struct error_text *error);

/* cow_decision.c: the first prepared version; NULL: none */
const struct cow_version *cow_prepared_next(const struct cow_store *store);

/* cow_revert.c */
int cow_revert_apply(struct cow_store *store, const struct cow_revert_payload *payload);
int cow_revert_commit(struct cow_store *store, struct cow_version *intent, struct error_text *error);
/* The same in memory only, for a read-only store. */
int cow_revert_show(struct cow_store *store, struct cow_version *intent, struct error_text *error);
bool cow_revert_awaits(const struct cow_store *store, const char *name);

/* Set a version's three texts from a record that holds them one after the other. */
int cow_version_set_text(struct cow_version *version, const char *text, size_t name, size_t description, size_t decision);

/* cow_text.c */
bool cow_name_valid(const char *name, size_t length);
/* True for a name that a record may hold: also "", and that of a prepared revert. */
bool cow_name_kept(const char *name, size_t length);
bool cow_description_valid(const char *text);
/* Copies @text with a "?" for each invalid byte, so the length stays the same. */
void cow_description_show(const char *text, char *shown);

/* cow_delete.c */
struct cow_version *cow_delete_next(struct cow_store *store);
/* A step of the next deletion: ready, if no checkpoint must come first; look, which loads the nodes that it needs into the
 * cache, while others may change the map; walk, the step itself, which becomes durable with the next flush. */
bool cow_delete_ready(struct cow_store *store);
void cow_delete_look(struct cow_store *store);
int cow_delete_walk(struct cow_store *store);

/* cow_flush.c */
/* What a failed sync has not written is lost: it makes the store fail, for whatever reason. */
int cow_store_sync(struct cow_store *store);
/* True when nothing has to be logged, and no log record is in flight: a flush is then just a sync. */
bool cow_flush_idle(const struct cow_store *store);

/* cow_replay.c: replay the log, then the journal at @journal (may be NULL). */
int cow_replay(struct cow_store *store, const char *journal, struct error_text *error);

/* cow_journal.c. Map changes of the active disk: @count blocks from @block on, with consecutive entries from @entry. */
void cow_journal_map(struct cow_store *store, uint64_t block, uint64_t entry, uint64_t count);
/* Takes effect with the map change that follows. */
void cow_journal_release(struct cow_store *store, uint64_t block);
void cow_journal_event(struct cow_store *store, enum cow_record_type type, uint32_t count, const void *payload, size_t length);
/* A flush begins, and gathers all changes so far. */
void cow_journal_cut(struct cow_store *store);
/* Around the checkpoint with the new salt @salt at an open for writing: before it; when it is durable. */
int cow_journal_prepare(struct cow_store *store, const char *path, uint64_t salt);
void cow_journal_begin(struct cow_store *store);
/* The store is being freed; @needed: the journal may have changes that are nowhere else. */
void cow_journal_end(struct cow_store *store, bool needed);
/* -ESTALE: another process has changed the store since; -ENOBUFS: the journal is incomplete; -EUCLEAN. */
int cow_journal_replay(struct cow_store *store, const char *path, int (*replay)(struct cow_store *store,
		       const struct cow_record *record), struct error_text *text);
/* For an open store: start a new journal at another path. */
int cow_journal_attach(struct cow_store *store, const char *path);

/* cow_checkpoint.c */
int cow_checkpoint_write(struct cow_store *store, uint32_t flags, uint64_t salt);
/* The same in four steps. begin and settle need a map that does not change and is in the log; others may write during build
 * and end. A step that fails aborts the checkpoint; but when end finds no room (cow_no_room()), the checkpoint stays. Then
 * catch_up() must end it before the next one, a new version, or a deletion's next step. */
int cow_checkpoint_begin(struct cow_store *store, uint32_t flags, uint64_t salt);
int cow_checkpoint_build(struct cow_store *store);
int cow_checkpoint_settle(struct cow_store *store);
int cow_checkpoint_end(struct cow_store *store);
void cow_checkpoint_abort(struct cow_store *store);	/* between two steps */
void cow_checkpoint_forget(struct cow_store *store);	/* the store is being freed */
/* Write what found no room: log records, then the superblocks of a checkpoint. Not while another fiber makes one. */
int cow_checkpoint_catch_up(struct cow_store *store);
bool cow_checkpoint_behind(const struct cow_store *store);	/* true: there is such */
/* Before a change: make room in the log and in memory. */
int cow_checkpoint_if_due(struct cow_store *store);
bool cow_checkpoint_due(struct cow_store *store);
/* False: map changes must wait until the running checkpoint has progressed. */
bool cow_checkpoint_keeps_up(const struct cow_store *store);
/* Long overdue: it must come before anything else. */
bool cow_checkpoint_overdue(struct cow_store *store);
/* Size in bytes of the log records of unlogged map changes. */
uint64_t cow_flush_bytes(const struct cow_store *store);
int cow_bitmap_write(struct cow_store *store, struct cow_list *allocated, struct cow_list *freed, struct cow_ref *root);

#endif
