/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_vbd_frontend.c - frontends of a disk: which of their pages are lent to
 * the device, and how they disconnect while requests are in flight or wait.
 */
#include "array.h"
#include "recorded_disk.h"
#include "vbd_internal.h"

/* Does the data given to the engine change when the guest changes its page? */
static bool engine_has_guest_page(uint8_t operation)
{
	const uint8_t *data;
	bool shared;

	memset(guest + PAGE, 'a', PAGE);
	recorder.hold = true;
	put(operation, 1, 1);
	push();
	assert_int_equal(recorder.nr_held, 1);
	assert_int_equal(recorder.held[0]->iovcnt, 1);
	data = recorder.held[0]->iov->iov_base;
	if (operation == BLKIF_OP_WRITE)
		assert_int_equal(data[0], 'a');
	memset(guest + PAGE, 'b', PAGE);
	shared = data[0] == 'b' && data[PAGE - 1] == 'b';
	recorder.hold = false;
	run();
	expect(1, BLKIF_RSP_OKAY);
	return shared;
}

/*
 * A guest's page is written to the device directly only if the device is done with it in time, or if
 * somebody vouches for it.
 */
static void test_whose_pages_are_written(void **state)
{
	static const struct { bool persistent, stable, safe, shared; } cases[] = {
		{ true, false, false, false }, { true, true, false, true }, { true, false, true, true },
		{ false, true, true, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		disconnect_frontend();
		connect_frontend_with(cases[i].persistent, cases[i].safe);
		vbd->geometry.pages_stable = cases[i].stable;
		if (engine_has_guest_page(BLKIF_OP_WRITE) != cases[i].shared)
			fail_msg("write, case %zu", i);
		if (engine_has_guest_page(BLKIF_OP_READ) != cases[i].persistent)
			fail_msg("read, case %zu", i);
	}
}

/* Parked, with its data, and answered in the end; later requests stay behind it. */
static void test_stopped_by_an_error(void **state)
{
	struct error_text text = { "" };
	unsigned count;

	vbd_on_error_set(vbd, ON_ERROR_STOP);
	recorder.io_error = -EIO;
	put(BLKIF_OP_WRITE, 1, 2);
	push();
	put(BLKIF_OP_WRITE_BARRIER, 2, 1);
	push();
	put(BLKIF_OP_READ, 3, 1);
	push();
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	expect_log("w");
	recorder.io_error = 0;
	assert_int_equal(vbd_error_resume(vbd, &count, &text), 0);
	assert_int_equal(count, 1);
	run();
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);
	expect(3, BLKIF_RSP_OKAY);
	expect_log("wwswsr");
}

/*
 * Waiting requests belong to the guest, which sends them again on its next connection: they get no
 * answer, and never reach the disk.
 */
static void test_disconnect_while_stopped(void **state)
{
	struct error_text text = { "" };

	vbd_on_error_set(vbd, ON_ERROR_STOP);
	recorder.io_error = -EIO;
	put(BLKIF_OP_WRITE, 1, 2);
	put(BLKIF_OP_WRITE, 2, 1);
	push();
	put(BLKIF_OP_READ, 3, 1);		/* held back untried */
	push();
	assert_int_equal(blkif_disconnect(vbd, 1, 51712, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd_count_frontends(vbd), 0);
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	assert_int_equal(vbd->errors.waiting.count, 0);
	recorder.io_error = 0;
	munmap(guest, GUEST_PAGES * PAGE);
	close(to_backend);
	connect_frontend();
	put(BLKIF_OP_WRITE, 1, 2);		/* detects that the disk works again: nothing else would try */
	push();
	assert_true(vbd->errors.stopped);
	assert_int_equal(vbd_error_go_on(vbd), 1);
	run();
	expect(1, BLKIF_RSP_OKAY);
	expect_log("www");
}

/* A frontend that disconnects with requests at the disk is released only when they have ended; all callers are told. */
static void test_disconnect_drains(void **state)
{
	struct error_text text = { "" };
	int result = 1, second = 1;

	recorder.hold = true;
	put(BLKIF_OP_READ, 1, 1);
	push();
	assert_int_equal(blkif_disconnect(vbd, 1, 51712, note, &result, &text), 0);
	run();
	assert_int_equal(result, 1);
	assert_int_equal(vbd_count_frontends(vbd), 1);
	assert_int_equal(blkif_disconnect(vbd, 1, 51712, note, &second, &text), 0);
	recorder.hold = false;
	run();
	assert_int_equal(result, 0);
	assert_int_equal(second, 0);
	assert_int_equal(vbd_count_frontends(vbd), 0);
}

static struct block_request *without_room[4];

static unsigned nr_without_room;

static void full_submit(void *handle, struct block_request *req)
{
	if (req->op != BLOCK_WRITE) {
		driver_aio.submit(handle, req);
		return;
	}
	without_room[nr_without_room++] = req;
	backend_wait(req);
}

static void full_give_up(void *handle)
{
	while (nr_without_room) {
		struct block_request *req = without_room[--nr_without_room];

		backend_wait_over(req);
		backend_done(req, -ENOSPC);
	}
}

static void note_write(struct block_request *req, int error)
{
	*(int *)req->owner = error;
}

static void do_nothing(struct vbd_client *client)
{
}

/*
 * Requests that wait for room on a full disk do not delay a disconnect, and stay the guest's; those of
 * other clients still wait.
 */
static void test_disconnect_does_not_wait_for_room(void **state)
{
	static const struct vbd_client_ops client_ops = { .stop = do_nothing, .start = do_nothing };
	static struct driver_ops full;
	struct vbd_client other = { .ops = &client_ops };
	struct error_text text = { "" };
	int result = 1, written = 1;
	struct iovec iov = { guest + PAGE, SECTOR_SIZE };
	struct block_request req = { .op = BLOCK_WRITE, .sector = 8, .nr_sectors = 1, .iov = &iov, .iovcnt = 1,
		.done = note_write, .owner = &written };

	full = driver_aio;
	full.submit = full_submit;
	full.give_up = full_give_up;
	vbd->backend->ops = &full;
	assert_int_equal(vbd_add_client(vbd, &other), 0);
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	vbd_submit(&other, &req);
	assert_int_equal(nr_without_room, 2);
	assert_int_equal(blkif_disconnect(vbd, 1, 51712, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	assert_int_equal(vbd_count_frontends(vbd), 0);
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	assert_int_equal(written, 1);
	vbd->backend->ops = &driver_aio;	/* there is room */
	while (written == 1)
		run();
	assert_int_equal(written, 0);
	vbd_remove_client(&other);
}

static unsigned count_lines(int fd)
{
	char text[16384];
	ssize_t length = pread(fd, text, sizeof(text), 0);
	unsigned lines = 0;

	assert_true(length >= 0);
	for (ssize_t i = 0; i < length; i++)
		lines += text[i] == '\n';
	return lines;
}

/* A guest may connect and disconnect as often as it likes, and must not fill the host's log. */
static void test_log_of_reconnects(void **state)
{
	enum { TIMES = 30 };
	int log = memfd_create("log", MFD_CLOEXEC), stderr_before = dup(STDERR_FILENO);
	uint64_t start = loop_clock();
	unsigned seconds;

	assert_true(dup2(log, STDERR_FILENO) >= 0);
	for (int i = 0; i < TIMES; i++)
		reconnect_frontend();
	assert_true(dup2(stderr_before, STDERR_FILENO) >= 0);
	close(stderr_before);
	/* ten lines in each second, and one with the number of the others */
	seconds = (loop_clock() - start) / 1000000000 + 2;
	assert_in_range(count_lines(log), 0, 11 * seconds);
	close(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_whose_pages_are_written),
		DISK_TEST(test_stopped_by_an_error),
		DISK_TEST(test_disconnect_while_stopped),
		DISK_TEST(test_disconnect_drains),
		DISK_TEST(test_disconnect_does_not_wait_for_room),
		DISK_TEST(test_log_of_reconnects),
	};

	return cmocka_run_group_tests_name("vbd: frontends", tests, NULL, NULL);
}
