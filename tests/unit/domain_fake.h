/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_fake.h - a host with one domain, whose memory is a number and whose
 * two disks are stores at real tapdisks. It is in shared memory, so that it
 * survives a kill of the process that works on it.
 */
#ifndef TESTS_DOMAIN_FAKE_H
#define TESTS_DOMAIN_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "domain.h"

#define FAKE_UUID "01234567-89ab-4def-8123-456789abcdef"
#define FAKE_OTHER_UUID "01234567-89ab-4def-8123-000000000000"
#define FAKE_NAME "guest"
/* Another domain, shut off, named by its config file, whose path ends like this; its disk is "second.cow". */
#define FAKE_SECOND "second"
#define FAKE_SECOND_UUID "fedcba98-89ab-4def-8123-456789abcdef"
#define FAKE_DISKS 2

struct fake_domain {
	bool there, suspended, paused;
	bool torn;			/* its destruction was cut short: it is paused, its disks and its name are gone */
	bool unbuilt;			/* its creation was cut short, when it was still paused */
	bool renamed;			/* found by its uuid only */
	bool other_uuid;		/* restarted from a config file without a uuid */
	bool loses_store, store_lost;	/* xenstored dies at the resume: the name is then unknown */
	unsigned domid;			/* a new one at each start */
	int memory;
	bool unable, unbootable;	/* cannot be saved; cannot be booted */
	bool raw;			/* the second disk is a raw image */
	bool unsaid;			/* the config file does not name the disk's backend */
	bool attached, detached;	/* a third disk was attached, the second was detached */
	bool hvm;			/* with settings of such a guest in its configuration */
	bool swapped;			/* the second disk is the store "swapped.cow" now */
	int fail_save, fail_restore, fail_destroy;	/* -errno; a destroy that fails with -EINPROGRESS leaves it torn */
	bool leaves_unbuilt;		/* with fail_restore: the domain is there, half built */
	int stopped;			/* a process that continues when the domain is resumed; 0: none */
	char program[200];		/* for sh, that restore() runs first */
	atomic_bool hold_save;		/* hold the save at 42 per cent until it is aborted */
	atomic_bool saving, aborted;
	int pid[FAKE_DISKS], minor[FAKE_DISKS];
};

extern struct fake_domain *fake;
extern char fake_dir[64];

/* For each test: make the directories, the stores, and the domain, running with memory 1. */
int fake_setup(void **state);
int fake_teardown(void **state);
/* While the domain is off: make a raw image, which becomes its second disk. */
void fake_make_raw(void);
/* Start the domain and open its disks; stop it and close them. */
void fake_start_domain(void);
void fake_stop_domain(void);
void fake_store(char *path, unsigned disk);
void fake_make_store(const char *path, unsigned sector_size);
const char *fake_type(unsigned disk);

int fake_open_host(struct domain_host **host, struct error_text *text);

/* Copies of the parts of a result that tests look at. */
struct outcome {
	int error;
	char text[600], names[400], current[64], clone[400];
};
/* Run one operation in a session of its own. */
struct outcome fake_run(struct domain_snapshot_request request);
/* The same in another process, killed at step number @kill (1: the first). False if it ended before that step. */
bool fake_run_killed(struct domain_snapshot_request request, unsigned kill);

#endif
