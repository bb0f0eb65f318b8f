/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_sim.h - a block device in memory that loses its power.
 *
 * What was written and not synced is kept in a list. When the power goes,
 * each write in it, in any order, is kept, lost, or torn at any of its
 * 512-byte sectors. Every write, sync and punch counts as a step; the power
 * can go in the middle of any of them. Faults can be had without that, too.
 */
#ifndef TESTS_COW_SIM_H
#define TESTS_COW_SIM_H

#include "cow.h"

struct sim_write {
	uint64_t offset;
	size_t length;
	uint8_t *data;
};

struct sim {
	struct cow_device device;
	uint8_t *now, *durable;		/* what a read sees; what is safe */
	uint64_t size, durable_size, max_size;
	struct sim_write *writes;
	size_t nr_writes, room;
	uint64_t steps, cut;		/* the power goes in this step; 0: never */
	bool off;
	uint64_t calls, fail_at;	/* this call, reads too, fails; 0: none */
	int fail_error;
	bool fail_syncs_only, fail_writes_only;
	void (*on_sync)(void *owner);	/* called once the sync has taken hold of what it covers */
	void *on_sync_owner;
	uint64_t random;
};

/* @max_size 0: it cannot grow. */
void sim_init(struct sim *sim, uint64_t size, uint64_t max_size, uint64_t seed);
void sim_free(struct sim *sim);
/* The power goes (if it has not) and comes back: unsynced writes meet their fate. */
void sim_power_cycle(struct sim *sim);
/* The same, but @keeps says what is kept of each unsynced write, whole. */
void sim_power_cycle_picking(struct sim *sim, bool (*keeps)(const struct sim_write *write));
/* xorshift; *state must not be 0. */
uint64_t sim_random(uint64_t *state);
/* 512 bytes of @tag, again and again. */
void sim_fill_sector(uint8_t *data, uint64_t tag);

#endif
