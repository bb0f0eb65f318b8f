/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_vbd.c - which I/Os reach the disk, in which order, and which status the
 * guest gets when they fail: flushes, barriers, pauses.
 */
#include "recorded_disk.h"

int __real_loop_add_timer(struct loop *on, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg);
int __wrap_loop_add_timer(struct loop *on, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg);

static struct {
	bool fail;
	unsigned added;
} throttle_timers;

int __wrap_loop_add_timer(struct loop *on, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg)
{
	if (source == &vbd->throttle.timer) {
		throttle_timers.added++;
		if (throttle_timers.fail)
			return -ENOMEM;
	}
	return __real_loop_add_timer(on, source, ms, expired, arg);
}

static void test_flush_is_a_sync(void **state)
{
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	put(BLKIF_OP_FLUSH_DISKCACHE, 2, 0);
	push();
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);
	expect_log("ws");
}

/* Held back, in order; time, a pause, or the end of the limit releases them. */
static void test_throttle(void **state)
{
	struct error_text text = { "" };

	vbd_throttle_set(vbd, 0, 1, 1);		/* a byte a second */
	put(BLKIF_OP_WRITE, 1, 1);
	put(BLKIF_OP_READ, 2, 1);
	put(BLKIF_OP_WRITE, 3, 1);
	put(BLKIF_OP_FLUSH_DISKCACHE, 4, 0);
	push();
	expect(1, BLKIF_RSP_OKAY);		/* no time was owed when it came */
	expect_log("w");
	assert_int_equal(vbd->throttle.held.count, 3);
	assert_int_equal(vbd->throttle.delayed, 3);
	vbd_throttle_set(vbd, 0, 0, 1);
	run();
	expect(2, BLKIF_RSP_OKAY);
	expect(3, BLKIF_RSP_OKAY);
	expect(4, BLKIF_RSP_OKAY);
	expect_log("wrws");
	assert_int_equal(vbd->throttle.held.count, 0);

	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_READ, 5, 1);
	put(BLKIF_OP_READ, 6, 1);
	push();
	expect(5, BLKIF_RSP_OKAY);
	assert_int_equal(vbd->throttle.held.count, 1);
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd->state, VBD_PAUSED);
	expect(6, BLKIF_RSP_OKAY);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
	put(BLKIF_OP_READ, 7, 1);
	push();
	assert_int_equal(vbd->throttle.held.count, 1);	/* the requests that the pause released count */

	vbd_throttle_set(vbd, 1000, 0, 1);
	while (!XEN_RING_NR_UNCONSUMED_RESPONSES(&front))
		run();
	expect(7, BLKIF_RSP_OKAY);
}

/* Without memory for a timer nothing is held back, and held requests are released. */
static void test_throttle_without_memory(void **state)
{
	throttle_timers.fail = true;
	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_READ, 1, 1);
	put(BLKIF_OP_READ, 2, 1);
	push();
	throttle_timers.fail = false;
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);

	put(BLKIF_OP_READ, 3, 1);
	put(BLKIF_OP_READ, 4, 1);
	push();
	assert_int_equal(vbd->throttle.held.count, 2);
	throttle_timers.fail = true;
	vbd_throttle_set(vbd, 1, 0, 1);		/* admits one */
	throttle_timers.fail = false;
	run();
	expect(3, BLKIF_RSP_OKAY);
	expect(4, BLKIF_RSP_OKAY);
}

/* A new limit removes the old one's timer: it would fire even after the disk is gone. */
static void test_throttle_has_one_timer(void **state)
{
	throttle_timers.added = 0;
	vbd_throttle_set(vbd, 20, 0, 1);
	put(BLKIF_OP_READ, 1, 1);
	put(BLKIF_OP_READ, 2, 1);
	push();
	expect(1, BLKIF_RSP_OKAY);
	vbd_throttle_set(vbd, 0, 0, 1);
	run();
	expect(2, BLKIF_RSP_OKAY);
	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_READ, 3, 1);
	put(BLKIF_OP_READ, 4, 1);
	push();
	for (unsigned i = 0; i < 5; i++)
		run();			/* 100 ms; the first timer was due after 50 */
	assert_int_equal(throttle_timers.added, 2);
	vbd_throttle_set(vbd, 0, 0, 1);
	run();
	expect(3, BLKIF_RSP_OKAY);
	expect(4, BLKIF_RSP_OKAY);
}

/* A flush empties the device's cache, which all its users notice. A flush for a pause is not throttled. */
static void test_throttle_of_flushes(void **state)
{
	struct error_text text = { "" };
	uint64_t start;
	unsigned i;

	vbd_throttle_set(vbd, 100, 0, 1);
	start = loop_clock();
	for (i = 1; i <= 10; i++)
		put(BLKIF_OP_FLUSH_DISKCACHE, i, 0);
	push();
	for (i = 1; i <= 10; i++) {
		while (!XEN_RING_NR_UNCONSUMED_RESPONSES(&front))
			run();
		expect(i, BLKIF_RSP_OKAY);
	}
	assert_true(loop_clock() - start >= 85 * 1000000u);	/* the tenth is due after 90 ms */
	assert_true(vbd->throttle.delayed >= 8);

	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_FLUSH_DISKCACHE, 11, 0);
	put(BLKIF_OP_FLUSH_DISKCACHE, 12, 0);
	push();
	expect(11, BLKIF_RSP_OKAY);
	assert_int_equal(vbd->throttle.held.count, 1);
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd->state, VBD_PAUSED);
	expect(12, BLKIF_RSP_OKAY);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
}

struct other_client {
	struct vbd_client client;
	struct block_request req;
	struct iovec iov;
	int result;
};

static void other_ignores(struct vbd_client *client)
{
}

static void other_done(struct block_request *req, int error)
{
	*(int *)req->owner = error;
}

/* A write of one sector by a client that is no frontend. */
static void other_writes(struct other_client *other)
{
	static const struct vbd_client_ops ops = { .stop = other_ignores, .start = other_ignores };
	static uint8_t sector[512] __attribute__((aligned(512)));

	*other = (struct other_client){ .client.ops = &ops, .iov = { sector, sizeof(sector) }, .result = 1 };
	other->req = (struct block_request){ .op = BLOCK_WRITE, .nr_sectors = 1, .iov = &other->iov, .iovcnt = 1,
					     .done = other_done, .owner = &other->result };
	assert_int_equal(vbd_add_client(vbd, &other->client), 0);
	vbd_submit(&other->client, &other->req);
}

/*
 * A frontend that disconnects, which a guest may do at any time, makes no write faster: not its own,
 * not those of others.
 */
static void test_throttle_of_one_that_goes(void **state)
{
	static struct other_client other;	/* left by a test that failed */

	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_WRITE, 1, 1);
	put(BLKIF_OP_WRITE, 2, 1);
	put(BLKIF_OP_WRITE_BARRIER, 3, 1);
	push();
	other_writes(&other);
	expect_log("w");
	assert_int_equal(vbd->throttle.held.count, 2);	/* the barrier waits for the requests before it */
	reconnect_frontend();				/* which does not wait */
	expect_log("w");
	assert_int_equal(vbd->throttle.held.count, 1);
	assert_int_equal(other.result, 1);
	put(BLKIF_OP_WRITE, 4, 1);			/* as the one before it had */
	push();
	assert_int_equal(vbd->throttle.held.count, 2);
	vbd_throttle_set(vbd, 0, 0, 1);
	run();
	expect(4, BLKIF_RSP_OKAY);
	assert_int_equal(other.result, 0);
	expect_log("www");
	vbd_remove_client(&other.client);
}

static void test_failed_flush_is_reported(void **state)
{
	recorder.sync_error = -EIO;
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_ERROR);
	/* and what could not be made durable then is not durable now, even if the next flush succeeds */
	recorder.sync_error = 0;
	put(BLKIF_OP_FLUSH_DISKCACHE, 2, 0);
	push();
	expect(2, BLKIF_RSP_ERROR);
}

static void test_barrier_is_flush_write_flush(void **state)
{
	put(BLKIF_OP_WRITE_BARRIER, 1, 1);
	push();
	expect(1, BLKIF_RSP_OKAY);
	expect_log("sws");
}

static void test_flush_with_data_is_flush_write_flush(void **state)
{
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 2);
	push();
	expect(1, BLKIF_RSP_OKAY);
	expect_log("sws");
}

static void test_failed_barrier_is_reported(void **state)
{
	recorder.sync_error = -EIO;
	put(BLKIF_OP_WRITE_BARRIER, 1, 1);
	push();
	expect(1, BLKIF_RSP_ERROR);
	expect_log("s");	/* nothing is written if the data before it are not safe */
}

/* A barrier waits for the requests in flight, and later ones wait for it. */
static void test_barrier_order(void **state)
{
	recorder.hold = true;
	put(BLKIF_OP_WRITE, 1, 1);
	put(BLKIF_OP_WRITE_BARRIER, 2, 1);
	put(BLKIF_OP_READ, 3, 1);
	push();
	expect_log("w");
	recorder.hold = false;
	run();
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);
	expect(3, BLKIF_RSP_OKAY);
	expect_log("wswsr");
}

/* A pause waits for the requests in flight, flushes, and only then ends. */
static void test_pause_flushes(void **state)
{
	struct error_text text = { "" };
	int result = 1;

	recorder.hold = true;
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	put(BLKIF_OP_WRITE, 2, 1);
	push();
	assert_int_equal(result, 1);
	expect_log("w");
	recorder.hold = false;
	run();
	assert_int_equal(result, 0);
	assert_int_equal(vbd->state, VBD_PAUSED);
	expect_log("ws");
	expect(1, BLKIF_RSP_OKAY);
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
	run();
	expect(2, BLKIF_RSP_OKAY);
	expect_log("wsw");
}

/* If that flush fails, the guest's own next one has to fail too: the image stays open and the disk still runs. */
static void test_pause_with_failing_flush(void **state)
{
	struct error_text text = { "" };
	int result = 1;

	recorder.sync_error = -EIO;
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	run();
	assert_int_equal(result, -EIO);
	assert_int_equal(vbd->state, VBD_RUNNING);
	recorder.sync_error = 0;
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_ERROR);
}

/* A write, a pause whose flush fails, and then the disk runs again on a working device. */
static void lose_writes(void)
{
	struct error_text text = { "" };
	int result = 1;

	put(BLKIF_OP_WRITE, 1, 1);
	push();
	expect(1, BLKIF_RSP_OKAY);
	recorder.sync_error = -EIO;
	assert_int_equal(vbd_pause(vbd, true, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	assert_int_equal(vbd->state, VBD_PAUSED);
	assert_true(vbd->lost);
	recorder.sync_error = 0;
	if (vbd_unpause(vbd, NULL, &text))
		fail_msg("%s", text.text);
	run();
}

/* Forced, the pause succeeds, and the guest learns from its next flush, once, that writes were lost. */
static void test_forced_pause_tells_the_loss(void **state)
{
	struct error_text text = { "" };
	int result = 1;

	lose_writes();
	put(BLKIF_OP_WRITE, 2, 1);
	push();
	expect(2, BLKIF_RSP_OKAY);
	put(BLKIF_OP_FLUSH_DISKCACHE, 3, 0);
	push();
	expect(3, BLKIF_RSP_ERROR);
	expect_log("wsw");
	put(BLKIF_OP_FLUSH_DISKCACHE, 4, 0);
	push();
	expect(4, BLKIF_RSP_OKAY);
	/* and a pause works again, without force */
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	assert_false(vbd->lost);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
	put(BLKIF_OP_FLUSH_DISKCACHE, 5, 0);
	push();
	expect(5, BLKIF_RSP_OKAY);
}

/* A barrier is a flush as well, and its own data are not written. */
static void test_forced_pause_fails_a_barrier(void **state)
{
	lose_writes();
	put(BLKIF_OP_WRITE_BARRIER, 2, 1);
	push();
	expect(2, BLKIF_RSP_ERROR);
	expect_log("ws");
}

/* After a second pause, with another image, and with another frontend: the error is still to be reported. */
static void test_loss_outlives_image_and_frontend(void **state)
{
	struct error_text text = { "" };
	char target[80];
	int result = 1;

	lose_writes();
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	snprintf(target, sizeof(target), "null:%u", DISK_BYTES);
	if (vbd_unpause(vbd, target, &text))
		fail_msg("%s", text.text);
	reconnect_frontend();
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_ERROR);
	/* but a frontend that connects after the report gets no error */
	reconnect_frontend();
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_OKAY);
}

static void note_snapshot(struct vbd_snapshot *snapshot, int error)
{
	*(int *)snapshot->owner = error;
}

/*
 * A raw disk that drains for its first snapshot is not paused for another client, whom the snapshot's
 * end would not notify.
 */
static void test_pause_beside_a_snapshot(void **state)
{
	int result = 1;
	struct vbd_snapshot snapshot = { .command = { .op = SNAPSHOT_FREEZE }, .store = "/nowhere", .lease_ms = 60000,
		.holder = &result, .done = note_snapshot, .owner = &result };
	struct error_text text = { "" };

	recorder.hold = true;
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	vbd_snapshot(vbd, &snapshot);
	assert_int_equal(vbd->state, VBD_DRAINING);
	vbd_release_freeze(vbd, &result);	/* the client that takes it has disconnected */
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), -EBUSY);
	recorder.hold = false;
	run();
	expect(1, BLKIF_RSP_OKAY);
	assert_int_equal(result, -ETIMEDOUT);
	assert_int_equal(vbd->state, VBD_RUNNING);
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd->state, VBD_PAUSED);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_flush_is_a_sync),
		DISK_TEST(test_throttle),
		DISK_TEST(test_throttle_without_memory),
		DISK_TEST(test_throttle_has_one_timer),
		DISK_TEST(test_throttle_of_flushes),
		DISK_TEST(test_throttle_of_one_that_goes),
		DISK_TEST(test_failed_flush_is_reported),
		DISK_TEST(test_barrier_is_flush_write_flush),
		DISK_TEST(test_flush_with_data_is_flush_write_flush),
		DISK_TEST(test_failed_barrier_is_reported),
		DISK_TEST(test_barrier_order),
		DISK_TEST(test_pause_flushes),
		DISK_TEST(test_pause_with_failing_flush),
		DISK_TEST(test_forced_pause_tells_the_loss),
		DISK_TEST(test_forced_pause_fails_a_barrier),
		DISK_TEST(test_loss_outlives_image_and_frontend),
		DISK_TEST(test_pause_beside_a_snapshot),
	};

	return cmocka_run_group_tests_name("vbd", tests, NULL, NULL);
}
