/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_model.h - a model of a store's contents, as an array, and random
 * operations on both. Each 512-byte sector is filled with one number, its tag,
 * unique to a write; tag 0 means zeros, and a base has tags of its own.
 */
#ifndef TESTS_COW_MODEL_H
#define TESTS_COW_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cow_format.h"
#include "cow_sim.h"

#define MODEL_SECTORS 12000u		/* the largest disk */
#define MODEL_SNAPSHOTS 10
#define MODEL_BASE_SECTORS 4003u

struct model_image {
	uint64_t sectors;
	uint64_t tag[MODEL_SECTORS];
};

struct model_snapshot {
	char name[16];			/* "": none */
	struct model_image image;
};

struct model_later { uint64_t sector, tag; };

enum model_pending { NOTHING, CREATING, DELETING, REVERTING, RESIZING };

struct model {
	struct sim *sim;
	struct cow_store *store;
	struct cow_base base;		/* all zero: none */
	const char *journal;		/* NULL: none */
	uint64_t random, next_tag, operations;
	struct model_image active;	/* what a read must return */
	struct model_image stable;	/* contents at the last flush */
	struct model_later *later;	/* writes since then */
	size_t nr_later, later_room;
	struct model_snapshot snapshots[MODEL_SNAPSHOTS];
	enum model_pending pending;	/* in progress at the power cut */
	struct model_snapshot target;
	unsigned next_name;
	bool small_cache;
};

void model_init(struct model *model, struct sim *sim, uint64_t seed, uint64_t sectors, bool with_base);
void model_free(struct model *model);
/* The same for one on the heap; model_end() also frees the simulated device. */
struct model *model_new(struct sim *sim, uint64_t seed, uint64_t sectors, bool with_base);
void model_end(struct model *model);
int model_open(struct model *model);
/* One random operation; 0, or the store's error (only allowed when the simulated device has failed). */
int model_step(struct model *model);
int model_write(struct model *model, uint64_t sector, uint64_t count);
int model_discard(struct model *model, uint64_t sector, uint64_t count, bool zeroes);
int model_flush(struct model *model);
int model_snapshot(struct model *model, const char *name);
int model_delete(struct model *model, const char *name);
int model_revert(struct model *model, const char *name);
/* Compare the disk and all snapshots with the model; fail the test if they differ. */
void model_verify(struct model *model);
/* The same after a crash, by the crash rule; then the model adopts the contents found. */
void model_verify_crashed(struct model *model);
void model_check(struct model *model);		/* cow_check() must find nothing */
void model_check_copies(struct sim *sim);	/* nor be able to, of the copies of the superblock, before the next open */
void model_finish_deletions(struct model *model);
/* The base's tag of a sector. */
uint64_t model_base_tag(uint64_t sector);
extern uint64_t model_seed, model_cut;		/* for messages */

/* TAPSNAP_SEED if set, else @otherwise. */
uint64_t model_first_seed(uint64_t otherwise);
unsigned model_seeds(unsigned otherwise);	/* TAPSNAP_SEEDS, the number of seeds, if set */

#endif
