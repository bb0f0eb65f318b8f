/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot_process.h - tapdisks whose disk has snapshots in name only, each in
 * a process of its own: the real control socket and the real disk over a
 * driver that records its commands, and fails or holds them on demand.
 *
 * Test and driver share a page. The driver reads it at each command, and ends
 * held commands at fake_release().
 */
#ifndef TESTS_SNAPSHOT_PROCESS_H
#define TESTS_SNAPSHOT_PROCESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "commands_internal.h"
#include "commands.h"
#include "fixture.h"
#include "tapctl.h"

#define NR_OPS (SNAPSHOT_MERGE_CANCEL + 1)	/* the last of enum snapshot_op */
#define FAKE_SIZE "16777216"
#define FAKE_SECTORS (16777216 / 512)

/* State of the driver of one process, and the test's instructions to it. */
struct fake_disk {
	volatile bool frozen;
	char prepared[64], decision[300];	/* "": none */
	char listed[64];			/* the one snapshot in the list */
	volatile unsigned went_back;		/* number of reverts to it */
	volatile unsigned calls[NR_OPS], retries;
	volatile unsigned waiting;		/* writes that wait for room */

	int fail[NR_OPS];			/* -errno for that command */
	bool hold[NR_OPS];			/* do not end that command */
	bool fail_late;				/* a PREPARE that fails thaws first */
	bool die[NR_OPS];			/* the process ends at that command */
	pid_t victim;				/* a process to kill ... */
	int kill_at;				/* ... at that command; -1: none */
	volatile bool no_room;
	uint64_t fails_flush;			/* size of the disk, in sectors, whose flush is held, then fails */
	uint64_t sectors_after_revert;		/* 0: unchanged */
	uint64_t thawed_ns;			/* reported by PREPARE */
};

struct fake_process {
	struct fake_disk *disk;			/* shared */
	pid_t pid;
	int minor, release;			/* release: eventfd */
	struct tapctl *ctl;
};

/* In the child. */

static struct fake_disk *fake;
static struct driver_ops fake_ops;
static struct commands *fake_commands;
static struct snapshot_command *fake_held[8];
static struct block_request *fake_waiting[8], *fake_flush;
static unsigned fake_nr_held;
static uint64_t fake_sectors = FAKE_SECTORS;

static inline int fake_thaw(void)
{
	for (unsigned i = 0; i < fake_nr_held; i++) {
		struct snapshot_command *held = fake_held[i];

		if (held->op != SNAPSHOT_FREEZE)
			continue;
		fake_held[i] = fake_held[--fake_nr_held];
		held->done(held, -ECANCELED);
		return 0;
	}
	if (!fake->frozen)
		return -EINVAL;
	fake->frozen = false;
	return 0;
}

static inline int fake_prepare(struct snapshot_command *command)
{
	if (!fake->frozen)
		return -EINVAL;
	if (fake->fail[SNAPSHOT_PREPARE] && !fake->fail_late)
		return fake->fail[SNAPSHOT_PREPARE];
	fake->frozen = false;
	command->stall_ns = 1000000;
	command->thawed_ns = fake->thawed_ns;
	if (fake->fail[SNAPSHOT_PREPARE])
		return fake->fail[SNAPSHOT_PREPARE];
	snprintf(fake->prepared, sizeof(fake->prepared), "%s", command->name);
	snprintf(fake->decision, sizeof(fake->decision), "%s", command->decision);
	return 0;
}

static inline int fake_settle(const struct snapshot_command *command, bool commit)
{
	if (strcmp(fake->prepared, command->name))
		return -ENOENT;
	if (commit && !strcmp(fake->prepared, SNAPSHOT_REVERT_INTENT))
		fake->went_back++;
	else if (commit)
		strcpy(fake->listed, fake->prepared);
	fake->prepared[0] = '\0';
	return 0;
}

static inline int fake_revert(const struct snapshot_command *command)
{
	if (strcmp(fake->listed, command->name))
		return -ENOENT;
	if (command->decision) {
		strcpy(fake->prepared, SNAPSHOT_REVERT_INTENT);
		snprintf(fake->decision, sizeof(fake->decision), "%s", command->decision);
		return 0;
	}
	if (fake->sectors_after_revert)
		fake_sectors = fake->sectors_after_revert;
	fake->went_back++;
	return 0;
}

static inline int fake_carry_out(struct snapshot_command *command)
{
	switch (command->op) {
	case SNAPSHOT_THAW:
		return fake_thaw();
	case SNAPSHOT_PREPARE:
		return fake_prepare(command);
	case SNAPSHOT_COMMIT:
	case SNAPSHOT_ABORT:
		return fake_settle(command, command->op == SNAPSHOT_COMMIT);
	case SNAPSHOT_FREEZE:
		if (fake->frozen)
			return -EBUSY;
		fake->frozen = true;
		return 0;
	case SNAPSHOT_CREATE:
		if (fake->listed[0])
			return error_set(&command->error, -EEXIST, "a snapshot called \"%s\" is there", fake->listed);
		command->stall_ns = 2000000;
		snprintf(fake->listed, sizeof(fake->listed), "%s", command->name);
		return 0;
	case SNAPSHOT_REVERT:
		return fake_revert(command);
	case SNAPSHOT_DELETE:
		if (strcmp(fake->listed, command->name))
			return -ENOENT;
		fake->listed[0] = '\0';
		return 0;
	default:
		return -EINVAL;
	}
}

static inline void fake_end(struct snapshot_command *command)
{
	enum snapshot_op op = command->op;
	int error = op == SNAPSHOT_PREPARE ? 0 : fake->fail[op];

	command->done(command, error ? error : fake_carry_out(command));
}

static inline void fake_snapshot(void *handle, struct snapshot_command *command)
{
	fake->calls[command->op]++;
	if (fake->kill_at == (int)command->op && fake->victim)
		kill(fake->victim, SIGKILL);
	if (fake->die[command->op])
		_exit(0);
	if (fake->hold[command->op])
		fake_held[fake_nr_held++] = command;
	else
		fake_end(command);
}

static inline int fake_list(void *handle, uint64_t from, int (*each)(void *owner, const struct snapshot_info *info), void *owner)
{
	struct snapshot_info info = { .id = 1, .time = 1000000000, .sectors = FAKE_SECTORS, .name = fake->listed,
				      .description = "", .current = true };

	return fake->listed[0] && from <= 1 ? each(owner, &info) : 0;
}

static inline void fake_submit(void *handle, struct block_request *req)
{
	if (req->op == BLOCK_FLUSH && req->backend->geometry.sectors == fake->fails_flush) {
		fake_flush = req;
		return;
	}
	if (req->op != BLOCK_WRITE || !fake->no_room) {
		driver_null.submit(handle, req);
		return;
	}
	fake_waiting[fake->waiting++] = req;
	backend_wait(req);
}

static inline void fake_end_waiting(int error)
{
	while (fake->waiting) {
		struct block_request *req = fake_waiting[--fake->waiting];

		backend_wait_over(req);
		backend_done(req, error);
	}
}

static inline void fake_retry(void *handle)
{
	fake->retries++;
	if (!fake->no_room)
		fake_end_waiting(0);
}

static inline void fake_give_up(void *handle)
{
	fake_end_waiting(-ENOSPC);
}

static inline void fake_geometry(void *handle, struct driver_geometry *geometry)
{
	driver_null.geometry(handle, geometry);
	geometry->sectors = fake_sectors;
}

static inline int fake_refresh_size(void *handle, struct error_text *error)
{
	return 0;
}

/* Give disks of "null:" our driver, after their `open` and before the next command. */
static inline bool fake_take_over(void *arg)
{
	for (struct disk *disk = fake_commands->disks; disk; disk = disk->next) {
		if (disk->vbd->backend && disk->vbd->backend->ops == &driver_null)
			disk->vbd->backend->ops = &fake_ops;
	}
	return false;
}

/* For a driver that does I/O. */
static inline bool fake_run_engine(void *arg)
{
	engine_commit(arg);
	return engine_reap(arg) > 0;
}

static inline void fake_release_held(void *arg, uint32_t events)
{
	eventfd_t count;

	eventfd_read(*(int *)arg, &count);
	while (fake_nr_held)
		fake_end(fake_held[--fake_nr_held]);
	if (fake_flush) {
		struct block_request *flush = fake_flush;

		fake_flush = NULL;
		backend_done(flush, -EIO);
	}
}

static inline int fake_main(struct fake_disk *disk, int release, int ready)
{
	struct loop_source *hook, *source, *engine_source;
	struct error_text text = { "" };
	struct engine *engine;
	struct loop *loop;

	fake = disk;
	fake_ops = driver_null;
	fake_ops.snapshot = fake_snapshot;
	fake_ops.snapshot_list = fake_list;
	fake_ops.submit = fake_submit;
	fake_ops.retry = fake_retry;
	fake_ops.give_up = fake_give_up;
	fake_ops.geometry = fake_geometry;
	fake_ops.refresh_size = fake_refresh_size;
	if (loop_create(&loop) || engine_open(&engine, "sync", 16) ||
	    commands_start(&fake_commands, loop, engine, &text) ||
	    loop_add_prepare(loop, &engine_source, fake_run_engine, engine) ||
	    loop_add_prepare(loop, &hook, fake_take_over, NULL) ||
	    loop_add_fd(loop, &source, release, EPOLLIN, fake_release_held, &release) ||
	    write(ready, "", 1) != 1)
		return 1;
	close(ready);
	if (loop_run(loop))
		return 2;
	commands_stop(fake_commands);
	loop_remove(hook);
	loop_remove(source);
	loop_remove(engine_source);
	engine_close(engine);
	loop_destroy(loop);
	return 0;
}

/* In the test. */

static inline json_t *fake_call(struct fake_process *process, json_t *request)
{
	struct error_text text = { "" };
	json_t *reply;

	if (tapctl_call(process->ctl, request, &reply, TIMEOUT_MS, &text))
		fail_msg("tapdisk: %s", text.text);
	return reply;
}

static inline void fake_call_fails(struct fake_process *process, json_t *request, int error)
{
	struct error_text text = { "" };

	assert_int_equal(tapctl_call(process->ctl, request, NULL, TIMEOUT_MS, &text), error);
	assert_int_not_equal(text.text[0], 0);
	assert_null(strchr(text.text, '\n'));
}

static inline json_t *fake_request(const struct fake_process *process, const char *command)
{
	return json_pack("{s:s, s:i}", "command", command, "minor", process->minor);
}

/* Start over the driver of @target, or over ours if that is null. */
static inline void fake_start_on(struct fake_process *process, const char *target)
{
	struct error_text text = { "" };
	json_t *request;
	int ready[2];
	char byte;

	process->disk = mmap(NULL, sizeof(*process->disk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(process->disk, MAP_FAILED);
	process->disk->kill_at = -1;
	process->release = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pipe(ready), 0);
	fflush(NULL);
	process->pid = fork();
	assert_true(process->pid >= 0);
	if (!process->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		exit(fake_main(process->disk, process->release, ready[1]));
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	process->minor = tapctl_minor_allocate(-1, &text);
	assert_true(process->minor >= 0);
	if (tapctl_connect(&process->ctl, process->pid, &text))
		fail_msg("connect: %s", text.text);
	json_decref(fake_call(process, fake_request(process, "attach")));
	request = fake_request(process, "open");
	json_object_set_new(request, "target", json_string(target));
	json_decref(fake_call(process, request));
}

static inline void fake_start(struct fake_process *process)
{
	fake_start_on(process, "null:" FAKE_SIZE);
}

/* Stop the process, dead or alive, and remove all that is left of it. */
static inline void fake_stop(struct fake_process *process)
{
	tapctl_close(process->ctl);
	kill(process->pid, SIGKILL);
	waitpid(process->pid, NULL, 0);
	tapctl_process_clean(process->pid);
	tapctl_minor_free(process->minor, NULL);
	close(process->release);
	munmap(process->disk, sizeof(*process->disk));
}

static inline void fake_release(struct fake_process *process)
{
	memset(process->disk->hold, 0, sizeof(process->disk->hold));
	assert_int_equal(eventfd_write(process->release, 1), 0);
}

/* Poll for an effect of another process that does not answer us. */
#define wait_until(condition) \
	do { \
		unsigned wait_until_ms_; \
		for (wait_until_ms_ = 0; !(condition) && wait_until_ms_ < TIMEOUT_MS; wait_until_ms_++) \
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); \
		if (wait_until_ms_ == TIMEOUT_MS) \
			fail_msg("never: %s", #condition); \
	} while (0)

static char fake_dir[64], fake_state[80];

/* For cmocka_run_group_tests(). */
static inline int fake_make_directory(void **state)
{
	strcpy(fake_dir, "/var/tmp/tapsnap-snapshot-XXXXXX");
	assert_non_null(mkdtemp(fake_dir));
	snprintf(fake_state, sizeof(fake_state), "%s/state", fake_dir);
	assert_int_equal(setenv(RUN_DIR_ENV, fake_dir, 1), 0);
	return setenv(STATE_DIR_ENV, fake_state, 1);
}

static inline int fake_remove_directory(void **state)
{
	char command[80];

	snprintf(command, sizeof(command), "rm -rf %s", fake_dir);
	return system(command);
}

#endif
