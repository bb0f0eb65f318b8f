/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_disk.h - random use of a store that the driver `cow` serves: many
 * requests in flight while snapshots are taken, prepared, read, deleted and
 * reverted to; and checks of its contents, during and after.
 *
 * Everything is on a file in memory under an engine that completes in any
 * order (engine_crash.h). A seed repeats a run. The first error is kept in
 * failure, because a test cannot be left from a fiber.
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
	uint64_t from;			/* earliest time at which it may have been taken */
	struct live_image image;	/* valid from LIVE_THERE and LIVE_PREPARED on */
	struct backend *backend;	/* NULL: not open */
	unsigned reads;
};

/* The revert of a group's disk: not listed before it is decided. */
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

enum live_base { LIVE_NO_BASE, LIVE_RAW_BASE, LIVE_COW_BASE, LIVE_OWN_BASE };	/* own: raw, disk's size, unshared */

struct live_options {
	uint64_t seed;
	enum live_base base;
	bool small;			/* the store is a few MiB, and grows */
	bool log_end;			/* small only: the log begins near the end of its area */
	bool full;			/* the store does not grow */
	unsigned pages;			/* bitmap pages of a store that does not grow, 128 MiB each. 0: as above */
	bool no_commands;
	const char *device;		/* the store is on this device and cannot grow it. NULL: in a file */
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
	char look_base[140];		/* the base for live_check(); "": the one that the store names */
	struct live_command maker, freezer, thawer, remover, reverter, merger, grower;
	struct live_intent intent;
	uint64_t growing;		/* size in sectors that it may already have; 0: none */
	bool frozen;			/* FREEZE has ended, and the disk is still frozen */
	uint64_t frozen_at;
	unsigned next_name;
	bool faulty;			/* a fault was injected: errors are expected */
	unsigned waited, errors;	/* requests that waited for room; that failed */
	char failure[200];
};

/* Make the store and open it. @directory holds the bases and the decision records. */
void live_disk_init(struct live_disk *disk, const struct live_options *options, const char *directory);
void live_disk_free(struct live_disk *disk);
/* 0 or -errno, which is a failure unless the disk is faulty. */
int live_open(struct live_disk *disk);
void live_close(struct live_disk *disk);

/* Start a random operation; then perhaps let some operation end. */
void live_step(struct live_disk *disk);
/* Run until all operations have ended. */
void live_drain(struct live_disk *disk);
/* Revert to a snapshot, if there is one. @look, if not NULL, is called after each step of the revert. */
void live_revert(struct live_disk *disk, void (*look)(struct live_disk *disk));
/* Grow the disk while it is in use. */
void live_grow(struct live_disk *disk);
/* Grow or shrink the disk with the tools' library; it must be closed. */
void live_resize(struct live_disk *disk);
/* The driver's clock (ns): each live_reap() advances it by LIVE_REAP_NS, and tests may set it. */
#define LIVE_REAP_NS 1000000u
extern uint64_t live_clock;
uint64_t __wrap_cow_clock_now(void);
/* Run until an operation that is in flight in the engine has ended. */
void live_reap(struct live_disk *disk);

/* For tests that choose the order; NULL when all slots are taken. */
struct live_request *live_submit(struct live_disk *disk, enum block_op op, uint64_t sector, uint64_t nr_sectors);
void live_command(struct live_disk *disk, struct live_command *slot, enum snapshot_op op, struct live_snapshot *snapshot);
struct live_snapshot *live_snapshot_free(struct live_disk *disk);
/* The second and third step of a group's snapshot, after a FREEZE. NULL: there is no slot, and the disk is thawed. */
struct live_snapshot *live_prepare(struct live_disk *disk);
void live_decide(struct live_disk *disk, struct live_snapshot *snapshot, bool commit);

void live_failed(struct live_disk *disk, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Fail the test if there is a failure. */
void live_expect_right(struct live_disk *disk);

/*
 * live_check.c: check with the tools' library that the store in the file @path has contents allowed now.
 * LIVE_CRASHED: after a crash; it must stay consistent when deletions have been finished, which changes the store.
 * LIVE_CLOSED: all ended requests are there. The store is not changed; from now on its contents must stay the same.
 * LIVE_RESTARTED: the same after a crash. LIVE_CLOSED_LEAKY: as LIVE_CLOSED, but leaked blocks are expected.
 */
enum live_check { LIVE_CRASHED, LIVE_CLOSED, LIVE_RESTARTED, LIVE_CLOSED_LEAKY };
void live_check(struct live_disk *disk, const char *path, enum live_check what);

/* For the files of live_*.c. */
uint64_t live_pick(struct live_disk *disk, uint64_t below);
/* Record @error as a failure, unless faults were injected. */
void live_note_error(struct live_disk *disk, const char *what, int error);
/* Have the model keep all values that a read or command in progress may still ask for. */
void live_watch(struct live_disk *disk);
struct live_snapshot *live_snapshot_random(struct live_disk *disk, enum live_state state);
void live_command_random(struct live_disk *disk);
void live_thaw(struct live_disk *disk);
void live_delete(struct live_disk *disk);		/* one of the snapshots */
struct driver_options live_driver_options(void);	/* of the active disk */

/* live_base.c */
extern char live_raw_base[128], live_cow_base[128], live_own_base[128];
/* Make a file with the contents of a raw base, of the size of the disk. */
int live_base_own(const char *path);
void live_base_make(const char *directory);
/* Choose a path at which no decision record is. */
void live_decision_name(char path[LIVE_DECISION_MAX]);
bool live_base_shows(enum live_base base, unsigned cell);

#endif
