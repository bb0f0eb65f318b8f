/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_expect.h - operations on the domain of domain_fake.h, and checks of
 * its state, for the tests of domain snapshots.
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

static inline struct outcome recover(bool force)
{
	return fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_RECOVER, .force = force });
}

#define must(call) \
	do { \
		struct outcome must_ = (call); \
		if (must_.error) \
			fail_msg("%s: %d: %s", #call, must_.error, must_.text); \
	} while (0)

/* The operation must have failed with @error and a one-line message that contains @word. */
void must_fail(struct outcome outcome, int error, const char *word);

void expect_list(const char *names);
/* What the domain's directory says about a snapshot; the caller owns it. */
json_t *read_info(const char *name);
/* @names: the snapshots that one disk must have; that each disk must have. */
void expect_disk(unsigned number, const char *names);
void expect_disks(const char *names);
/* Delete the second disk's snapshot from outside; replace it by another of the same name. */
void lose_snapshot(const char *name);
void replace_snapshot(const char *name);
/* Number of files in the domain's directory, without the lock and the state. */
unsigned count_files(void);
void expect_files(unsigned count);
/* Number of files in the disks' directory whose names begin with @begin. */
unsigned count_there(const char *begin);
/* No decision record of a group of disks is left. */
void expect_no_records(void);
void expect_running(int memory);
/* After a create that was killed: the snapshot is whole, and then it is deleted, or there is nothing of it. */
void expect_all_or_nothing(const char *name);
/* @arg is not used: it is a callback of tapctl_process_list(). */
void kill_tapdisk(int pid, void *arg);

/* A hook that records its calls; "freeze" and "thaw" can each be made to fail, or to wait for a sleeper process. */
extern char hook[100];
void make_hook(void);
void refuse(const char *word, bool refused);
void hang(const char *word, bool hangs);
int sleeper(void);			/* the sleeper's pid; 0: none yet */
void expect_no_sleeper(void);		/* the sleeper has ended */
/* The calls of the hook since the last expect_told(), one letter each. */
void expect_told(const char *letters);
/* Whether the hook has left the guest frozen; make the guest one that was restored frozen. */
bool is_frozen(void);
void freeze(void);

/* Make the second disk a raw image; whether it has moved onto a store; move it back. */
void use_raw(int memory);
bool is_moved(void);
void move_back(void);

#define DOMAIN_TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

#endif
