/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_sim.h - a block device in memory that loses its power.
 *
 * A list holds the unsynced writes. At a power cut each of them, in any order,
 * is kept, lost, or torn at any of its 512-byte sectors. Every write, sync and
 * punch counts as a step; the power can fail in the middle of any of them.
 * Calls can also fail without a power cut.
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
	uint8_t *now, *durable;		/* contents that reads see; durable contents */
	uint64_t size, durable_size, max_size;
	struct sim_write *writes;
	size_t nr_writes, room;
	uint64_t steps, cut;		/* the power fails in this step; 0: never */
	bool off;
	uint64_t calls, fail_at;	/* this call fails, reads count too; 0: none */
	unsigned fail_more;		/* and this many after it */
	int fail_error;
	bool fail_syncs_only, fail_writes_only;
	void (*on_sync)(void *owner);	/* called once it is fixed which writes the sync covers */
	void *on_sync_owner;
	uint64_t random;
};

/* @max_size 0: the device cannot grow. */
void sim_init(struct sim *sim, uint64_t size, uint64_t max_size, uint64_t seed);
void sim_free(struct sim *sim);
/* Cut the power (unless it is off) and restore it: each unsynced write is kept, lost or torn. */
void sim_power_cycle(struct sim *sim);
/* The same, but @keeps chooses the unsynced writes that are kept; no write is torn. */
void sim_power_cycle_picking(struct sim *sim, bool (*keeps)(const struct sim_write *write));
/* Count a read of another file, the store's base: 0, or an error as a read of the device would have now. */
int sim_read_beside(struct sim *sim);
/* xorshift; *state must not be 0. */
uint64_t sim_random(uint64_t *state);
/* Fill 512 bytes with @tag. */
void sim_fill_sector(uint8_t *data, uint64_t tag);

#endif
