/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_revert.c - reverts one disk, or several together, to a snapshot.
 *
 *   prepare all --> all are durable --> decide --> commit all
 *        |                                |
 *        +-------- any failure: abort ----+
 *
 * A prepared disk cannot be used until it is committed or aborted. The
 * decision record is the same as for taking a snapshot (client_group.c):
 * after a crash each disk reads it.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client_internal.h"
#include "client_many.h"
#include "clock.h"
#include "driver.h"

#define UNDO_MS 10000
#define LOOK_NS 10000000	/* 10 ms */

struct revert {
	const char *name;
	char decision[PATH_MAX];	/* the record's path; "": a single disk has none */
};

static json_t *revert_request(struct many_disk *disk, void *arg)
{
	const struct revert *revert = arg;

	return json_pack("{s:s, s:i, s:s, s:s*}", "command", "snapshot-revert", "minor", disk->disk.minor,
			 "name", revert->name, "decision", revert->decision[0] ? revert->decision : NULL);
}

/* Skips disks that were cut off: they abort by themselves. */
static json_t *abort_request(struct many_disk *disk, void *arg)
{
	disk->skip = !disk->ctl || !disk->prepared;
	return disk->skip ? NULL : json_pack("{s:s, s:i, s:s}", "command", "snapshot-abort", "minor", disk->disk.minor,
					     "name", SNAPSHOT_REVERT_INTENT);
}

static void undo(struct many *many, const struct revert *revert)
{
	struct error_text ignored = { "" };

	many_call(many, abort_request, NULL, false, UNDO_MS, &ignored);
	unlink(revert->decision);	/* a disk that was cut off may have created it, to abort */
}

static int prepare(struct many *many, struct revert *revert, int timeout_ms, struct error_text *text)
{
	int error = many_call(many, revert_request, revert, false, timeout_ms, text);

	for (unsigned i = 0; i < many->count; i++)
		many->disks[i].prepared = many->disks[i].reply != NULL;
	client_step("prepared");
	if (error == -EALREADY)
		undo(many, revert);
	return error;
}

/*
 * Retry while a disk is still busy (-EALREADY) with the revert of a client
 * that was killed: it will soon complete, or read the decision.
 */
static int in_turn(int (*ask)(struct many *many, struct revert *revert, int timeout_ms, struct error_text *text),
		   struct many *many, struct revert *revert, int timeout_ms, struct error_text *text)
{
	int64_t deadline = clock_ms() + timeout_ms;
	int error = ask(many, revert, timeout_ms, text);

	while (error == -EALREADY && (timeout_ms < 0 || clock_ms() < deadline)) {
		nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
		text->text[0] = '\0';
		error = ask(many, revert, timeout_ms, text);
	}
	return error;
}

static int commit(struct many *many, const struct revert *revert, int timeout_ms, struct error_text *text)
{
	struct error_text reason = { "" };
	int error = client_decision_tell(many, SNAPSHOT_REVERT_INTENT, timeout_ms, &reason);

	client_step("committed");
	if (!error && unlink(revert->decision))
		error = error_set(&reason, -errno, "%s: %s", revert->decision, strerror(errno));
	return error ? error_set(text, error, "all disks revert to snapshot %s, but not all of them know yet: %s; close that "
				 "disk: it learns it from %s when it is next opened: keep this file until then", revert->name,
				 reason.text, revert->decision) : 0;
}

int client_revert_together(struct many *many, const char *name, const char *owner, int timeout_ms, struct error_text *text)
{
	struct error_text reason = { "" };
	struct revert revert = { .name = name };
	int error = client_decision_name(revert.decision, owner, text);

	if (error)
		return error;
	error = in_turn(prepare, many, &revert, timeout_ms, &reason);
	if (!error)
		error = client_decision_make(revert.decision, &reason);
	if (!error)
		return commit(many, &revert, timeout_ms, text);
	/* when its connection closes each disk reads the record itself */
	if (error == -EINPROGRESS)
		return error_set(text, error, "reverting to %s: %s; each disk will learn the outcome by itself", name,
				 reason.text);
	undo(many, &revert);
	return error_set(text, error, "%s; no disk was reverted", reason.text);
}

static int go_back(struct many *many, struct revert *revert, int timeout_ms, struct error_text *text)
{
	int error = many_call(many, revert_request, revert, false, timeout_ms, text);

	client_step("asked");
	return error;
}

int client_revert_alone(struct many *many, const char *name, int timeout_ms, struct error_text *text)
{
	struct error_text reason = { "" };
	struct revert revert = { .name = name };
	int error = in_turn(go_back, many, &revert, timeout_ms, &reason);

	return error ? error_set(text, error, "%s", reason.text) : 0;
}
