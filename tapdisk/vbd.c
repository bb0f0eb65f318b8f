/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd.c - the states of a disk (vbd.h draws them), and its clients.
 *
 * Invariants, asserted by vbd_check():
 *   CLOSED    no backend, no clients, no waiters, no snapshot command or freeze
 *   RUNNING   a backend; clients run
 *   DRAINING  a backend; clients are stopped
 *   RELEASING no backend: it is being closed (vbd_release.c); clients are stopped
 *   PAUSED    no backend; clients are stopped
 *
 * While draining, a request in flight completes with all its steps, unless
 * there may be thousands of them (nbd_request.c). Each step is submitted from
 * the completion of the step before, so vbd_prepare() never sees in_flight at
 * zero in between.
 */
#include "vbd_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "nbd.h"
#include "path.h"
#include "probe.h"
#include "takeover.h"

void (*vbd_event)(struct vbd *vbd, json_t *event);

void vbd_emit_event(struct vbd *vbd, json_t *event)
{
	if (event && vbd_event)
		vbd_event(vbd, event);
	json_decref(event);
}

unsigned vbd_count_frontends(const struct vbd *vbd)
{
	unsigned count = 0;

	for (const struct vbd_client *client = vbd->clients; client; client = client->next)
		count += client->ops->close != NULL;
	return count;
}

static void vbd_check(const struct vbd *vbd)
{
	switch (vbd->state) {
	case VBD_CLOSED:
		assert(!vbd->backend && !vbd->clients && !vbd->waiters && !vbd->target && !vbd->stop_time);
		assert(!vbd->snapshots && !vbd->freeze.state && !vbd->reverting && !vbd->throttle.held.count);
		assert(!vbd->errors.waiting.count && !vbd->errors.stopped && !vbd->errors.probe);
		break;
	case VBD_RUNNING:
		assert(vbd->backend && vbd->target && !vbd->stop_time && !vbd->resume_failed);
		break;
	case VBD_DRAINING:
		assert(vbd->backend && vbd->target && vbd->stop_time);
		break;
	case VBD_RELEASING:
	case VBD_PAUSED:
		assert(!vbd->backend && vbd->target && vbd->stop_time && !vbd->snapshots && !vbd->freeze.state);
		break;
	}
}

static void vbd_stop_clients(struct vbd *vbd)
{
	vbd->stop_time = loop_clock();
	for (struct vbd_client *client = vbd->clients; client; client = client->next)
		client->ops->stop(client);
}

static void vbd_start_clients(struct vbd *vbd)
{
	uint64_t stall = loop_clock() - vbd->stop_time;

	vbd->stop_time = 0;
	stats_count_stall(&vbd->stalls, stall);
	for (struct vbd_client *client = vbd->clients; client; client = client->next)
		client->ops->start(client);
}

/*
 * A drain has come to nothing. What has waited behind an error is tried if it need not wait any more: while it drained,
 * what failed was tried and done, or the policy has changed. What waits for room has its own time (vbd_space.c).
 */
static void vbd_run_on(struct vbd *vbd)
{
	const struct vbd_errors *errors = &vbd->errors;

	vbd->state = VBD_RUNNING;
	if (errors->stopped ? errors->policy != ON_ERROR_STOP : errors->waiting.count > errors->no_room)
		vbd_error_go_on(vbd);
	vbd_start_clients(vbd);
}

static void vbd_close_backend(struct vbd *vbd)
{
	if (vbd->backend)
		backend_close(vbd->backend);
	vbd->backend = NULL;
	vbd->reverting = false;		/* the next open settles a prepared revert */
}

static void vbd_count_drain(struct vbd *vbd)
{
	uint64_t drain = loop_clock() - vbd->stop_time;

	vbd->stalls.last_drain_ns = drain;
	if (drain > vbd->stalls.longest_drain_ns)
		vbd->stalls.longest_drain_ns = drain;
}

/* Completed writes may be lost: each client's next flush fails, on whichever image. */
static void vbd_count_loss(struct vbd *vbd)
{
	log_warning("minor %d: paused without a flush: writes may be lost, and the guest's next flush will fail",
		    vbd->minor);
	vbd->losses++;
	vbd->loss_reported = false;
}

/* The final flush of the drain is done: DRAINING -> RELEASING, or back to RUNNING if it failed. */
static void vbd_flushed(struct block_request *flush, int error)
{
	struct vbd *vbd = flush->owner;

	vbd->flushing = false;
	vbd_count_drain(vbd);
	if (error)
		log_error("minor %d: final flush of %s: %s", vbd->minor, vbd->target, strerror(-error));
	vbd->lost = error && vbd->forced;
	if (vbd->lost)
		vbd_count_loss(vbd);
	if (error && !vbd->forced && !vbd->closing) {
		vbd_run_on(vbd);
		waiter_wake_all(&vbd->waiters, error);
		return;
	}
	vbd->drained = true;	/* a backend must not be closed from inside its own completion */
}

/* Resume unless the disk is being closed, or somebody has asked for the pause. */
void vbd_released(struct vbd *vbd, char *store)
{
	vbd->state = VBD_PAUSED;
	vbd_check(vbd);
	if (store)
		vbd_commit_finish(vbd);
	if (!vbd->closing && !vbd->waiters && !vbd->held_paused)
		vbd_resume(vbd);
	if (store)
		vbd_commit_remove_store(vbd, store);
	free(store);
	if (!vbd->closing)
		waiter_wake_all(&vbd->waiters, 0);
}

static void vbd_drained(struct vbd *vbd)
{
	char *store = vbd->commit.merged ? vbd->backend->overlay : NULL;

	vbd->drained = false;
	if (store)
		vbd->backend->overlay = NULL;
	else
		vbd_commit_interrupted(vbd);
	vbd->reverting = false;		/* the next open settles a prepared revert */
	vbd_release(vbd, store);
}

/* No client request is in flight any more. */
static void vbd_flush(struct vbd *vbd)
{
	vbd->flushing = true;
	vbd->flush = (struct block_request){ .op = BLOCK_FLUSH, .done = vbd_flushed, .owner = vbd };
	backend_submit(vbd->backend, &vbd->flush);
}

static bool vbd_clients_quiet(const struct vbd *vbd)
{
	bool quiet = true;

	for (struct vbd_client *client = vbd->clients; client; client = client->next)
		quiet &= !client->ops->quiet || client->ops->quiet(client);
	return quiet;
}

static void vbd_continue_drain(struct vbd *vbd)
{
	if (vbd->drained && vbd_clients_quiet(vbd))
		vbd_drained(vbd);
	else if (vbd->drained || vbd_commit_retreat(vbd))
		return;
	else if (!vbd->flushing && !vbd->snapshots && !vbd->backend->in_flight && vbd_clients_quiet(vbd) &&
		 !vbd_commit_end(vbd))
		vbd_flush(vbd);
	else if (vbd->backend->waiting)
		backend_give_up(vbd->backend);	/* the requests move to vbd_error.c, or fail if the disk is being closed */
}

/* No frontend is left: PAUSED -> CLOSED. */
static void vbd_closed(struct vbd *vbd)
{
	nbd_server_stop(vbd->nbd);
	vbd->nbd = NULL;
	vbd_forget_space(vbd);
	vbd_unresponsive_forget(vbd);
	vbd_overlay_forget(vbd);
	vbd_commit_forget(vbd);
	log_info("minor %d: closed %s", vbd->minor, vbd->target);
	free(vbd->target);
	free(vbd->journal);
	vbd->target = vbd->journal = NULL;
	vbd->stop_time = 0;
	vbd->closing = false;
	vbd->resume_failed = false;
	vbd->losses = 0;
	vbd->errors.answered = 0;
	vbd->state = VBD_CLOSED;
	vbd->held_paused = false;
	vbd->former = 0;
	takeover_disk_forget(vbd->minor);
	vbd_emit_event(vbd, json_pack("{s:s, s:i}", "event", "closed", "minor", vbd->minor));
	/* The waiters may destroy the disk. */
	waiter_wake_all(&vbd->waiters, 0);
}

static bool vbd_run_clients(struct vbd *vbd)
{
	struct vbd_client *client, *next;
	bool more = false;

	for (client = vbd->clients; client; client = next) {
		next = client->next;
		if (client->ops->run)
			more |= client->ops->run(client);
	}
	return more;
}

/*
 * A leaving frontend does not wait for room: its successor issues unanswered requests again. The driver gives up all
 * waiting requests; those of other clients wait in vbd_error.c from then on.
 */
static bool vbd_end_waiting(struct vbd *vbd)
{
	for (const struct vbd_client *client = vbd->clients; client; client = client->next) {
		if (client->leaving) {
			backend_give_up(vbd->backend);
			return true;
		}
	}
	return false;
}

/* Before each sleep: responses, new requests, then state changes. The engine commits after all disks have run. */
static bool vbd_prepare(void *arg)
{
	struct vbd *vbd = arg;
	bool more = vbd_run_clients(vbd);

	if (vbd->backend && vbd->backend->waiting)
		more |= vbd_end_waiting(vbd);
	vbd_watch_space(vbd);
	vbd_unresponsive_watch(vbd);
	more |= vbd_commit_run(vbd);
	if (vbd->state == VBD_DRAINING) {
		vbd_continue_drain(vbd);
		more |= vbd->drained;
	}
	more |= vbd_release_run(vbd);
	if (vbd->closing && vbd->state == VBD_PAUSED && !vbd_count_frontends(vbd))
		vbd_closed(vbd);
	return more;
}

int vbd_create(struct vbd **result, struct loop *loop, struct engine *engine, int minor)
{
	struct vbd *vbd = calloc(1, sizeof(*vbd));
	int ret;

	if (!vbd)
		return -ENOMEM;
	vbd->minor = minor;
	vbd->loop = loop;
	vbd->engine = engine;
	vbd->state = VBD_CLOSED;
	vbd->throttle.burst_ms = THROTTLE_BURST_MS;
	vbd->close_limit_ms = PROBE_TIMEOUT_S * 1000;
	ret = loop_add_prepare(loop, &vbd->prepare, vbd_prepare, vbd);
	if (ret) {
		free(vbd);
		return ret;
	}
	*result = vbd;
	return 0;
}

void vbd_destroy(struct vbd *vbd)
{
	assert(vbd->state == VBD_CLOSED);
	vbd_check(vbd);
	loop_remove(vbd->prepare);
	free(vbd);
}

unsigned vbd_state_bits(const struct vbd *vbd)
{
	unsigned bits = 0;

	switch (vbd->state) {
	case VBD_CLOSED:
		bits = TD_CLOSED;
		break;
	case VBD_RUNNING:
		bits = vbd->settling ? TD_PAUSE_REQUESTED : 0;
		break;
	case VBD_DRAINING:
	case VBD_RELEASING:
		bits = TD_PAUSE_REQUESTED | TD_QUIESCE_REQUESTED;
		break;
	case VBD_PAUSED:
		bits = TD_PAUSE_REQUESTED | TD_PAUSED | TD_QUIESCED;
		break;
	}
	if (vbd->closing)
		bits |= TD_SHUTDOWN_REQUESTED;
	if (vbd->resume_failed)
		bits |= TD_RESUME_FAILED;
	return bits;
}

/* nbd<pid>.<minor> in the run dir: block-tap writes its path into xenstore and QEMU opens it. */
static int vbd_start_nbd(struct vbd *vbd, struct error_text *text)
{
	char path[128];

	if (snprintf(path, sizeof(path), NBD_SOCKET_FORMAT, path_run_dir(), (int)getpid(), vbd->minor) >=
	    (int)sizeof(path))
		return error_set(text, -ENAMETOOLONG, "%s: too long for the path of a socket", path_run_dir());
	return nbd_server_start(&vbd->nbd, vbd, path, text);
}

static void vbd_log_opened(const struct vbd *vbd)
{
	log_info("minor %d: opened %s, %llu sectors%s%s", vbd->minor, vbd->target,
		 (unsigned long long)vbd->geometry.sectors, vbd->geometry.read_only ? ", read-only" : "",
		 vbd->geometry.direct ? "" : ", through the page cache");
	if (!vbd->geometry.direct && !vbd->options.no_direct)
		log_warning("minor %d: the file system of %s does not support O_DIRECT", vbd->minor, vbd->target);
}

static int vbd_open_backend(struct vbd *vbd, const char *target, const struct driver_options *options,
			    struct error_text *text)
{
	struct backend *backend = NULL;
	int ret = vbd->answered ? probe_take(vbd->answered, target, options, &backend, text) : 0;

	if (!ret && !backend)
		ret = backend_open(&backend, vbd->engine, target, options, text);
	if (ret)
		return ret;
	backend->failed = vbd_error_takes;
	vbd->backend = backend;
	return 0;
}

int vbd_open(struct vbd *vbd, const char *target, const struct driver_options *options, struct error_text *text)
{
	int ret;

	if (vbd->state != VBD_CLOSED)
		return error_set(text, -EEXIST, "minor %d already has %s open", vbd->minor, vbd->target);
	vbd->target = strdup(target);
	if (!vbd->target)
		return -ENOMEM;
	vbd->options = *options;
	vbd->options.journal = vbd->journal = takeover_disk_prepare(vbd->minor);
	ret = vbd_open_backend(vbd, target, &vbd->options, text);
	if (ret)
		goto out_target;
	vbd->geometry = vbd->backend->geometry;
	if (vbd->options.share_qemu == SHARE_QEMU_COMES)
		vbd->options.share_qemu = SHARE_QEMU_THERE;	/* from the next opening on */
	ret = vbd_start_nbd(vbd, text);
	if (ret)
		goto out_backend;
	memset(&vbd->stalls, 0, sizeof(vbd->stalls));
	memset(&vbd->past, 0, sizeof(vbd->past));
	vbd->held_paused = false;
	vbd->state = VBD_RUNNING;
	vbd_check(vbd);
	vbd_log_opened(vbd);
	takeover_disk_save(vbd);
	return 0;

out_backend:
	vbd_close_backend(vbd);
out_target:
	takeover_disk_give_up(vbd->minor);
	free(vbd->journal);
	free(vbd->target);
	vbd->journal = vbd->target = NULL;
	return ret;
}

void vbd_begin_drain(struct vbd *vbd)
{
	vbd_stop_clients(vbd);
	vbd->forced = false;
	vbd->state = VBD_DRAINING;
	vbd_throttle_release(vbd);
	vbd_thaw(vbd, "the disk is paused or closed");
	vbd_check(vbd);
}

void vbd_undrain(struct vbd *vbd)
{
	assert(vbd->state == VBD_DRAINING);
	if (vbd->closing || vbd->waiters)
		return;
	vbd_run_on(vbd);
}

/* Call @done at the end of the drain or the close. */
static int vbd_wait(struct vbd *vbd, void (*done)(void *arg, int error), void *arg)
{
	int ret = vbd_release_limit(vbd);

	return ret ? ret : waiter_add(&vbd->waiters, done, arg);
}

int vbd_pause(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text)
{
	int ret;

	if (vbd->state == VBD_CLOSED)
		return error_set(text, -EINVAL, "minor %d has no image open", vbd->minor);
	if (vbd->closing)
		return error_set(text, -EBUSY, "minor %d is being closed", vbd->minor);
	/* if its freeze has expired, it resumes the disk when drained, which would end this pause, too */
	if (vbd->overlay.waiting)
		return error_set(text, -EBUSY, "minor %d: a snapshot is being taken", vbd->minor);
	if (vbd->state == VBD_PAUSED) {
		done(arg, 0);
		return 0;
	}
	ret = vbd_wait(vbd, done, arg);
	if (ret)
		return ret;
	if (vbd->state == VBD_RUNNING)
		vbd_begin_drain(vbd);
	vbd->forced |= force;
	return 0;
}

static void vbd_emit_resized(struct vbd *vbd)
{
	vbd_emit_event(vbd, json_pack("{s:s, s:i, s:I}", "event", "resized", "minor", vbd->minor,
				      "sectors", (json_int_t)vbd->geometry.sectors));
}

/* A connected guest relies on the size and sector size that it was told. */
static int vbd_check_replacement(const struct vbd *vbd, const struct driver_geometry *geometry, const char *target,
				 struct error_text *text)
{
	if (!vbd->clients)
		return 0;
	if (geometry->sectors < vbd->geometry.sectors)
		return error_set(text, -EINVAL, "%s has %llu sectors, the disk in use has %llu: it cannot shrink", target,
				 (unsigned long long)geometry->sectors, (unsigned long long)vbd->geometry.sectors);
	if (geometry->sector_size != vbd->geometry.sector_size)
		return error_set(text, -EINVAL, "%s has sectors of %u bytes, the disk in use has %u", target,
				 geometry->sector_size, vbd->geometry.sector_size);
	return 0;
}

/* Open and check the image; the state stays PAUSED. On error nothing has changed. */
static int vbd_reopen(struct vbd *vbd, const char *target, struct error_text *text)
{
	char *copy = strdup(target);
	int ret;

	if (!copy)
		return -ENOMEM;
	ret = vbd_open_backend(vbd, target, &vbd->options, text);
	if (ret)
		goto out;
	ret = vbd_check_replacement(vbd, &vbd->backend->geometry, target, text);
	if (ret) {
		vbd_close_backend(vbd);
		goto out;
	}
	free(vbd->target);
	vbd->target = copy;
	return 0;
out:
	free(copy);
	return ret;
}

int vbd_unpause(struct vbd *vbd, const char *target, struct error_text *text)
{
	uint64_t sectors = vbd->geometry.sectors;
	int ret;

	if (vbd->state == VBD_CLOSED)
		return error_set(text, -EINVAL, "minor %d has no image open", vbd->minor);
	if (vbd->closing || vbd->state == VBD_DRAINING || vbd->state == VBD_RELEASING || vbd->settling)
		return error_set(text, -EBUSY, "minor %d is still draining", vbd->minor);
	if (vbd->state == VBD_RUNNING)
		return target ? error_set(text, -EINVAL, "minor %d is not paused", vbd->minor) : 0;
	ret = vbd_reopen(vbd, target ? target : vbd->target, text);
	vbd->resume_failed = ret != 0;
	if (ret)
		return ret;
	vbd->geometry = vbd->backend->geometry;
	vbd_log_opened(vbd);
	vbd_overlay_forget(vbd);
	vbd->state = VBD_RUNNING;
	vbd->held_paused = false;
	takeover_disk_save(vbd);	/* before any request on this image is answered */
	vbd_error_go_on(vbd);
	vbd_start_clients(vbd);
	vbd_check(vbd);
	if (vbd->geometry.sectors != sectors)
		vbd_emit_resized(vbd);
	return 0;
}

int vbd_close(struct vbd *vbd, bool force, void (*done)(void *arg, int error), void *arg, struct error_text *text)
{
	unsigned connected = vbd_count_frontends(vbd);
	int ret;

	if (vbd->state == VBD_CLOSED) {
		done(arg, 0);
		return 0;
	}
	if (connected && !force)
		return error_set(text, -EBUSY, "%s is in use by %u frontend%s", vbd->target, connected,
				 connected == 1 ? "" : "s");
	ret = vbd_wait(vbd, done, arg);
	if (ret)
		return ret;
	vbd->closing = true;
	for (struct vbd_client *client = vbd->clients; client; client = client->next)
		if (client->ops->close)
			client->ops->close(client);
	if (vbd->state == VBD_RUNNING)
		vbd_begin_drain(vbd);
	vbd_error_end(vbd);
	return 0;
}

int vbd_refresh_size(struct vbd *vbd, struct error_text *text)
{
	uint64_t sectors = vbd->geometry.sectors;
	int ret = backend_refresh_size(vbd->backend, text);

	if (ret)
		return ret;
	vbd->geometry = vbd->backend->geometry;
	if (vbd->geometry.sectors == sectors)
		return 0;
	log_info("minor %d: %s resized from %llu to %llu sectors", vbd->minor, vbd->target,
		 (unsigned long long)sectors, (unsigned long long)vbd->geometry.sectors);
	vbd_emit_resized(vbd);
	return 0;
}

int vbd_resize(struct vbd *vbd, struct error_text *text)
{
	if (vbd->state != VBD_RUNNING)
		return error_set(text, -EINVAL, "minor %d is not running", vbd->minor);
	return vbd_refresh_size(vbd, text);
}

int vbd_add_client(struct vbd *vbd, struct vbd_client *client)
{
	if (vbd->state == VBD_CLOSED || vbd->closing)
		return -ENODEV;
	if (vbd->reverting)	/* the client would see data and size change under it */
		return -EBUSY;
	client->vbd = vbd;
	/* this frontend may succeed one that left before the loss was reported to it */
	client->losses_reported = vbd->losses && !vbd->loss_reported ? vbd->losses - 1 : vbd->losses;
	client->next = vbd->clients;
	vbd->clients = client;
	if (vbd->state != VBD_RUNNING)
		client->ops->stop(client);
	return 0;
}

void vbd_remove_client(struct vbd_client *client)
{
	struct vbd_client **link;

	for (link = &client->vbd->clients; *link != client; link = &(*link)->next)
		assert(*link);
	*link = client->next;
}

bool vbd_reports_loss(struct block_request *req)
{
	struct vbd_client *client = req->front;
	struct vbd *vbd = client->vbd;

	if (req->op != BLOCK_FLUSH || client->losses_reported == vbd->losses)
		return false;
	client->losses_reported = vbd->losses;
	vbd->loss_reported = true;
	req->done(req, -EIO);
	return true;
}

void vbd_submit(struct vbd_client *client, struct block_request *req)
{
	struct vbd *vbd = client->vbd;

	assert(vbd->backend);
	req->front = client;
	req->front_error = 0;
	req->had_no_room = false;
	if (!vbd_reports_loss(req) && !vbd_throttle_holds(vbd, req))
		vbd_forward(vbd, req);
}

void vbd_forward(struct vbd *vbd, struct block_request *req)
{
	if (!vbd_error_holds(vbd, req) && !vbd_reports_loss(req))
		backend_submit(vbd->backend, req);
}
