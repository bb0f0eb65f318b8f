/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_throttle.c - limits the requests and bytes per second of a disk, for all
 * its clients together.
 *
 * Each limit has a time at which all admitted requests are paid for. A request
 * is admitted while that time is at most the burst ahead of now; others wait
 * here, in order, for a timer. A flush counts as a request: emptying the
 * device's cache affects others that share it. The flush of a drain does not
 * come here. A discard counts as one request of 0 bytes, however large: it
 * moves no data, and counted by bytes one mkfs would use up hours of a limit.
 * So does zeroing, unless the device has to write the zeros. Block status
 * requests are not limited.
 *
 * A drain does not wait for the throttle: held requests are submitted
 * immediately, but still paid for. A guest cannot cause a drain. It can
 * disconnect its frontend at any time, so held requests of a leaving frontend
 * are dropped, as those in vbd_error.c are: they were not answered, and the
 * guest's next driver, or the resumed guest, issues them again.
 */
#include <assert.h>
#include <errno.h>

#include "vbd_internal.h"

#define NS 1000000000.0
#define NS_PER_MS 1000000u

static bool is_counted(const struct block_request *req)
{
	return req->op != BLOCK_STATUS;
}

static void pay_one(uint64_t *paid, uint64_t now, uint64_t rate, uint64_t amount)
{
	if (!rate)
		return;
	if (*paid < now)
		*paid = now;
	*paid += (uint64_t)((double)amount * NS / (double)rate);
}

/* The bytes that the device has to move. */
static uint64_t bytes_of(const struct vbd *vbd, const struct block_request *req)
{
	if (req->op == BLOCK_READ || req->op == BLOCK_WRITE || (req->op == BLOCK_WRITE_ZEROES && !vbd->geometry.fast_zeroes))
		return req->nr_sectors << SECTOR_SHIFT;
	return 0;
}

static void pay(struct vbd *vbd, const struct block_request *req, uint64_t now)
{
	struct vbd_throttle *throttle = &vbd->throttle;

	pay_one(&throttle->iops_paid, now, throttle->iops, 1);
	pay_one(&throttle->bytes_paid, now, throttle->bytes, bytes_of(vbd, req));
}

/* When the next request may be admitted; loop clock, ns. */
static uint64_t next_time(const struct vbd_throttle *throttle)
{
	uint64_t paid = throttle->iops_paid > throttle->bytes_paid ? throttle->iops_paid : throttle->bytes_paid;
	uint64_t burst = (uint64_t)throttle->burst_ms * NS_PER_MS;

	return paid > burst ? paid - burst : 0;
}

static void let_go(struct vbd *vbd, uint64_t now)
{
	struct block_request *req = request_list_take(&vbd->throttle.held);

	pay(vbd, req, now);
	vbd_forward(vbd, req);
}

static void time_has_come(void *arg);

/* False without memory for a timer: then nothing may wait, as a client that only waits for held requests sends no more. */
static bool set_timer(struct vbd *vbd, uint64_t now)
{
	struct vbd_throttle *throttle = &vbd->throttle;
	uint64_t next = next_time(throttle), ms = next > now ? (next - now + NS_PER_MS - 1) / NS_PER_MS : 1;

	return throttle->timer ||
	       !loop_add_timer(vbd->loop, &throttle->timer, ms < 1000 ? (unsigned)ms : 1000, time_has_come, vbd);
}

static void time_has_come(void *arg)
{
	struct vbd *vbd = arg;
	uint64_t now = loop_clock();

	loop_remove(vbd->throttle.timer);	/* still pending when vbd_throttle_set() calls this */
	vbd->throttle.timer = NULL;
	while (vbd->throttle.held.count && next_time(&vbd->throttle) <= now)
		let_go(vbd, now);
	if (vbd->throttle.held.count && !set_timer(vbd, now))
		vbd_throttle_release(vbd);
}

bool vbd_throttle_holds(struct vbd *vbd, struct block_request *req)
{
	struct vbd_throttle *throttle = &vbd->throttle;
	uint64_t now;

	if ((!throttle->iops && !throttle->bytes) || !is_counted(req))
		return false;
	now = loop_clock();
	if (vbd->state != VBD_RUNNING || (!throttle->held.count && next_time(throttle) <= now) || !set_timer(vbd, now)) {
		pay(vbd, req, now);
		return false;
	}
	request_list_append(&throttle->held, req);
	throttle->delayed++;
	return true;
}

void vbd_throttle_drop_unwanted(struct vbd_client *client)
{
	struct vbd_throttle *throttle = &client->vbd->throttle;
	struct request_list all = request_list_take_all(&throttle->held);
	struct block_request *req;

	while ((req = request_list_take(&all))) {
		if (req->front == client && !client->ops->wanted(client, req))
			req->done(req, -ECANCELED);
		else
			request_list_append(&throttle->held, req);
	}
}

void vbd_throttle_release(struct vbd *vbd)
{
	uint64_t now = loop_clock();

	loop_remove(vbd->throttle.timer);
	vbd->throttle.timer = NULL;
	while (vbd->throttle.held.count)
		let_go(vbd, now);
}

void vbd_throttle_set(struct vbd *vbd, uint64_t iops, uint64_t bytes, unsigned burst_ms)
{
	struct vbd_throttle *throttle = &vbd->throttle;

	throttle->iops = iops;
	throttle->bytes = bytes;
	throttle->burst_ms = burst_ms;
	throttle->iops_paid = throttle->bytes_paid = 0;
	if (throttle->held.count)
		time_has_come(vbd);
}

json_t *vbd_throttle_info(const struct vbd *vbd)
{
	const struct vbd_throttle *throttle = &vbd->throttle;

	return json_pack("{s:I, s:I, s:i, s:i, s:I}",
			 "iops", (json_int_t)throttle->iops,
			 "bytes", (json_int_t)throttle->bytes,
			 "burst_ms", (int)throttle->burst_ms,
			 "waiting", (int)throttle->held.count,
			 "delayed", (json_int_t)throttle->delayed);
}
