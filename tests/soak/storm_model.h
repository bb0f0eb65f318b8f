/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * storm_model.h - the allowed contents of the disk of test_storm.c, per block.
 *
 * A block of 4 KiB is all zeros, or holds its own number, the number of the
 * write that wrote it, and bytes that follow from the two. The model knows the
 * writes that each block may hold: one, or several after a guest left with a
 * write in flight, or (MODEL_ANY) any earlier one, after a discard.
 *
 * A block is used by one request at a time: model_take(), model_give_back().
 */
#ifndef TESTS_STORM_MODEL_H
#define TESTS_STORM_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MODEL_BLOCK	4096u
#define MODEL_WORDS	(MODEL_BLOCK / sizeof(uint64_t))
#define MODEL_MAY	4
#define MODEL_ANY	0		/* for nr_may */

struct model_block {
	uint32_t may[MODEL_MAY];	/* numbers of writes; 0: zeros, the initial contents */
	unsigned nr_may;
	bool taken;
};

static struct model_block *model;
static unsigned model_blocks;
static uint32_t model_writes;

static uint64_t model_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static void model_init(unsigned blocks)
{
	free(model);
	model = calloc(blocks, sizeof(*model));
	assert_non_null(model);
	model_blocks = blocks;
	model_writes = 0;
	for (unsigned i = 0; i < blocks; i++)
		model[i].nr_may = 1;
}

static bool model_take(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		if (model[i].taken)
			return false;
	for (unsigned i = first; i < first + count; i++)
		model[i].taken = true;
	return true;
}

static void model_give_back(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		model[i].taken = false;
}

static void model_block_fill(uint64_t *words, unsigned number, uint32_t version)
{
	words[0] = number;
	words[1] = version;
	for (unsigned i = 2; i < MODEL_WORDS; i++)
		words[i] = model_mix((uint64_t)number << 32 ^ version) + i;
}

/* Make the data of a new write; returns its number. */
static uint32_t model_fill(uint8_t *data, unsigned first, unsigned count)
{
	uint64_t words[MODEL_WORDS];

	model_writes++;
	for (unsigned i = 0; i < count; i++) {
		model_block_fill(words, first + i, model_writes);
		memcpy(data + i * MODEL_BLOCK, words, MODEL_BLOCK);
	}
	return model_writes;
}

static void model_written(unsigned first, unsigned count, uint32_t version)
{
	for (unsigned i = first; i < first + count; i++) {
		model[i].may[0] = version;
		model[i].nr_may = 1;
	}
}

static void model_maybe_written(unsigned first, unsigned count, uint32_t version)
{
	for (unsigned i = first; i < first + count; i++) {
		if (model[i].nr_may == MODEL_MAY)
			model[i].nr_may = MODEL_ANY;
		else if (model[i].nr_may != MODEL_ANY)
			model[i].may[model[i].nr_may++] = version;
	}
}

static void model_discarded(unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		model[i].nr_may = MODEL_ANY;
}

/* The number of the write that @data is from; fails if there is no such write. */
static uint32_t model_identify(const uint8_t *data, unsigned number)
{
	static const uint64_t zeros[MODEL_WORDS];
	uint64_t words[MODEL_WORDS], right[MODEL_WORDS];

	memcpy(words, data, MODEL_BLOCK);
	if (!memcmp(words, zeros, MODEL_BLOCK))
		return 0;
	model_block_fill(right, number, words[1]);
	if (words[1] > model_writes || memcmp(words, right, MODEL_BLOCK))
		fail_msg("block %u holds what was never written there (block %llu, write %llu)", number,
			 (unsigned long long)words[0], (unsigned long long)words[1]);
	return words[1];
}

/* Check that the blocks may hold @data; from now on they must. */
static void model_check(const uint8_t *data, unsigned first, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct model_block *block = &model[first + i];
		uint32_t version = model_identify(data + i * MODEL_BLOCK, first + i);
		bool good = block->nr_may == MODEL_ANY;

		for (unsigned k = 0; k < block->nr_may; k++)
			good |= block->may[k] == version;
		if (!good)
			fail_msg("block %u holds write %u and should hold %u (one of %u)", first + i, version,
				 block->may[0], block->nr_may);
		block->may[0] = version;
		block->nr_may = 1;
	}
}

#endif
