/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_disk.h - a store that is served by the driver `cow` and used at random:
 * many requests in flight, snapshots taken, prepared, read, deleted and gone
 * back to meanwhile; and what has to be in it, during and after.
 *
 * Everything is on a file in memory under an engine that completes in any
 * order (engine_crash.h). A run is repeated by its seed. The first thing that
 * is wrong is kept in failure, because a test cannot be left from a fiber.
 */
#ifndef TESTS_LIVE_DISK_H
#define TESTS_LIVE_DISK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cow.h"
#include "engine_crash.h"
#include "live_model.h"

#define LIVE_DECISION_MAX 200	/* bytes of a path */
#define LIVE_REQUESTS 24
#define LIVE_IOVS 6
#define LIVE_SNAPSHOTS 5

struct live_disk;

enum live_state {
	LIVE_NONE,
	LIVE_CREATING, LIVE_THERE, LIVE_DELETING,
	LIVE_PREPARING, LIVE_PREPARED, LIVE_COMMITTING,		/* committing: decided */
};

struct live_snapshot {
	enum live_state state;
	char name[16];
	char decision[LIVE_DECISION_MAX];		/* "": not of a group */
	uint64_t from;			/* it was not taken before */
	struct live_image image;	/* from LIVE_THERE and LIVE_PREPARED on */
	struct backend *backend;	/* NULL: not open */
	unsigned reads;
};

/* Going back as one of a group does: not listed before it is decided. */
struct live_intent {
	enum live_state state;		/* NONE, PREPARING, PREPARED, COMMITTING: decided; DELETING: decided against */
	const struct live_snapshot *target;
	char decision[LIVE_DECISION_MAX];
};

struct live_request {
	struct block_request req;
	struct live_disk *disk;
	struct live_snapshot *snapshot;	/* NULL: the active disk */
	struct iovec iov[LIVE_IOVS];
	uint8_t *buffer;
	uint64_t submitted, write;
	bool busy;
};

struct live_command {
	struct snapshot_command command;
	struct live_disk *disk;
	struct live_snapshot *snapshot;
	bool busy;
	int error;
};

enum live_base { LIVE_NO_BASE, LIVE_RAW_BASE, LIVE_COW_BASE, LIVE_OWN_BASE };	/* own: raw, as large as the disk, for it alone */

struct live_options {
	uint64_t seed;
	enum live_base base;
	bool small;			/* the store is a few MiB, and grows */
	bool full;			/* it does not grow */
	unsigned pages;			/* of its bitmap, 128 MiB each; it does not grow. 0: as above */
	bool no_commands;
	const char *device;		/* the store is on it, and it is not the store that makes it larger. NULL: in a file */
	void (*half_time)(void);	/* if not NULL, called twice between two openings: in the middle and at the end */
};

struct live_disk {
	struct live_options options;
	uint64_t random, operations;
	int fd;				/* of the store's file */
	char path[32];
	struct engine_crash crash;
	struct backend *backend;	/* NULL: closed */
	struct live_model model;
	struct live_request request[LIVE_REQUESTS];
	struct live_snapshot snapshot[LIVE_SNAPSHOTS];
	int base_fd;			/* LIVE_OWN_BASE; -1 */
	char look_base[140];		/* what live_check() takes for the base; "": what the store names */
	struct live_command maker, freezer, thawer, remover, reverter, merger, grower;
	struct live_intent intent;
	uint64_t growing;		/* sectors that it may have already; 0: none */
	bool frozen;			/* FREEZE has ended, and nothing has ended the freeze */
	uint64_t frozen_at;
	unsigned next_name;
	bool faulty;			/* something was made to fail: errors are no surprise */
	unsigned waited, errors;	/* requests that had to wait for room; that failed */
	char failure[200];
};

/* Makes the store, and opens it. In its directory are the bases and the decision records. */
void live_disk_init(struct live_disk *disk, const struct live_options *options, const char *directory);
void live_disk_free(struct live_disk *disk);
/* 0 or -errno, which is a failure unless the disk is faulty. */
int live_open(struct live_disk *disk);
void live_close(struct live_disk *disk);

/* Something at random is begun; then perhaps something ends. */
void live_step(struct live_disk *disk);
/* All that was begun comes to its end. */
void live_drain(struct live_disk *disk);
/* Goes back to a snapshot, if there is one. @look, if not NULL, is called whenever something has been done for it. */
void live_revert(struct live_disk *disk, void (*look)(struct live_disk *disk));
/* Makes it larger while it is in use. */
void live_grow(struct live_disk *disk);
/* Makes it larger or smaller, with the tools; it must be closed. */
void live_resize(struct live_disk *disk);
/* What the driver takes for the time (ns): it goes on by LIVE_REAP_NS with each live_reap(), and as tests will have it. */
#define LIVE_REAP_NS 1000000u
extern uint64_t live_clock;
uint64_t __wrap_cow_clock_now(void);
/* Until something that was in flight in the engine has ended. */
void live_reap(struct live_disk *disk);

/* For tests with an order of their own; NULL when all slots are taken. */
struct live_request *live_submit(struct live_disk *disk, enum block_op op, uint64_t sector, uint64_t nr_sectors);
void live_command(struct live_disk *disk, struct live_command *slot, enum snapshot_op op, struct live_snapshot *snapshot);
struct live_snapshot *live_snapshot_free(struct live_disk *disk);

void live_failed(struct live_disk *disk, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Fails the test if anything has gone wrong. */
void live_expect_right(struct live_disk *disk);

/*
 * live_check.c: the store in the file @path, by the tools' library, is one that may be there now.
 * LIVE_CRASHED: after a crash, and is consistent, and remains so when deletions have been ended; the store is changed.
 * LIVE_CLOSED: all that has ended is there. The store is not changed; what is there now has to be there from now on.
 * LIVE_RESTARTED: the same after a crash. LIVE_CLOSED_LEAKY: some blocks are nobody's, and that is as it should be.
 */
enum live_check { LIVE_CRASHED, LIVE_CLOSED, LIVE_RESTARTED, LIVE_CLOSED_LEAKY };
void live_check(struct live_disk *disk, const char *path, enum live_check what);

/* For each other. */
uint64_t live_pick(struct live_disk *disk, uint64_t below);
/* An error that nobody has caused is one too many. */
void live_note_error(struct live_disk *disk, const char *what, int error);
/* What anybody may still ask for is remembered. */
void live_watch(struct live_disk *disk);
struct live_snapshot *live_snapshot_random(struct live_disk *disk, enum live_state state);
void live_command_random(struct live_disk *disk);
void live_thaw(struct live_disk *disk);
void live_delete(struct live_disk *disk);		/* one of the snapshots */
struct driver_options live_driver_options(void);	/* of the active disk */

/* live_base.c */
extern char live_raw_base[128], live_cow_base[128], live_own_base[128];
/* A file with what a raw base holds, of the size of the disk, made anew. */
int live_base_own(const char *path);
void live_base_make(const char *directory);
/* One that nobody has made. */
void live_decision_name(char path[LIVE_DECISION_MAX]);
bool live_base_shows(enum live_base base, unsigned cell);

#endif
