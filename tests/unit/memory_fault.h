/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memory_fault.h - a disk at a tapdisk; the Nth allocation fails in that tapdisk
 * and in the tap-ctl that the test runs.
 */
#ifndef TESTS_MEMORY_FAULT_H
#define TESTS_MEMORY_FAULT_H

#include <limits.h>

#include "fixture.h"

#include "fault_malloc.h"

extern struct memory_fault {
	struct fault_malloc *shared;
	const char *directory;		/* of the test's files */
	unsigned stride;		/* the sweep fails every @stride-th allocation */
	long number;			/* for messages */
	struct fixture disk;		/* directory, pid and minor */
	char target[PATH_MAX + 8];
	char out[65536], err[4096];	/* what tap-ctl printed */
} fault;

/* A sweep's first allocation: 1 to @step, another one in each run, so that in time all are tested. */
long fault_first(unsigned step);
/* Whether the sweep continues. One that skips allocations has a time limit, for busy machines. */
bool fault_goes_on(bool fired, int64_t start);
void fault_arm(long number);
void fault_disarm(void);
/* Disarm; whether the allocation has failed. */
bool fault_disarm_fired(void);

/* Open a file of this name in the test's directory. */
int fault_open_output(const char *name);
/* Run tap-ctl with @words, in which "PID" and "MINOR" stand for the disk's; its exit status. */
int tap_ctl(const char *words);
void must(const char *words);
json_t *must_json(const char *words);
/* The command must have failed, with a one-line message. */
void fault_check_failure(const char *words, int status);

unsigned fault_disk_state(void);
void fault_open_disk(void);
void fault_restore_running(void);
void fault_restore_paused(void);
void fault_restore_closed(void);
/* Run @words with each of its allocations failing, from the state that @restore makes. @wanted: its output, or NULL. */
void fault_sweep(const char *words, void (*restore)(void), json_t *wanted, bool values);

#endif
