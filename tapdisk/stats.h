/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * stats.h - counters: requests by operation and by queue, their latency, and
 * the stalls of a disk.
 */
#ifndef TAPDISK_STATS_H
#define TAPDISK_STATS_H

#include <jansson.h>
#include <stdint.h>

#include "block.h"

/* Latency buckets: four to each power of two, from 1 microsecond up. */
#define STATS_BUCKETS 112

struct op_stats {
	uint64_t submitted, completed, errors;	/* requests */
	uint64_t bytes;				/* of completed ones without error */
	uint64_t total_ns, max_ns;
	uint64_t histogram[STATS_BUCKETS];
};

struct queue_stats {
	struct op_stats ops[BLOCK_NR_OPS];
	uint64_t invalid;			/* requests answered with an error before they reached the disk */
	uint64_t kicks, batches;		/* signals received, batches of responses pushed */
	uint64_t notifies;			/* signals sent */
};

struct stall_stats {
	uint64_t count;				/* pauses, freezes, snapshots */
	uint64_t last_ns, longest_ns;		/* from the stop to the start again */
	uint64_t last_drain_ns, longest_drain_ns;	/* from the stop to nothing in flight */
};

void stats_submit(struct queue_stats *queue, enum block_op op);
void stats_complete(struct queue_stats *queue, enum block_op op, uint64_t bytes, uint64_t latency_ns, int error);
void stats_add(struct queue_stats *sum, const struct queue_stats *queue);
void stats_count_stall(struct stall_stats *stalls, uint64_t stall_ns);

json_t *stats_queue_json(const struct queue_stats *queue);
json_t *stats_stall_json(const struct stall_stats *stalls);

#endif
