/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_superblock.c - the two copies of the superblock.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow_base.h"
#include "cow_internal.h"

/* The first sector, which a crash leaves as a whole, has all but the end of the base's name and what follows that. */
#define HEAD 512u
#define HEAD_TARGET (HEAD - offsetof(struct cow_superblock, base.target))	/* bytes of the name in it */
#define BASE_FLAGS (COW_BASE_COMMITTING | COW_BASE_COMMITTED)

struct copies {
	struct cow_superblock *sb;
	int ret[2];			/* of copy_read() */
	unsigned newer;			/* the valid copy with the higher sequence */
};

static uint32_t superblock_crc(const struct cow_superblock *sb)
{
	struct cow_superblock copy = *sb;

	copy.crc = 0;
	return cow_crc(0, &copy, sizeof(copy));
}

static uint64_t copy_offset(uint64_t sequence)
{
	return sequence % 2 ? COW_COPY_BLOCK << COW_SHIFT : 0;
}

/* A base in a store has a snapshot id; only a raw base can be written to. */
static bool base_sane(const struct cow_superblock *sb)
{
	const struct cow_base_fields *base = &sb->base;

	if (sb->base_kind == COW_BASE_NONE)
		return !base->target[0] && !base->sectors && !base->version && !base->flags;
	return base->target[0] && !base->target[COW_TARGET_MAX - 1] && base->sectors <= COW_MAX_BLOCKS * COW_SECTORS &&
		(sb->base_kind == COW_BASE_COW) == !!base->version && !(base->flags & ~BASE_FLAGS) &&
		!(base->flags && sb->base_kind != COW_BASE_RAW);
}

/* Checks the numbers that all other checks rely on. */
static bool superblock_sane(const struct cow_superblock *sb)
{
	return sb->log_start == COW_LOG_START && sb->log_blocks >= COW_LOG_MIN_BLOCKS &&
		sb->log_blocks <= COW_LOG_MAX_BLOCKS && sb->log_tail < sb->log_blocks << COW_SHIFT &&
		!(sb->log_tail % COW_BLOCK) && sb->store_blocks <= COW_MAX_BLOCKS &&
		sb->store_blocks > sb->log_start + sb->log_blocks && sb->sequence < UINT64_MAX - 4 &&
		sb->log_sequence < 1ull << 62 && (sb->sector_size == 512 || sb->sector_size == 4096) && sb->generation &&
		sb->generation <= COW_MAX_GENERATION && sb->active && sb->active < sb->next_version &&
		sb->versions_count && sb->versions_count <= COW_MAX_VERSIONS && sb->base_kind <= COW_BASE_COW &&
		base_sane(sb);
}

/* 0 when the copy is valid; -EUCLEAN otherwise. */
static int copy_read(struct cow_device *device, unsigned copy, struct cow_superblock *sb)
{
	int ret = device->ops->read(device, sb, copy_offset(copy), sizeof(*sb));

	if (ret)
		return ret;
	if (memcmp(sb->magic, COW_MAGIC, sizeof(sb->magic)) || sb->crc != superblock_crc(sb))
		return -EUCLEAN;
	return 0;
}

static int superblock_check(struct cow_device *device, const struct cow_superblock *sb, bool *read_only,
			    struct error_text *error)
{
	uint64_t blocks = device->ops->size(device) >> COW_SHIFT;

	if (sb->version != COW_FORMAT_VERSION)
		return error_set(error, -ENOTSUP, "%s: a store of format version %u: this program knows version %u",
				 device->name, sb->version, COW_FORMAT_VERSION);
	if (sb->incompatible)
		return error_set(error, -ENOTSUP, "%s: the store needs features (bits %#llx) that this program does not have",
				 device->name, (unsigned long long)sb->incompatible);
	if (sb->read_only_compatible && !*read_only)
		return error_set(error, -EROFS, "%s: the store has features (bits %#llx) with which this program can only "
				 "read it: open it read-only", device->name, (unsigned long long)sb->read_only_compatible);
	if (!superblock_sane(sb))
		return error_set(error, -EUCLEAN, "%s: damaged: its superblock makes no sense", device->name);
	if (sb->store_blocks > blocks)
		return error_set(error, -EUCLEAN, "%s: cut short: the store has %llu bytes and should have %llu",
				 device->name, (unsigned long long)blocks << COW_SHIFT,
				 (unsigned long long)sb->store_blocks << COW_SHIFT);
	return 0;
}

/* @copies: all zero; its memory is to be freed, also on failure. */
static int copies_load(struct cow_device *device, struct copies *copies, struct error_text *error)
{
	struct cow_superblock *sb;
	int *ret = copies->ret;

	if (device->ops->size(device) <= COW_LOG_START << COW_SHIFT)
		return error_set(error, -EUCLEAN, "%s: not a cow store: too small for one", device->name);
	sb = copies->sb = aligned_alloc(COW_BLOCK, 2 * sizeof(*sb));
	if (!sb)
		return error_set(error, -ENOMEM, "%s: out of memory", device->name);
	ret[0] = copy_read(device, 0, &sb[0]);
	ret[1] = copy_read(device, 1, &sb[1]);
	copies->newer = ret[0] || (!ret[1] && sb[1].sequence > sb[0].sequence);
	if (!ret[0] || !ret[1])
		return 0;
	if (ret[0] != -EUCLEAN || ret[1] != -EUCLEAN)
		return error_set(error, -EIO, "%s: its superblocks cannot be read", device->name);
	return error_set(error, -EUCLEAN, "%s: not a cow store, or both its superblocks are damaged", device->name);
}

/* Reads the newer valid copy. */
static int copies_read(struct cow_device *device, struct cow_superblock *sb, struct error_text *error)
{
	struct copies copies = { 0 };
	int ret = copies_load(device, &copies, error);

	if (!ret)
		*sb = copies.sb[copies.newer];
	free(copies.sb);
	return ret;
}

int cow_superblock_peek(struct cow_device *device, struct cow_superblock *sb, struct error_text *error)
{
	bool read_only = true;
	int ret = copies_read(device, sb, error);

	return ret ? ret : superblock_check(device, sb, &read_only, error);
}

int cow_superblock_read(struct cow_device *device, struct cow_superblock *sb, bool *read_only, struct error_text *error)
{
	int ret = copies_read(device, sb, error);

	if (!ret)
		ret = superblock_check(device, sb, read_only, error);
	if (!ret && sb->base.flags & COW_BASE_COMMITTED)
		ret = error_set(error, -ESTALE, "%s: was committed to its base, which is the disk now: open %s, and remove this store",
				device->name, sb->base.target);
	return ret;
}

static bool same_store(const struct cow_superblock *a, const struct cow_superblock *b)
{
	return !memcmp(a->magic, b->magic, sizeof(a->magic)) && a->version == b->version &&
		!memcmp(a->uuid, b->uuid, sizeof(a->uuid)) && a->log_blocks == b->log_blocks && a->sector_size == b->sector_size;
}

static bool zero_padded(const char *text, size_t room)
{
	size_t length = strnlen(text, room);

	return cow_all_zero(text + length, room - length);
}

/* What follows the head may be of another write than the head, each sector of it of another again. */
static bool tail_sane(const struct cow_superblock *sb)
{
	const struct cow_base_fields *base = &sb->base;

	return zero_padded(base->target + HEAD_TARGET, HEAD) &&
		zero_padded(base->target + HEAD_TARGET + HEAD, COW_TARGET_MAX - HEAD_TARGET - HEAD) &&
		!base->version == cow_all_zero(base->uuid, sizeof(base->uuid)) && (base->version || !base->time) &&
		!(base->flags & ~BASE_FLAGS) && cow_all_zero(sb->zero, sizeof(sb->zero));
}

/* The checksum in the head covers what its own write had behind it: what @whole has there, flags aside. */
static bool head_fits(const struct cow_superblock *torn, const struct cow_superblock *whole)
{
	struct cow_superblock sb = *whole;

	memcpy(&sb, torn, HEAD);
	for (sb.base.flags = 0; sb.base.flags <= BASE_FLAGS; sb.base.flags++) {
		if (superblock_crc(&sb) == torn->crc)
			return true;
	}
	return false;
}

/* The two writes had different bases, and of one the end may be lost: nothing can be said about its checksum. */
static bool tail_unknown(const struct cow_superblock *torn, const struct cow_superblock *whole)
{
	if (torn->base_kind > COW_BASE_COW)
		return false;
	if (!memchr(torn->base.target, 0, HEAD_TARGET) || !memchr(whole->base.target, 0, HEAD_TARGET))
		return true;
	return (torn->base_kind == COW_BASE_COW || whole->base_kind == COW_BASE_COW) &&
		(torn->base_kind != whole->base_kind ||
		 memcmp(&torn->base, &whole->base, HEAD - offsetof(struct cow_superblock, base)));
}

/* True for what a crash can leave of a copy: sectors of the write before that of @whole, and of the one after it. */
static bool torn_by_crash(const struct cow_superblock *torn, const struct cow_superblock *whole)
{
	if (!tail_sane(torn))
		return false;
	if (whole->sequence == 1 && cow_all_zero(torn, HEAD))
		return true;		/* the store was being made: this copy had been wiped */
	return same_store(torn, whole) && (torn->sequence + 1 == whole->sequence || torn->sequence == whole->sequence + 1) &&
		(head_fits(torn, whole) || tail_unknown(torn, whole));
}

/* What is wrong with @copy, beside the valid copy that counts; NULL: nothing. */
static const char *copy_fault(const struct copies *copies, unsigned copy)
{
	const struct cow_superblock *sb = &copies->sb[copy], *whole = &copies->sb[!copy];
	bool in_place = copy_offset(whole->sequence) == copy_offset(!copy);

	if (copies->ret[copy] == -EUCLEAN)
		return in_place && torn_by_crash(sb, whole) ? NULL : "is damaged";
	if (copies->ret[copy])
		return "cannot be read";
	if (!same_store(sb, whole))
		return "is of another store";
	return in_place && sb->sequence + 1 == whole->sequence ? NULL : "is not of the write before the other one's";
}

int cow_superblock_compare(struct cow_device *device, char *text, size_t size)
{
	struct copies copies = { 0 };
	const char *fault = NULL;
	int ret = copies_load(device, &copies, NULL);

	if (!ret)
		fault = copy_fault(&copies, !copies.newer);
	if (fault)
		snprintf(text, size, "superblock copy %u (store block %llu) %s", !copies.newer,
			 copies.newer ? 0 : COW_COPY_BLOCK, fault);
	free(copies.sb);
	return fault ? 1 : ret;
}

/*
 * Writes the older copy first: one of the two is whole at every moment. Both
 * get the same state, so afterwards nothing refers to the previous one. The
 * memory is allocated per call: other stores' calls may run while this one
 * waits.
 */
int cow_superblock_write(struct cow_store *store, struct cow_superblock *sb, unsigned *copies)
{
	struct cow_device *device = store->device;
	struct cow_superblock *out = aligned_alloc(COW_BLOCK, sizeof(*out));
	int ret = out ? 0 : -ENOMEM;

	for (; !ret && *copies < 2; *copies += !ret) {
		sb->sequence++;
		sb->crc = superblock_crc(sb);
		*out = *sb;
		ret = device->ops->write(device, out, copy_offset(sb->sequence), sizeof(*out));
		if (cow_no_room(store, ret))
			sb->sequence--;		/* the other copy is the only whole one */
		else if (!ret)
			ret = cow_store_sync(store);
	}
	free(out);
	return ret;
}
