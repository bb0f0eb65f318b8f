/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memory_fault.h - a disk at a tapdisk in which, and in the tap-ctl that is
 * run for it, the Nth allocation fails.
 */
#ifndef TESTS_MEMORY_FAULT_H
#define TESTS_MEMORY_FAULT_H

#include <limits.h>

#include "fixture.h"

#include "fault_malloc.h"

extern struct memory_fault {
	struct fault_malloc *shared;
	unsigned stride;		/* every that many-th allocation fails */
	long number;			/* for messages */
	struct fixture disk;		/* directory, pid and minor */
	char target[PATH_MAX + 8];
	char out[65536], err[4096];	/* what tap-ctl printed */
} fault;

/* Runs begin at different ones, so that in time all have their turn. */
long fault_first(unsigned step);
/* A sweep goes on; but one that leaves some out anyway, not for longer than that on a busy machine. */
bool fault_goes_on(bool fired, int64_t start);
void fault_arm(long number);
void fault_disarm(void);
/* Whether it has failed; nothing does any more. */
bool fault_disarm_fired(void);

/* A file of this name, in the test's directory. */
int fault_open_output(const char *name);
/* tap-ctl with @words, of which "PID" and "MINOR" stand for the disk's; its exit status. */
int tap_ctl(const char *words);
void must(const char *words);
json_t *must_json(const char *words);
/* It failed, with one line for a person. */
void fault_check_failure(const char *words, int status);

unsigned fault_disk_state(void);
void fault_open_disk(void);
void fault_restore_running(void);
void fault_restore_paused(void);
void fault_restore_closed(void);
/* @words with each of its allocations failing, from the state that @restore makes. @wanted: what it prints, or NULL. */
void fault_sweep(const char *words, void (*restore)(void), json_t *wanted, bool values);

#endif
