/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_fake.h - a host with one domain, whose memory is a number and whose
 * two disks are stores at real tapdisks. It lives in shared memory, so that
 * it goes on when the process that works on it is killed.
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
/* Another domain, which is off, by its config file, a path that ends like this; its disk is "second.cow". */
#define FAKE_SECOND "second"
#define FAKE_SECOND_UUID "fedcba98-89ab-4def-8123-456789abcdef"
#define FAKE_DISKS 2

struct fake_domain {
	bool there, suspended, paused;
	bool renamed;			/* it is found by its uuid only */
	bool other_uuid;		/* it was started anew from a config file without one */
	bool loses_store, store_lost;	/* xenstored goes when it goes on: nobody knows its name any more */
	unsigned domid;			/* another at each start */
	int memory;
	bool unable, unbootable;	/* to be saved; to be booted */
	bool raw;			/* the second disk is a raw image */
	bool unsaid;			/* the config file does not say who serves it */
	bool attached, detached;	/* a third disk came, the second went */
	int fail_save, fail_restore, fail_destroy;	/* -errno */
	atomic_bool hold_save;		/* until it is aborted; 42 per cent are done then */
	atomic_bool saving, aborted;
	int pid[FAKE_DISKS], minor[FAKE_DISKS];
};

extern struct fake_domain *fake;
extern char fake_dir[64];

/* For each test: the directories, the stores, the domain, running with memory 1. */
int fake_setup(void **state);
int fake_teardown(void **state);
/* While it is off: the second disk is a raw image, which is made. */
void fake_make_raw(void);
/* Its disks are opened and closed with it. */
void fake_start_domain(void);
void fake_stop_domain(void);
void fake_store(char *path, unsigned disk);
void fake_make_store(const char *path, unsigned sector_size);
const char *fake_type(unsigned disk);

int fake_open_host(struct domain_host **host, struct error_text *text);

/* What is left of a result. */
struct outcome {
	int error;
	char text[600], names[400], current[64], clone[400];
};
/* A session of one operation. */
struct outcome fake_run(struct domain_snapshot_request request);
/* The same in another process, killed at step number @kill (1: the first). True: it was; false: it ended before. */
bool fake_run_killed(struct domain_snapshot_request request, unsigned kill);

#endif
