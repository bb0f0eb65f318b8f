/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_error.c - the error policy: a client's request that the disk has failed
 * is answered with the error, or waits here.
 *
 *   policy    no room (ENOSPC, EDQUOT)                         any other error
 *   report    answered                                         answered
 *   enospc    waits: retried every second, and by resume       answered
 *   stop      waits, likewise                                  waits, and the disk stops, until resume
 *
 * Answered under every policy: a failed flush, because the data that it covers
 * may be lost and only its writer can write it again (except one that found no
 * room for a store's own records: that waits like a write); a block status
 * request; an error of the request itself.
 *
 * Invariants:
 *  1. A waiting request is not in flight and not answered. Its client keeps it
 *     and its data; the driver does not know it. So a pause, a snapshot and a
 *     freeze do not wait for it, and after a pause it goes to the image that
 *     is open then.
 *  2. Stopped: no client request goes to the disk, flushes included; new ones
 *     wait untried, behind those that failed. The disk runs again when the
 *     first of them, tried alone, succeeds. A flush never sees the error, unless
 *     data was lost while it waited.
 *  3. Not stopped: all waiting requests wait for room.
 *  4. An unwanted request (of a leaving frontend) is never retried: the guest's
 *     next driver issues it again, or has forgotten it.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "array.h"
#include "log.h"
#include "vbd_internal.h"

#define TELL_NS 1000000000u	/* minimum interval between events of answered errors */

static const char *const policies[] = {
	[ON_ERROR_ENOSPC] = "enospc", [ON_ERROR_REPORT] = "report", [ON_ERROR_STOP] = "stop",
};

const char *vbd_on_error_name(enum vbd_on_error policy)
{
	return policies[policy];
}

int vbd_on_error_parse(const char *name, enum vbd_on_error *policy, struct error_text *text)
{
	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
		if (!strcmp(policies[i], name)) {
			*policy = (enum vbd_on_error)i;
			return 0;
		}
	}
	return error_set(text, -EINVAL, "unknown error policy \"%s\": use report, enospc or stop", name);
}

static bool is_no_room(int error)
{
	return error == -ENOSPC || error == -EDQUOT;
}

/* NULL: a request of the disk itself. */
static struct vbd_client *client_of(const struct block_request *req)
{
	return req->front;
}

static bool is_wanted(const struct block_request *req)
{
	const struct vbd_client *client = client_of(req);

	return !client->ops->wanted || client->ops->wanted(client, req);
}

static bool must_wait(enum vbd_on_error policy, const struct block_request *req, int error)
{
	const struct backend *backend = client_of(req)->vbd->backend;	/* NULL: paused, and @req waits already */

	if (req->op == BLOCK_STATUS || error == -EOPNOTSUPP)
		return false;
	if (req->op == BLOCK_FLUSH && (!is_no_room(error) || (backend && !backend->ops->flush_repeats)))
		return false;
	return is_no_room(error) ? policy != ON_ERROR_REPORT : policy == ON_ERROR_STOP;
}

static void append(struct vbd_errors *errors, struct block_request *req, int error)
{
	req->front_error = error;
	req->had_no_room = is_no_room(error);
	request_list_append(&errors->waiting, req);
	errors->no_room += is_no_room(error);
}

static void prepend(struct vbd_errors *errors, struct block_request *req, int error)
{
	req->front_error = error;
	req->had_no_room = is_no_room(error);
	request_list_prepend(&errors->waiting, req);
	errors->no_room += is_no_room(error);
}

static struct block_request *take_first(struct vbd_errors *errors)
{
	struct block_request *req = request_list_take(&errors->waiting);

	errors->no_room -= req && is_no_room(req->front_error);
	return req;
}

static struct request_list take_all(struct vbd_errors *errors)
{
	errors->no_room = 0;
	return request_list_take_all(&errors->waiting);
}

static json_t *io_error_event(const struct vbd *vbd)
{
	const struct vbd_io_error *error = &vbd->errors.error;

	return json_pack("{s:s, s:i, s:s, s:I, s:I, s:i, s:s, s:b}", "event", "io-error", "minor", vbd->minor,
			 "operation", block_op_name(error->op),
			 "sector", (json_int_t)error->sector,
			 "sectors", (json_int_t)error->nr_sectors,
			 "errno", -error->error,
			 "error", strerror(-error->error),
			 "stopped", vbd->errors.stopped);
}

static void go_on(struct vbd *vbd);

static void note(struct vbd *vbd, const struct block_request *req, int error)
{
	vbd->errors.error = (struct vbd_io_error){ req->op, req->sector, req->nr_sectors, error };
}

/* Report an answered error, at a limited rate: a client whose every request fails must not fill a listener's socket. */
static void tell_answered(struct vbd *vbd, const struct block_request *req, int error)
{
	uint64_t now = loop_clock();

	vbd->errors.answered++;
	if (vbd->errors.stopped || (vbd->errors.told && now - vbd->errors.told < TELL_NS))
		return;
	vbd->errors.told = now;
	note(vbd, req, error);
	vbd_emit_event(vbd, io_error_event(vbd));
}

static void stop(struct vbd *vbd, const struct block_request *req, int error, bool again)
{
	if (vbd->errors.stopped && !again)
		return;
	vbd->errors.stopped = true;
	note(vbd, req, error);
	log_error("minor %d: %s of %llu sectors at %llu of %s: %s: the disk is stopped until 'tap-ctl resume'",
		  vbd->minor, block_op_name(req->op), (unsigned long long)req->nr_sectors,
		  (unsigned long long)req->sector, vbd->target, strerror(-error));
	vbd_emit_event(vbd, io_error_event(vbd));
}

/* The request that was tried alone has failed again. */
static void probe_failed(struct vbd *vbd, struct block_request *req, int error)
{
	struct vbd_errors *errors = &vbd->errors;

	req->done = errors->probe_done;
	errors->probe = NULL;
	prepend(errors, req, error);
	if (is_no_room(error))
		go_on(vbd);		/* the disk works, it is only full */
	else
		stop(vbd, req, error, true);
}

bool vbd_error_takes(struct block_request *req, int error)
{
	struct vbd *vbd;

	if (!req->front)
		return false;
	vbd = client_of(req)->vbd;
	if (vbd->closing || !is_wanted(req))
		return false;
	if (!must_wait(vbd->errors.policy, req, error)) {
		if (error != -EOPNOTSUPP)
			tell_answered(vbd, req, error);
		return false;
	}
	if (req == vbd->errors.probe) {
		probe_failed(vbd, req, error);
		return true;
	}
	append(&vbd->errors, req, error);
	if (!is_no_room(error))
		stop(vbd, req, error, false);
	return true;
}

bool vbd_error_holds(struct vbd *vbd, struct block_request *req)
{
	if (!vbd->errors.stopped || !req->front)
		return false;
	if (is_wanted(req))
		append(&vbd->errors, req, req->front_error);
	else
		req->done(req, -ECANCELED);
	return true;
}

/* Submit all waiting requests; those that fail again return to the list. */
static void try_all(struct vbd *vbd)
{
	struct request_list all = take_all(&vbd->errors);
	struct block_request *req;

	while ((req = request_list_take(&all)))
		vbd_forward(vbd, req);
}

void vbd_error_try_room(struct vbd *vbd)
{
	const struct vbd_errors *errors = &vbd->errors;

	if (vbd->state != VBD_RUNNING || (errors->stopped && !errors->probe))
		return;
	backend_retry(vbd->backend);	/* the probe, too, may wait for room */
	if (!errors->stopped)
		try_all(vbd);
}

/* The disk is no longer stopped. While it drains, waiting requests keep waiting. */
static void go_on(struct vbd *vbd)
{
	struct vbd_errors *errors = &vbd->errors;

	errors->stopped = false;
	errors->told = 0;
	log_info("minor %d: %s resumed with %u waiting requests", vbd->minor, vbd->target, errors->waiting.count);
	vbd_emit_event(vbd, json_pack("{s:s, s:i, s:i}", "event", "resumed", "minor", vbd->minor,
				      "requests", (int)errors->waiting.count));
	vbd_error_try_room(vbd);
}

static void probe(struct vbd *vbd);

static void probe_over(struct block_request *req, int error)
{
	struct vbd *vbd = client_of(req)->vbd;
	struct vbd_errors *errors = &vbd->errors;

	req->done = errors->probe_done;
	errors->probe = NULL;
	if (errors->stopped && error && must_wait(errors->policy, req, error))
		probe(vbd);		/* unwanted meanwhile: try the next one */
	else if (errors->stopped)
		go_on(vbd);
	req->done(req, error);
}

static void probe(struct vbd *vbd)
{
	struct vbd_errors *errors = &vbd->errors;
	struct block_request *req;

	if (vbd->state != VBD_RUNNING)
		return;			/* vbd_unpause() probes */
	while ((req = take_first(errors)) && vbd_reports_loss(req))
		;
	if (!req) {
		go_on(vbd);
		return;
	}
	errors->probe = req;
	errors->probe_done = req->done;
	req->done = probe_over;
	backend_submit(vbd->backend, req);
}

unsigned vbd_error_go_on(struct vbd *vbd)
{
	unsigned count = vbd->errors.waiting.count + (vbd->errors.probe != NULL) + vbd->backend->waiting;

	assert(vbd->state == VBD_RUNNING);
	if (vbd->errors.stopped && !vbd->errors.probe)
		probe(vbd);
	else
		vbd_error_try_room(vbd);
	return count;
}

int vbd_error_resume(struct vbd *vbd, unsigned *count, struct error_text *text)
{
	if (vbd->state == VBD_CLOSED)
		return error_set(text, -EINVAL, "minor %d has no image open", vbd->minor);
	if (vbd->closing)
		return error_set(text, -EBUSY, "minor %d is being closed", vbd->minor);
	if (vbd->state != VBD_RUNNING)
		return error_set(text, -EBUSY, "minor %d is paused or being paused: unpause retries the waiting requests",
				 vbd->minor);
	*count = vbd_error_go_on(vbd);
	return 0;
}

/* Answer the waiting requests whose errors the new policy reports. */
static void answer_refused(struct vbd *vbd)
{
	struct request_list all = take_all(&vbd->errors);
	struct block_request *req;

	while ((req = request_list_take(&all))) {
		if (!req->front_error || must_wait(vbd->errors.policy, req, req->front_error))
			append(&vbd->errors, req, req->front_error);
		else
			req->done(req, req->front_error);
	}
}

void vbd_on_error_set(struct vbd *vbd, enum vbd_on_error policy)
{
	if (policy == vbd->errors.policy)
		return;
	vbd->errors.policy = policy;
	log_info("minor %d: on an error: %s", vbd->minor, vbd_on_error_name(policy));
	answer_refused(vbd);
	if (vbd->errors.stopped && policy != ON_ERROR_STOP && vbd->state == VBD_RUNNING)
		vbd_error_go_on(vbd);
}

void vbd_error_drop_unwanted(struct vbd_client *client)
{
	struct vbd *vbd = client->vbd;
	struct request_list all = take_all(&vbd->errors);
	struct block_request *req;

	while ((req = request_list_take(&all))) {
		if (req->front == client && !is_wanted(req))
			req->done(req, -ECANCELED);
		else
			append(&vbd->errors, req, req->front_error);
	}
}

void vbd_error_end(struct vbd *vbd)
{
	struct request_list all = take_all(&vbd->errors);
	struct block_request *req;

	vbd->errors.stopped = false;
	while ((req = request_list_take(&all)))
		req->done(req, req->front_error ? req->front_error : -EIO);
}

json_t *vbd_error_info(const struct vbd *vbd)
{
	const struct vbd_errors *errors = &vbd->errors;
	json_t *info = json_pack("{s:s, s:b, s:i, s:I}", "policy", vbd_on_error_name(errors->policy),
				 "stopped", errors->stopped,
				 "waiting", (int)(errors->waiting.count + (errors->probe != NULL) + (vbd->backend ? vbd->backend->waiting : 0)),
				 "answered", (json_int_t)errors->answered);

	if (info && errors->stopped) {
		json_object_set_new(info, "operation", json_string(block_op_name(errors->error.op)));
		json_object_set_new(info, "sector", json_integer((json_int_t)errors->error.sector));
		json_object_set_new(info, "sectors", json_integer((json_int_t)errors->error.nr_sectors));
		json_object_set_new(info, "errno", json_integer(-errors->error.error));
		json_object_set_new(info, "error", json_string(strerror(-errors->error.error)));
	}
	return info;
}

json_t *vbd_error_event(const struct vbd *vbd)
{
	return vbd->errors.stopped ? io_error_event(vbd) : NULL;
}
