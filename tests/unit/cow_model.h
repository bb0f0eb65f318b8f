/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_model.h - what a store has to hold, as an array, and random use of
 * both. Each 512-byte sector is filled with one number, its tag, that no
 * other write has used; 0 are zeros, and a base has tags of its own.
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
	bool with_base;
	uint64_t random, next_tag, operations;
	struct model_image active;	/* what a read has to give */
	struct model_image stable;	/* what the last flush has guaranteed */
	struct model_later *later;	/* what was written since */
	size_t nr_later, later_room;
	struct model_snapshot snapshots[MODEL_SNAPSHOTS];
	enum model_pending pending;	/* under way when the power went */
	struct model_snapshot target;
	unsigned next_name;
	bool small_cache;
};

void model_init(struct model *model, struct sim *sim, uint64_t seed, uint64_t sectors, bool with_base);
void model_free(struct model *model);
int model_open(struct model *model);
/* One random operation; 0, or what the store said (only allowed when the simulated device has failed). */
int model_step(struct model *model);
int model_write(struct model *model, uint64_t sector, uint64_t count);
int model_discard(struct model *model, uint64_t sector, uint64_t count, bool zeroes);
int model_flush(struct model *model);
int model_snapshot(struct model *model, const char *name);
int model_delete(struct model *model, const char *name);
int model_revert(struct model *model, const char *name);
/* Everything reads as it has to; fails the test otherwise. */
void model_verify(struct model *model);
/* The same after a crash, by the crash rule; the model then goes on from what is there. */
void model_verify_crashed(struct model *model);
void model_check(struct model *model);		/* cow_check() finds nothing */
void model_finish_deletions(struct model *model);
/* The base's tag of a sector. */
uint64_t model_base_tag(uint64_t sector);
extern const struct cow_base model_base;
extern uint64_t model_seed, model_cut;		/* for messages */

/* TAPSNAP_SEED, or @otherwise. */
uint64_t model_first_seed(uint64_t otherwise);
unsigned model_seeds(unsigned otherwise);	/* TAPSNAP_SEEDS: how many */

#endif
