/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_expect.h - what the tests of snapshots of a domain do to the one of
 * domain_fake.h, and how it has to be afterwards.
 */
#ifndef TESTS_DOMAIN_EXPECT_H
#define TESTS_DOMAIN_EXPECT_H

#include "domain_fake.h"
#include "fixture.h"

static inline struct outcome create(const char *name)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CREATE, .name = name });
}

static inline struct outcome revert(const char *name)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = name });
}

static inline struct outcome delete(const char *name, bool children)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_DELETE, .name = name, .children = children });
}

static inline struct outcome list(void)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY });
}

#define must(call) \
	do { \
		struct outcome must_ = (call); \
		if (must_.error) \
			fail_msg("%s: %d: %s", #call, must_.error, must_.text); \
	} while (0)

/* It failed with that error, and says so in one line that has @word in it. */
void must_fail(struct outcome outcome, int error, const char *word);

void expect_list(const char *names);
/* The names of the snapshots that a disk has; that each has. */
void expect_disk(unsigned number, const char *names);
void expect_disks(const char *names);
/* Somebody deletes the second disk's snapshot; another of that name may take its place. */
void lose_snapshot(const char *name);
void replace_snapshot(const char *name);
/* Files in the domain's directory, the lock and the state not counted. */
unsigned count_files(void);
void expect_files(unsigned count);
/* Files beside the disks whose names begin with that. */
unsigned count_there(const char *begin);
/* Of what groups of disks have decided nobody needs a record any more. */
void expect_no_records(void);
void expect_running(int memory);

/* A hook that notes what it is told; "freeze" and "thaw" can each be made to fail, or to wait for a sleeper. */
extern char hook[100];
void make_hook(void);
void refuse(const char *word, bool refused);
void hang(const char *word, bool hangs);
int sleeper(void);			/* its process; 0: there is none yet */
void expect_no_sleeper(void);		/* it has gone */
/* What it was told since this was asked last, a letter each. */
void expect_told(const char *letters);
/* How it has left the guest; and a guest that was restored like that. */
bool is_frozen(void);
void freeze(void);

/* The second disk is a raw image from here on; whether that is in a store now; it goes back. */
void use_raw(int memory);
bool is_moved(void);
void move_back(void);

#define DOMAIN_TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

#endif
