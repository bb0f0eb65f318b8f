/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_run.h - runs of live_disk.h that the unit tests and the soak test share.
 * They fail the test at the first error.
 */
#ifndef TESTS_LIVE_RUN_H
#define TESTS_LIVE_RUN_H

#include "live_disk.h"

/* Use, close, check and reopen the disk, several times. */
void live_run(const struct live_options *options, const char *directory);
/*
 * A power cut after every write, sync and discard, checked in a copy while the run continues. Then a
 * cut that ends the run: the driver opens the result, during which the power may fail again; and the
 * run continues from there.
 */
void live_run_cuts(const struct live_options *options, const char *directory);
/*
 * Fail the @nth operation below the driver with @error, from the opening's end on, or, with deletes, from the time when
 * there are three snapshots that are then deleted. False: there were fewer operations.
 */
bool live_run_fault(const struct live_options *options, const char *directory, uint64_t nth, int error);
bool live_run_fault_deletes(const struct live_options *options, const char *directory, uint64_t nth, int error);
/*
 * From the @nth write below the driver on, of data or of the store's own, @count find no room. No request fails. False: there
 * were fewer writes.
 */
bool live_run_no_room(const struct live_options *options, const char *directory, uint64_t nth, unsigned count);
void live_fault_expect_right(const struct live_disk *disk, uint64_t nth);

/* Fail the first @count attempts to enlarge the store's file with @error. True: there were as many. */
bool live_run_growth_fault(const struct live_options *options, const char *directory, unsigned count, int error);

/* live_merge.c: commit the disk to its own base while it is in use, with power cuts of both. */
void live_run_merge(const struct live_options *options, const char *directory);
/* The same with a fault of the @nth operation, of store or base, and no power cut. False: there were fewer operations. */
bool live_run_merge_fault(const struct live_options *options, const char *directory, uint64_t nth, int error);

/* Numbers of requests that waited for room; of power cuts checked in a copy, and of those with a log that wraps; of cuts
 * that ended a run. */
extern uint64_t live_waited, live_cuts, live_wraps, live_restarts;

#endif
