/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tapback_restart.c - tapback is killed and restarted at any moment: guests
 * do not notice, and tapback finds the changes that it missed.
 */
#include "tapback_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

static void test_restart(void **state)
{
	unsigned before;

	connect_disk(3, "w");
	before = xenstore_memory_changes(tapback.xenstore);
	restart_tapback();
	assert_int_equal(xenstore_memory_changes(tapback.xenstore), before);
	assert_int_equal(tapdisk.connects, 1);
	assert_int_equal(tapdisk.disconnects, 0);
	/* and it does its work again */
	put_front(3, "state", "6");
	settle();
	assert_string_equal(back(3, "state"), "6");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
}

static void test_restart_unannounced(void **state)
{
	connect_disk(3, "w");
	/* as if killed after the connect and before the state was written */
	bus_stop(&tapback);
	put_back(3, "state", "2");
	put_front(3, "state", "3");
	put_back(3, "sectors", "0");
	start_tapback();
	assert_string_equal(back(3, "state"), "4");
	assert_string_equal(back(3, "sectors"), "2097152");
	assert_int_equal(tapdisk.connects, 1);
}

static void test_restart_frontend_changed(void **state)
{
	connect_disk(3, "w");
	bus_stop(&tapback);
	frontend_offers(3, "30", "15");
	start_tapback();
	assert_int_equal(tapdisk.disconnects, 1);
	assert_int_equal(tapdisk.connects, 2);
	assert_string_equal(back(3, "state"), "4");
}

static void test_restart_frontend_gone(void **state)
{
	connect_disk(3, "w");
	bus_stop(&tapback);
	xenstore_memory_delete(tapback.xenstore, "/local/domain/3");
	toolstack_detaches(3);
	start_tapback();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	assert_string_equal(back(3, "state"), "6");
}

static void test_restart_resized(void **state)
{
	connect_disk(3, "w");
	bus_stop(&tapback);
	json_object_set_new(tapdisk.disk, "sectors", json_integer(4194304));
	start_tapback();
	assert_string_equal(back(3, "sectors"), "4194304");
	assert_int_equal(tapdisk.connects, 1);
}

static void test_restart_tapdisk_died(void **state)
{
	connect_disk(3, "w");
	bus_stop(&tapback);
	fake_tapdisk_die(&tapdisk);
	start_tapback();
	assert_non_null(strstr(back(3, "error"), "tapdisk 1234 has died"));
	assert_string_equal(back(3, "state"), "4");
	put_front(3, "state", "5");
	toolstack_detaches(3);
	settle();
	assert_string_equal(back(3, "state"), "6");
}

static void test_restart_ring_lost(void **state)
{
	connect_disk(3, "w");
	bus_stop(&tapback);
	json_array_clear(json_object_get(tapdisk.disk, "connections"));
	start_tapback();
	assert_int_equal(tapdisk.connects, 2);
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
}

/* Destroyed while no tapback was running, nodes and all. */
static void test_orphans(void **state)
{
	connect_disk(3, "w");
	toolstack_adds(4, "w");
	script_adds_pid(4, PID);
	frontend_offers(4, "8", "15");
	settle();
	put_front(4, "state", "4");
	bus_stop(&tapback);
	toolstack_removes(3);
	start_tapback();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	assert_int_equal(tapdisk.closes, 1);	/* refused, because the other domain has it */
	assert_int_equal(tapdisk.detaches, 0);
	assert_string_equal(back(4, "state"), "4");
	bus_stop(&tapback);
	toolstack_removes(4);
	start_tapback();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	assert_int_equal(tapdisk.detaches, 1);
	assert_null(tapdisk.connections);
}

/* The device was added again meanwhile, with another tapdisk. */
static void test_orphan_of_another_tapdisk(void **state)
{
	struct fake_tapdisk second;

	connect_disk(3, "w");
	bus_stop(&tapback);
	toolstack_removes(3);
	fake_tapdisk_start(&second, tapback.event, PID + 1);
	toolstack_adds(3, "w");
	script_adds_pid(3, PID + 1);
	frontend_offers(3, "9", "16");
	start_tapback();
	assert_string_equal(back(3, "state"), "4");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	assert_int_equal(fake_tapdisk_rings(&second), 1);
	fake_tapdisk_die(&second);
}

/* Killed after each step of a connect, and of a detach: the next tapback completes it. */
static void test_killed_anywhere(void **state)
{
	int turns = 0;

	for (bool done = false; !done; turns++) {
		toolstack_adds(3, "w");
		script_adds_pid(3, PID);
		frontend_offers(3, "8", "15");
		for (int i = 0; i < turns && !done; i++)
			done = sd_event_run(tapback.event, 0) == 0;
		restart_tapback();
		if (strcmp(back(3, "state"), "4") || fake_tapdisk_rings(&tapdisk) != 1)
			fail_msg("connect, killed after %d turns: state %s", turns, back(3, "state"));
		put_front(3, "state", "4");
		settle();

		toolstack_detaches(3);
		put_front(3, "state", "6");
		for (int i = 0; i < turns; i++)
			sd_event_run(tapback.event, 0);
		restart_tapback();
		if (strcmp(back(3, "state"), "6") || fake_tapdisk_rings(&tapdisk))
			fail_msg("detach, killed after %d turns: state %s", turns, back(3, "state"));
		toolstack_removes(3);
		settle();
		assert_null(tapback.devices);
	}
	assert_true(turns > 10);
}

/* There are fewer processors than when the frontend was told its limits. */
static void test_restart_fewer_queues(void **state)
{
	toolstack_adds(3, "w");
	settle();
	script_adds_pid(3, PID);
	put_front(3, "multi-queue-num-queues", "2");
	for (int i = 0; i < 2; i++) {
		put("8", "/local/domain/3/device/vbd/51712/queue-%d/ring-ref", i);
		put("5", "/local/domain/3/device/vbd/51712/queue-%d/event-channel", i);
	}
	bus_stop(&tapback);
	put_front(3, "state", "3");
	tapback.max_queues = 1;
	assert_int_equal(bus_start(&tapback), 0);
	settle();
	assert_string_equal(back(3, "state"), "4");
}

static void test_xenstore_lost(void **state)
{
	connect_disk(3, "w");
	xenstore_memory_lose(tapback.xenstore);
	assert_int_equal(sd_event_loop(tapback.event), -EPIPE);
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	tapback.xenstore->lost = false;	/* for the teardown */
}

/* A minor whose tapdisk has died with that domain connected: makes the directory that a successor needs. */
static void leave_behind(char directory[100], int minor, int domid)
{
	char path[140];

	assert_int_equal(tapctl_minor_allocate(minor, NULL), minor);
	snprintf(path, sizeof(path), "%s/takeover", run_dir);
	mkdir(path, 0700);
	snprintf(directory, 100, TAKEOVER_DISK_FORMAT, run_dir, minor);
	assert_int_equal(mkdir(directory, 0700), 0);
	snprintf(path, sizeof(path), "%s/" TAKEOVER_TABLE_FORMAT, directory, domid, 51712);
	close(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600));
}

/* Its domain ended, too, while no tapback was running: nobody takes over, and the image is released. */
static void test_orphan_of_dead(void **state)
{
	char gone[100], there[100];

	toolstack_adds(3, "w");
	settle();
	bus_stop(&tapback);
	leave_behind(gone, 7, 4);
	leave_behind(there, 8, 3);
	start_tapback();
	assert_int_not_equal(access(gone, F_OK), 0);
	assert_int_equal(tapctl_minor_allocate(7, NULL), 7);
	assert_int_equal(tapctl_minor_free(7, NULL), 0);
	assert_int_equal(access(there, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_restart), TEST(test_restart_unannounced), TEST(test_restart_frontend_changed),
		TEST(test_restart_frontend_gone), TEST(test_restart_resized), TEST(test_restart_tapdisk_died),
		TEST(test_restart_ring_lost), TEST(test_orphans), TEST(test_orphan_of_another_tapdisk),
		TEST(test_orphan_of_dead),
		TEST(test_killed_anywhere), TEST(test_restart_fewer_queues), TEST(test_xenstore_lost),
	};

	return tapback_run(tests);
}
