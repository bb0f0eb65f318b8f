/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * metrics.h - the file from which xentop and libxenstat (Xen 4.19 on) read a
 * disk's counters: /dev/shm/td3-<pid>/vbd-<domid>-<devid>, a struct
 * vbd3_stats of version 1 (Xen's tools/libs/stat/xenstat_priv.h).
 */
#ifndef TAPDISK_METRICS_H
#define TAPDISK_METRICS_H

#include <stdint.h>

#include "block.h"

struct vbd3_stats {
	uint32_t version;
	uint32_t pad;
	uint64_t oo_reqs;			/* times that there was no room for another request */
	uint64_t read_reqs_submitted;
	uint64_t read_reqs_completed;
	uint64_t read_sectors;			/* 512 bytes */
	uint64_t read_total_ticks;		/* microseconds */
	uint64_t write_reqs_submitted;
	uint64_t write_reqs_completed;
	uint64_t write_sectors;
	uint64_t write_total_ticks;
	uint64_t io_errors;
	uint64_t flags;
};
_Static_assert(sizeof(struct vbd3_stats) == 96, "libxenstat's layout");

struct metrics;

/* NULL when the file cannot be made: the disk works without it. */
struct metrics *metrics_open(uint32_t domid, uint32_t devid);
void metrics_close(struct metrics *metrics);		/* removes the file; NULL is ignored */
void metrics_submit(struct metrics *metrics, enum block_op op);
void metrics_complete(struct metrics *metrics, enum block_op op, uint64_t sectors, uint64_t latency_ns, int error);
void metrics_out_of_room(struct metrics *metrics);
/* Remove the process's directory, at exit. */
void metrics_remove_directory(void);

#endif
