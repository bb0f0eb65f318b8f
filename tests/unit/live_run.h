/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_run.h - runs of live_disk.h that the unit tests and the soak test
 * share. They fail the test at the first thing that is wrong.
 */
#ifndef TESTS_LIVE_RUN_H
#define TESTS_LIVE_RUN_H

#include "live_disk.h"

/* Used, closed, looked at and opened again, some times. */
void live_run(const struct live_options *options, const char *directory);
/*
 * A power cut after every write, sync and discard, looked at in a copy while
 * the run goes on. Then one that ends it: the driver opens what is left, and
 * the power may go while it does; and the run goes on from there.
 */
void live_run_cuts(const struct live_options *options, const char *directory);
/* The @nth operation below the driver fails with @error. False: there were not that many. */
bool live_run_fault(const struct live_options *options, const char *directory, uint64_t nth, int error);

/* live_merge.c: committed to its own base while it is used, with power cuts of both. */
void live_run_merge(const struct live_options *options, const char *directory);

/* How often a request had to wait for room; power cuts that were looked at, that were lived through. */
extern uint64_t live_waited, live_cuts, live_restarts;

#endif
