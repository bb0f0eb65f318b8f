/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_create.c - create a store. The superblocks are wiped first and written
 * last, so that an unfinished store is not valid; if writing the second fails
 * after the first was written, both are wiped again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cow_base.h"
#include "cow_internal.h"

#define WIPE_BLOCKS 256ull
#define MEASURE_SLACK 1024u		/* for the table, and the part of a checkpoint's reserve beyond its need */

static uint64_t default_log_blocks(uint64_t sectors)
{
	uint64_t blocks = cow_blocks_for(sectors) / 256;

	return blocks < 256 ? 256 : blocks > COW_LOG_MAX_BLOCKS ? COW_LOG_MAX_BLOCKS : blocks;
}

static int create_check(struct cow_device *device, const struct cow_create_options *options, uint64_t log_blocks,
			struct error_text *error)
{
	unsigned sector_size = options->sector_size ? options->sector_size : 512;

	if (sector_size != 512 && sector_size != 4096)
		return error_set(error, -EINVAL, "%s: sectors of %u bytes: 512 and 4096 are supported", device->name,
				 sector_size);
	if (!options->sectors || options->sectors > COW_MAX_BLOCKS * COW_SECTORS ||
	    options->sectors % (sector_size / SECTOR_SIZE))
		return error_set(error, -EINVAL, "%s: invalid disk size %llu sectors: must be whole sectors, at most 4 PiB",
				 device->name, (unsigned long long)options->sectors);
	if (log_blocks < COW_LOG_MIN_BLOCKS || log_blocks > COW_LOG_MAX_BLOCKS)
		return error_set(error, -EINVAL, "%s: a log of %llu blocks: %llu to %llu are possible", device->name,
				 (unsigned long long)log_blocks, COW_LOG_MIN_BLOCKS, COW_LOG_MAX_BLOCKS);
	if (options->base_kind && (!options->base || !options->base->target[0] ||
				   options->base->target[COW_TARGET_MAX - 1] ||
				   options->base->sectors > COW_MAX_BLOCKS * COW_SECTORS))
		return error_set(error, -EINVAL, "%s: its base has no name, a name that is too long, or is too large",
				 device->name);
	return 0;
}

/* A file starts empty, with space for two pages, and grows; a device has a fixed size. */
static int device_prepare(struct cow_device *device, uint64_t log_blocks, struct error_text *error)
{
	uint64_t need = COW_LOG_START + log_blocks + 64;
	int ret = 0;

	if (device->ops->resize)
		ret = device->ops->resize(device, 0);
	if (!ret && device->ops->resize)
		ret = device->ops->resize(device, 2ull * COW_PAGE_BITS << COW_SHIFT);
	if (ret)
		return error_set(error, ret, "%s: cannot be made large enough: %s", device->name, strerror(-ret));
	if (device->ops->size(device) < need << COW_SHIFT)
		return error_set(error, -ENOSPC, "%s: too small for a store: %llu bytes are needed at least", device->name,
				 (unsigned long long)need << COW_SHIFT);
	return 0;
}

/* Really write the log's zeros, so that later writes to it change no file system metadata. */
static int fixed_area_wipe(struct cow_device *device, uint64_t blocks)
{
	uint64_t at, n;
	void *zeros;
	int ret;

	zeros = aligned_alloc(COW_BLOCK, WIPE_BLOCKS << COW_SHIFT);
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, WIPE_BLOCKS << COW_SHIFT);
	ret = device->ops->write(device, zeros, 0, COW_BLOCK);
	if (!ret)
		ret = device->ops->write(device, zeros, COW_COPY_BLOCK << COW_SHIFT, COW_BLOCK);
	if (!ret)
		ret = device->ops->sync(device);
	for (at = 0; !ret && at < blocks; at += n) {
		n = blocks - at < WIPE_BLOCKS ? blocks - at : WIPE_BLOCKS;
		ret = device->ops->write(device, zeros, at << COW_SHIFT, n << COW_SHIFT);
	}
	if (!ret)
		ret = device->ops->sync(device);
	free(zeros);
	return ret;
}

static void superblock_begin(struct cow_superblock *sb, const struct cow_create_options *options, uint64_t log_blocks)
{
	*sb = (struct cow_superblock){
		.magic = COW_MAGIC, .version = COW_FORMAT_VERSION, .log_start = COW_LOG_START, .log_blocks = log_blocks,
		.sector_size = options->sector_size ? options->sector_size : 512, .base_kind = options->base_kind,
	};
	if (options->base_kind)
		sb->base = *options->base;
}

static int first_version(struct cow_store *store, const struct cow_create_options *options)
{
	struct cow_version *version = cow_version_new(store, 1, NULL);

	if (!version)
		return -ENOMEM;
	version->generation = 1;
	version->sectors = options->sectors;
	version->base_shows = options->sectors;
	version->has_tree = true;
	store->active = version;
	store->generation = 1;
	store->next_version = 2;
	return 0;
}

static int store_write(struct cow_store *store, const struct cow_create_options *options)
{
	uint64_t block, salt;
	int ret;

	store->store_blocks = store->device->ops->size(store->device) >> COW_SHIFT;
	if (store->store_blocks > COW_MAX_BLOCKS)
		store->store_blocks = COW_MAX_BLOCKS;
	store->pool_start = store->sb.log_start + store->sb.log_blocks;
	store->log.size = store->sb.log_blocks << COW_SHIFT;
	store->log.sequence = 1;
	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt) ||
	    getrandom(store->sb.uuid, sizeof(store->sb.uuid), 0) != sizeof(store->sb.uuid))
		return -EIO;
	ret = cow_cache_init(&store->cache, COW_BLOCK);
	if (!ret)
		ret = first_version(store, options);
	if (!ret)
		ret = cow_alloc_init(store);
	for (block = 0; !ret && block < store->pool_start; block++)
		ret = cow_alloc_mark(store, block);
	return ret ? ret : cow_checkpoint_write(store, COW_SB_CLEAN, salt);
}

void cow_wipe(struct cow_device *device)
{
	cow_device_zero(device, 0, COW_BLOCK);
	cow_device_zero(device, COW_COPY_BLOCK << COW_SHIFT, COW_BLOCK);
	device->ops->sync(device);
}

int cow_create(struct cow_device *device, const struct cow_create_options *options, struct error_text *error)
{
	uint64_t log_blocks = options->log_blocks ? options->log_blocks : default_log_blocks(options->sectors);
	struct cow_store *store;
	int ret;

	ret = create_check(device, options, log_blocks, error);
	if (!ret)
		ret = device_prepare(device, log_blocks, error);
	if (ret)
		return ret;
	store = calloc(1, sizeof(*store));
	if (!store)
		return error_set(error, -ENOMEM, "%s: out of memory", device->name);
	store->device = device;
	store->last_event = &store->events;
	superblock_begin(&store->sb, options, log_blocks);
	ret = fixed_area_wipe(device, COW_LOG_START + log_blocks);
	if (!ret)
		ret = store_write(store, options);
	cow_abandon(store);
	if (ret)
		cow_wipe(device);
	if (ret)
		return error_set(error, ret, "%s: the store cannot be written: %s", device->name, strerror(-ret));
	return 0;
}

/* Map nodes of all levels, if @leaves are spread over the disk in the worst way. */
static uint64_t nodes_above(uint64_t disk_blocks, uint64_t leaves)
{
	uint64_t sum = 0, total;
	unsigned level;

	for (level = 1; level <= COW_MAX_LEVELS; level++) {
		total = disk_blocks / cow_span(level) + 1;
		sum += total < leaves ? total : leaves;
	}
	return sum;
}

/* Counts the nodes twice: a checkpoint may write all of them before the last one's are free. */
uint64_t cow_measure(uint64_t sectors, uint64_t blocks, uint64_t leaves)
{
	uint64_t disk_blocks = cow_blocks_for(sectors), sum, pages;

	if (sectors > COW_MAX_BLOCKS * COW_SECTORS)
		return 0;
	sum = COW_LOG_START + default_log_blocks(sectors) + blocks + 2 * nodes_above(disk_blocks, leaves) + MEASURE_SLACK;
	for (pages = sum / COW_PAGE_BITS + 1; pages > 1; pages = pages / COW_NODE_REFS + 1)
		sum += 2 * pages;
	return (sum + 2) << COW_SHIFT;
}
