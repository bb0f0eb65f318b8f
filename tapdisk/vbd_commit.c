/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_commit.c - commits a store to the raw image that the disk was opened as,
 * while the disk is in use. The driver copies (SNAPSHOT_MERGE_*); this file
 * sets the pace and switches to the image at the end.
 *
 *   NONE ---> BEGINNING ---> RUNNING ---> ENDING ---> DONE
 *                |              |   ^        |
 *                +--------------+---|--------+---> FAILED, CANCELED: the disk stays in the store
 *                                   +--------+ the store is full: writes have to end first
 *
 * ENDING is a drain: the clients are stopped, the rest is copied, the store is
 * marked as merged, the record is removed, the image is opened. Each step is
 * durable before the next begins (overlay.h).
 *
 * The clients are stopped when little is left to copy. A guest that rewrites
 * the same blocks would keep that amount high, so the limit grows with passes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "overlay.h"
#include "path.h"
#include "processor.h"
#include "thread.h"
#include "vbd_internal.h"

#define LITTLE_BYTES (4ull << 20)
#define PATIENT_PASSES 4u		/* after them LITTLE_BYTES doubles with each pass */
#define LOOK_AGAIN_MS 100
#define CANCELED "canceled; the disk is still in the store"

static const char *const state_names[] = {
	[COMMIT_NONE] = "none", [COMMIT_BEGINNING] = "running", [COMMIT_RUNNING] = "running", [COMMIT_ENDING] = "running",
	[COMMIT_DONE] = "done", [COMMIT_FAILED] = "failed", [COMMIT_CANCELED] = "canceled",
};

bool vbd_commit_active(const struct vbd *vbd)
{
	return vbd->commit.state >= COMMIT_BEGINNING && vbd->commit.state <= COMMIT_ENDING;
}

static void submit(struct vbd *vbd, enum snapshot_op op);

/* -> FAILED, CANCELED */
static void commit_over(struct vbd *vbd, enum vbd_commit_state state, int error, const char *why)
{
	struct vbd_commit *commit = &vbd->commit;

	loop_remove(commit->timer);
	commit->timer = NULL;
	commit->state = state;
	commit->error = error_set(&commit->why, error, "%s", why);
	log_warning("minor %d: the commit of %s has ended: %s", vbd->minor, vbd->target, commit->why.text);
}

void vbd_commit_forget(struct vbd *vbd)
{
	loop_remove(vbd->commit.timer);
	vbd->commit = (struct vbd_commit){ .state = COMMIT_NONE };
}

/* The disk was drained for another command. */
void vbd_commit_interrupted(struct vbd *vbd)
{
	if (vbd_commit_active(vbd))
		commit_over(vbd, COMMIT_FAILED, -EINTR, "the disk was paused or closed: begin the commit again");
}

static void begin_done(struct vbd *vbd, int error)
{
	struct vbd_commit *commit = &vbd->commit;

	if (!error)
		commit->state = COMMIT_RUNNING;
	else if (error != -EAGAIN)
		commit_over(vbd, COMMIT_FAILED, error, commit->command.error.text);
}

/* A step costs the time that the rate gives it, its own included. A delay beyond that is not caught up with: the rate is a limit. */
static void pay(struct vbd_commit *commit)
{
	uint64_t now = loop_clock(), cost = commit->command.copied * 1000000000ull / commit->rate;
	uint64_t due = (commit->due ? commit->due : now) + cost;

	commit->due = due > now ? due : now;
}

static void step_done(struct vbd *vbd, int error)
{
	struct vbd_commit *commit = &vbd->commit;

	if (error) {
		commit_over(vbd, COMMIT_FAILED, error, commit->command.error.text);
		submit(vbd, SNAPSHOT_MERGE_CANCEL);
	} else if (commit->rate) {
		pay(commit);
	}
}

/* On success the drain completes; on failure the disk runs again, unless another command needs the drain. */
static void end_done(struct vbd *vbd, int error)
{
	struct vbd_commit *commit = &vbd->commit;

	if (!error) {
		commit->merged = true;
		vbd->drained = true;
		return;
	}
	commit_over(vbd, COMMIT_FAILED, error, commit->command.error.text);
	vbd_undrain(vbd);
	submit(vbd, SNAPSHOT_MERGE_CANCEL);
}

static void command_done(struct snapshot_command *command, int error)
{
	struct vbd *vbd = command->owner;

	vbd->commit.busy = false;
	vbd->snapshots--;
	vbd->commit.synced = command->op == SNAPSHOT_MERGE_SYNC;
	if (!error && command->op != SNAPSHOT_MERGE_CANCEL) {
		vbd->commit.left = command->left;
		vbd->commit.pass = command->pass;
	}
	if (command->op == SNAPSHOT_MERGE_BEGIN)
		begin_done(vbd, error);
	else if (command->op == SNAPSHOT_MERGE_STEP || command->op == SNAPSHOT_MERGE_SYNC)
		step_done(vbd, error);
	else if (command->op == SNAPSHOT_MERGE_END)
		end_done(vbd, error);
}

static void submit(struct vbd *vbd, enum snapshot_op op)
{
	vbd->commit.command = (struct snapshot_command){ .op = op, .done = command_done, .owner = vbd };
	vbd->commit.busy = true;
	vbd->snapshots++;
	backend_snapshot(vbd->backend, &vbd->commit.command);
}

static int check_begin(const struct vbd *vbd, struct error_text *text)
{
	if (vbd->state == VBD_CLOSED)
		return error_set(text, -EINVAL, "minor %d has no image open", vbd->minor);
	if (vbd->state != VBD_RUNNING || vbd->settling)
		return error_set(text, -EBUSY, "minor %d is being paused or closed, or is paused", vbd->minor);
	if (vbd->backend->ops == &driver_aio)
		return error_set(text, -EINVAL, "minor %d: %s is not in a store", vbd->minor, vbd->target);
	if (!vbd->backend->overlay)
		return error_set(text, -EINVAL, "minor %d: %s was opened as a store: only a disk opened as its raw image can "
				 "be committed; use tap-img commit while it is closed", vbd->minor, vbd->target);
	if (vbd->snapshots || vbd->freeze.state != FREEZE_NONE)
		return error_set(text, -EBUSY, "minor %d: a snapshot of %s is running", vbd->minor, vbd->target);
	return 0;
}

int vbd_commit(struct vbd *vbd, uint64_t rate, bool adjust, struct error_text *text)
{
	struct vbd_commit *commit = &vbd->commit;
	int error;

	if (vbd_commit_active(vbd)) {
		if (commit->cancel)
			return error_set(text, -EBUSY, "minor %d: the commit is being canceled", vbd->minor);
		commit->rate = adjust ? rate : commit->rate;
		commit->due = 0;
		return 0;
	}
	error = check_begin(vbd, text);
	if (error)
		return error;
	*commit = (struct vbd_commit){ .state = COMMIT_BEGINNING, .rate = rate, .pass = 1 };
	commit->total = commit->left = vbd->geometry.sectors << SECTOR_SHIFT;
	log_info("minor %d: commit of %s to %s", vbd->minor, vbd->backend->overlay, vbd->target);
	submit(vbd, SNAPSHOT_MERGE_BEGIN);
	if (commit->state != COMMIT_FAILED)
		return 0;
	return error_set(text, commit->error, "%s", commit->why.text);
}

int vbd_commit_cancel(struct vbd *vbd, struct error_text *text)
{
	if (!vbd_commit_active(vbd))
		return error_set(text, -EINVAL, "minor %d: no commit is running", vbd->minor);
	vbd->commit.cancel = true;
	return 0;
}

static bool little_left(const struct vbd *vbd)
{
	unsigned pass = vbd->commit.pass, more = pass > PATIENT_PASSES ? pass - PATIENT_PASSES : 0;

	/* the drain would wait for writes that wait for room */
	return vbd->commit.left <= LITTLE_BYTES << (more < 40 ? more : 40) && !vbd->backend->waiting;
}

static void look_again(void *arg)
{
	((struct vbd *)arg)->commit.timer = NULL;
}

static void wait_until(struct vbd *vbd, uint64_t due)
{
	struct vbd_commit *commit = &vbd->commit;
	uint64_t now = loop_clock(), ms = due > now ? (due - now) / 1000000 + 1 : 1;

	if (loop_add_timer(vbd->loop, &commit->timer, ms < LOOK_AGAIN_MS ? (unsigned)ms : LOOK_AGAIN_MS, look_again, vbd))
		commit->timer = NULL;
}

/* Snapshot deletions are still running (-EAGAIN): retry. */
static bool begin_again(struct vbd *vbd)
{
	struct vbd_commit *commit = &vbd->commit;

	if (commit->cancel) {
		commit_over(vbd, COMMIT_CANCELED, -ECANCELED, CANCELED);
	} else if (!commit->timer) {
		wait_until(vbd, UINT64_MAX);
		submit(vbd, SNAPSHOT_MERGE_BEGIN);
	}
	return false;
}

bool vbd_commit_run(struct vbd *vbd)
{
	struct vbd_commit *commit = &vbd->commit;

	if (commit->busy || vbd->state != VBD_RUNNING)
		return false;
	if (commit->state == COMMIT_BEGINNING)
		return begin_again(vbd);
	if (commit->state != COMMIT_RUNNING)
		return false;
	if (commit->cancel) {
		commit_over(vbd, COMMIT_CANCELED, -ECANCELED, CANCELED);
		submit(vbd, SNAPSHOT_MERGE_CANCEL);
	} else if (little_left(vbd) && commit->synced) {
		commit->state = COMMIT_ENDING;
		vbd_begin_drain(vbd);
	} else if (little_left(vbd)) {
		submit(vbd, SNAPSHOT_MERGE_SYNC);
	} else if (commit->timer) {
		return false;
	} else if (commit->due > loop_clock() || !commit->left) {
		wait_until(vbd, commit->left ? commit->due : UINT64_MAX);
	} else {
		submit(vbd, SNAPSHOT_MERGE_STEP);
	}
	return !commit->busy && !commit->timer;
}

bool vbd_commit_end(struct vbd *vbd)
{
	if (vbd->commit.state != COMMIT_ENDING || vbd->commit.merged)
		return false;
	submit(vbd, SNAPSHOT_MERGE_END);
	return true;
}

bool vbd_commit_retreat(struct vbd *vbd)
{
	if (vbd->commit.state != COMMIT_ENDING || vbd->commit.busy || !vbd->backend->waiting || vbd->closing || vbd->waiters)
		return false;
	vbd->commit.state = COMMIT_RUNNING;
	vbd_undrain(vbd);
	return true;
}

void vbd_commit_finish(struct vbd *vbd)
{
	struct error_text text = { "" };

	vbd->commit.merged = false;
	vbd->commit.left = 0;
	vbd->commit.state = COMMIT_DONE;
	/* if this fails, every open tries again, and the store is not taken for the disk */
	if (overlay_remove(strchr(vbd->target, ':') + 1, &text))
		log_error("minor %d: %s", vbd->minor, text.text);
	log_info("minor %d: commit done, the disk is %s again", vbd->minor, vbd->target);
}

static void *close_last(void *fd)
{
	close((int)(intptr_t)fd);
	return NULL;
}

/* Closing the last descriptor frees the file's space, which may take long: do it in a thread. */
static void close_aside(int fd)
{
	processor_leave();
	if (thread_start(NULL, close_last, (void *)(intptr_t)fd))
		close(fd);
}

/* Delete a store that is a file, since no open accepts it any more; a device is kept. Not while a record names the store. */
void vbd_commit_remove_store(struct vbd *vbd, const char *store)
{
	struct overlay overlay;
	struct stat st;
	int fd;

	if (overlay_find(strchr(vbd->target, ':') + 1, &overlay, NULL) || path_stat(store, &st) || !S_ISREG(st.st_mode))
		return;
	fd = path_open(store, O_RDONLY, 0);
	if (path_remove(store))
		log_warning("minor %d: %s is no longer used and cannot be removed: %s", vbd->minor, store, strerror(errno));
	if (fd >= 0)
		close_aside(fd);
}

json_t *vbd_commit_info(const struct vbd *vbd)
{
	const struct vbd_commit *commit = &vbd->commit;

	return json_pack("{s:s, s:I, s:I, s:i, s:I, s:i, s:s}", "state", state_names[commit->state],
			 "total", (json_int_t)commit->total, "left", (json_int_t)commit->left, "pass", (int)commit->pass,
			 "rate", (json_int_t)commit->rate, "errno", -commit->error, "error", commit->why.text);
}
