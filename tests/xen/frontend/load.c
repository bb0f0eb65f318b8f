/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * load.c - requests whose data is known: each block that is written gets a
 * new version, and what is read has to be the last one.
 *
 * Invariants: an extent has at most one request in flight; a slot has the
 * data pages from slot * EXTENT_BLOCKS on; a block's version in the model
 * changes when its write is answered.
 */
#include "frontend.h"

#include <xen/io/blkif.h>

void load_init(struct load *load, struct disk *disk, struct blkfront *front, unsigned queues)
{
	*load = (struct load){
		.disk = disk, .front = front, .queues = queues, .indirect = true, .random = 88172645463325252ull + disk->devid,
	};
}

static unsigned load_random(struct load *load, unsigned below)
{
	load->random ^= load->random << 13;
	load->random ^= load->random >> 7;
	load->random ^= load->random << 17;
	return (load->random >> 32) % below;
}

static uint8_t *slot_page(const struct load *load, unsigned slot, unsigned i)
{
	return (uint8_t *)blkfront_data(load->front) + (size_t)(slot * EXTENT_BLOCKS + i) * PAGE_SIZE;
}

static bool extent_is_busy(const struct load *load, unsigned extent)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (load->slots[i].busy && load->slots[i].block / EXTENT_BLOCKS == extent)
			return true;
	return false;
}

static void slot_choose(struct load *load, struct load_slot *slot)
{
	unsigned extent, first = load_random(load, EXTENT_BLOCKS);

	do
		extent = load_random(load, load->disk->extents);
	while (extent_is_busy(load, extent));
	slot->block = extent * EXTENT_BLOCKS + first;
	slot->count = 1 + load_random(load, EXTENT_BLOCKS - first);
	slot->indirect = load->indirect && (slot->count > BLKIF_MAX_SEGMENTS_PER_REQUEST || load_random(load, 4) == 0);
	if (!slot->indirect && slot->count > BLKIF_MAX_SEGMENTS_PER_REQUEST)
		slot->count = BLKIF_MAX_SEGMENTS_PER_REQUEST;
	slot->write = load_random(load, 2);
}

/* Puts it into the ring; false: there is no room. */
static bool slot_put(struct load *load, unsigned number)
{
	struct load_slot *slot = &load->slots[number];
	struct blkfront_segment segments[EXTENT_BLOCKS];

	for (unsigned i = 0; i < slot->count; i++) {
		segments[i] = (struct blkfront_segment){
			.page = blkfront_data_ref(load->front, number * EXTENT_BLOCKS + i), .first = 0, .last = 7,
		};
		if (slot->write)
			block_fill(load->disk, slot->block + i, load->disk->versions[slot->block + i] + 1,
				   slot_page(load, number, i));
		else
			memset(slot_page(load, number, i), 0xee, PAGE_SIZE);
	}
	return !blkfront_rw(load->front, slot->queue, number, slot->write, (uint64_t)slot->block * BLOCK_SECTORS, segments,
			    slot->count, slot->indirect);
}

static void load_push(struct load *load)
{
	for (unsigned i = 0; i < load->queues; i++)
		blkfront_push(load->front, i);
}

void load_fill(struct load *load)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		struct load_slot *slot = &load->slots[i];

		if (slot->busy)
			continue;
		slot->queue = load_random(load, load->queues);
		slot_choose(load, slot);
		slot->busy = slot_put(load, i);
	}
	load_push(load);
}

static void slot_finish(struct load *load, const struct blkfront_response *response)
{
	static uint64_t expected[PAGE_SIZE / 8];
	struct load_slot *slot = response->id < SLOTS ? &load->slots[response->id] : NULL;
	uint32_t *versions = load->disk->versions;

	if (!slot || !slot->busy)
		fail("%s: an answer to request %llu, which was not asked", load->disk->image,
		     (unsigned long long)response->id);
	if (response->status != BLKIF_RSP_OKAY)
		fail("%s: %s of %u blocks at %u: status %d", load->disk->image, slot->write ? "write" : "read", slot->count,
		     slot->block, response->status);
	for (unsigned i = 0; i < slot->count; i++) {
		unsigned block = slot->block + i;

		if (slot->write) {
			versions[block]++;
			continue;
		}
		block_fill(load->disk, block, versions[block], expected);
		if (memcmp(expected, slot_page(load, response->id, i), PAGE_SIZE))
			fail("%s: block %u as read is not version %u", load->disk->image, block, versions[block]);
	}
	slot->busy = false;
}

/* Wait for answers if there are none; returns their number. */
static unsigned load_reap(struct load *load)
{
	struct blkfront_response responses[SLOTS];
	unsigned total = 0, count;
	int r = blkfront_wait_any(load->front, TIMEOUT_MS);

	if (r <= 0)
		fail("%s: no answer: %s", load->disk->image, r ? strerror(-r) : "timed out");
	for (unsigned i = 0; i < load->queues; i++) {
		count = blkfront_reap(load->front, i, responses, SLOTS);
		for (unsigned j = 0; j < count; j++)
			slot_finish(load, &responses[j]);
		total += count;
	}
	return total;
}

void load_run(struct load *load, unsigned requests)
{
	for (unsigned done = 0; done < requests; done += load_reap(load))
		load_fill(load);
}

void load_drain(struct load *load)
{
	for (unsigned i = 0; i < SLOTS; i++)
		while (load->slots[i].busy)
			load_reap(load);
}

void load_move(struct load *load, struct blkfront *front, unsigned queues)
{
	load->front = front;
	load->queues = queues;
	for (unsigned i = 0; i < SLOTS; i++) {
		load->slots[i].queue %= queues;
		if (load->slots[i].busy && !slot_put(load, i))
			fail("a fresh ring is full");
	}
	load_push(load);
}
