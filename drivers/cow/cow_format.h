/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_format.h - the bytes of a cow store, as specified in docs/cow-format.md.
 *
 * Numbers are little-endian and used without conversion, so a big-endian
 * machine is refused here.
 */
#ifndef DRIVERS_COW_FORMAT_H
#define DRIVERS_COW_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "cow.h"
#include "protocol.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the store's numbers are little-endian");

#define COW_SHIFT		12
#define COW_BLOCK		4096u
#define COW_SECTORS		8u			/* 512-byte sectors in a block */
#define COW_MAGIC		"TAPSNAP\n"
#define COW_FORMAT_VERSION	1
#define COW_COPY_BLOCK		256ull			/* place of the second superblock */
#define COW_LOG_START		512ull
#define COW_MAX_BLOCKS		(1ull << 40)		/* for a store, and for a disk */
#define COW_MAX_GENERATION	((1u << 24) - 1)
#define COW_LOG_MIN_BLOCKS	64ull
#define COW_LOG_MAX_BLOCKS	8192ull			/* keeps the fixed area within the first bitmap page */
#define COW_MAX_VERSIONS	(1u << 20)		/* limits memory for a hostile store */

#define COW_LEAF_ENTRIES	512u
#define COW_NODE_REFS		256u
#define COW_MAX_LEVELS		5u			/* 2^9 * 2^32 disk blocks, more than the maximum */
#define COW_PAGE_BITS		32768u			/* store blocks that a bitmap page covers */
#define COW_BITMAP_MAX_LEVELS	5u

#define COW_NAME_MAX		SNAPSHOT_TEXT_MAX
#define COW_DESCRIPTION_MAX	SNAPSHOT_DESCRIPTION_MAX
#define COW_DECISION_MAX	SNAPSHOT_TEXT_MAX
#define COW_PREPARED_MAX 64u	/* prepared snapshots in a store */

/* A reference to a block of metadata. */
struct cow_ref {
	uint64_t where;			/* store block and birth, as in an entry; 0: no block */
	uint32_t crc;
	uint32_t extra;
};

struct cow_superblock {
	char magic[8];
	uint32_t version, crc;
	uint64_t incompatible, read_only_compatible, compatible;
	uint8_t uuid[16];
	uint64_t sequence, salt;
	uint64_t store_blocks;
	uint64_t log_start, log_blocks;
	uint64_t log_tail;		/* byte offset within the log */
	uint64_t log_sequence;
	uint32_t log_chain;
	uint32_t sector_size;
	uint32_t generation, active, next_version, flags;
	uint32_t bitmap_levels, versions_count;
	struct cow_ref versions;
	struct cow_ref bitmap;
	uint32_t base_kind, reserved;
	struct cow_base_fields base;
	uint8_t zero[4096 - 184 - sizeof(struct cow_base_fields)];
};

#define COW_SB_CLEAN 1u
#define COW_SB_UNPUNCHED 2u		/* only with COW_SB_CLEAN */

#define COW_TABLE_MAGIC 0x52455654u	/* "TVER" */
struct cow_table_header {
	uint32_t magic, count;
	struct cow_ref next;
	uint64_t reserved;
};

#define COW_VERSION_DELETED 1u
struct cow_version_record {
	uint32_t id, parent;
	uint32_t generation, flags;
	uint64_t time;
	uint64_t sectors, base_shows;
	struct cow_ref map;
	uint32_t map_levels;
	uint16_t name_length, description_length;
	uint64_t cursor;
	uint16_t decision_length;
	uint8_t reserved[54];
};

#define COW_LOG_MAGIC 0x474f4c54u	/* "TLOG" */
struct cow_record {
	uint32_t magic, crc;
	uint64_t sequence;
	uint32_t length, type;
	uint32_t count, flags;
};

#define COW_RECORD_MORE 1u		/* valid only together with the next record */

enum cow_record_type {
	COW_RECORD_MAP = 1,
	COW_RECORD_SNAPSHOT,
	COW_RECORD_REVERT,
	COW_RECORD_DELETE,
	COW_RECORD_FREE,
	COW_RECORD_RESIZE,
	COW_RECORD_RELEASE,
	COW_RECORD_COMMIT,
};

struct cow_map_element { uint64_t block, entry; };

struct cow_snapshot_payload {
	uint32_t id, generation;
	uint64_t time;
	uint16_t name_length, description_length;
	uint16_t decision_length, reserved;
};

struct cow_revert_payload { uint32_t target, id, generation, reserved; };
struct cow_delete_payload { uint32_t id, reserved; };
struct cow_commit_payload { uint32_t id, reserved; };
struct cow_free_payload { uint32_t id, flags; uint64_t cursor; };
struct cow_resize_payload { uint64_t sectors, base_shows; };

#define COW_FREE_DONE 1u

_Static_assert(sizeof(struct cow_ref) == 16, "reference");
_Static_assert(offsetof(struct cow_superblock, base) == 184, "superblock");
_Static_assert(sizeof(struct cow_superblock) == COW_BLOCK, "superblock");
_Static_assert(sizeof(struct cow_base_fields) == 5 * 8 + COW_TARGET_MAX + 32, "base");
_Static_assert(sizeof(struct cow_table_header) == 32, "table header");
_Static_assert(sizeof(struct cow_version_record) == 128, "version record");
_Static_assert(sizeof(struct cow_record) == 32, "log record");
_Static_assert(sizeof(struct cow_snapshot_payload) == 24, "snapshot payload");
_Static_assert(sizeof(struct cow_map_element) == 16, "map element");

/* Entries, and the first word of references: block and birth. */
#define COW_BLOCK_MASK ((1ull << 40) - 1)

static inline uint64_t cow_entry(uint64_t block, uint32_t birth)
{
	return (uint64_t)birth << 40 | block;
}

static inline uint64_t cow_entry_block(uint64_t entry)
{
	return entry & COW_BLOCK_MASK;
}

static inline uint32_t cow_entry_birth(uint64_t entry)
{
	return (uint32_t)(entry >> 40);
}

/* Disk blocks that a map node of @level (1: leaf) spans. */
static inline uint64_t cow_span(unsigned level)
{
	return (uint64_t)COW_LEAF_ENTRIES << 8 * (level - 1);
}

#endif
