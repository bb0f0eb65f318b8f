/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tapback_tapdisk.c - a tapdisk that grows its disk, dies or is silent, and
 * several domains that use the same disk.
 */
#include "tapback_fixture.h"

/* ---- tapdisk ---- */

static void test_resize(void **state)
{
	unsigned before;

	connect_disk(3, "w");
	before = xenstore_memory_changes(tapback.xenstore);
	fake_tapdisk_event(&tapdisk, json_pack("{s:s, s:i, s:i}", "event", "resized", "minor", 0, "sectors", 4194304));
	settle();
	assert_string_equal(back(3, "sectors"), "4194304");
	assert_string_equal(back(3, "state"), "4");
	assert_true(xenstore_memory_changes(tapback.xenstore) > before);
}

/* Between tapdisk's answer about the disk and the connect: only the answer to the connect shows it. */
static void test_resize_while_connecting(void **state)
{
	toolstack_adds(3, "w");
	settle();
	script_adds_pid(3, PID);
	settle();
	assert_int_equal(tapdisk.connects, 0);
	tapdisk.grow_at_connect = 4194304;
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "4");
	assert_string_equal(back(3, "sectors"), "4194304");
}

static void test_tapdisk_dies(void **state)
{
	struct fake_tapdisk second;

	connect_disk(3, "w");
	fake_tapdisk_start(&second, tapback.event, PID + 1);
	toolstack_adds(4, "w");
	script_adds_pid(4, PID + 1);
	frontend_offers(4, "8", "15");
	settle();
	assert_string_equal(back(4, "state"), "4");

	fake_tapdisk_die(&tapdisk);
	wait_for(3, "error", "tapdisk 1234 has died; detach the disk and attach it again");
	assert_string_equal(back(4, "error"), "(none)");
	assert_int_equal(fake_tapdisk_rings(&second), 1);

	toolstack_detaches(3);
	settle();
	assert_string_equal(back(3, "state"), "6");
	toolstack_removes(3);
	settle();
	toolstack_adds(3, "w");
	script_adds_pid(3, PID + 1);
	frontend_offers(3, "9", "16");
	settle();
	assert_string_equal(back(3, "state"), "4");
	assert_int_equal(fake_tapdisk_rings(&second), 2);
	fake_tapdisk_die(&second);
}

/* The answer that there is no ring, and the end right after it. */
static void test_tapdisk_dies_after_answer(void **state)
{
	tapdisk.silent = true;
	toolstack_adds(3, "w");
	script_adds_pid(3, PID);
	frontend_offers(3, "8", "15");
	settle();
	fake_tapdisk_speak(&tapdisk);
	fake_tapdisk_die(&tapdisk);
	wait_for(3, "error", "tapdisk 1234 has died; detach the disk and attach it again");
	assert_string_equal(back(3, "state"), "2");
}

/* A tapdisk that does not answer does not delay others. */
static void test_silent_tapdisk(void **state)
{
	struct fake_tapdisk second;

	tapdisk.silent = true;
	toolstack_adds(3, "w");
	script_adds_pid(3, PID);
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "2");
	fake_tapdisk_start(&second, tapback.event, PID + 1);
	toolstack_adds(4, "w");
	script_adds_pid(4, PID + 1);
	frontend_offers(4, "8", "15");
	settle();
	assert_string_equal(back(4, "state"), "4");
	fake_tapdisk_speak(&tapdisk);
	settle();
	assert_string_equal(back(3, "state"), "4");
	fake_tapdisk_die(&second);
}

/* ---- two domains ---- */

static void test_second_writer(void **state)
{
	connect_disk(3, "w");
	toolstack_adds(4, "w");
	put("/vm/another", "/local/domain/4/vm");
	script_adds_pid(4, PID);
	frontend_offers(4, "8", "15");
	settle();
	assert_string_equal(back(4, "state"), "2");
	assert_non_null(strstr(back(4, "error"), "domain 3"));
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	/* the first domain ends, the second gets it */
	put_front(3, "state", "6");
	wait_for(4, "state", "4");
	assert_string_equal(back(3, "state"), "6");
}

static void test_migration(void **state)
{
	connect_disk(3, "w");
	toolstack_adds(4, "w");		/* the same vm */
	put("/vm/one-1", "/local/domain/4/vm");
	script_adds_pid(4, PID);
	frontend_offers(4, "8", "15");
	settle();
	assert_string_equal(back(4, "state"), "4");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 2);
	toolstack_removes(3);
	settle();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	assert_string_equal(back(4, "state"), "4");
}

static void test_stub_domain(void **state)
{
	connect_disk(3, "w");
	toolstack_adds(4, "w");
	put("/vm/stub", "/local/domain/4/vm");
	put("3", "/local/domain/4/target");
	script_adds_pid(4, PID);
	frontend_offers(4, "8", "15");
	settle();
	assert_string_equal(back(4, "state"), "4");
}

static void test_sharing_modes(void **state)
{
	connect_disk(3, "r");
	toolstack_adds(4, "r");
	put("/vm/another", "/local/domain/4/vm");
	script_adds_pid(4, PID);
	frontend_offers(4, "8", "15");
	toolstack_adds(5, "w!");
	put("/vm/third", "/local/domain/5/vm");
	script_adds_pid(5, PID);
	frontend_offers(5, "8", "15");
	settle();
	assert_string_equal(back(4, "state"), "4");
	assert_string_equal(back(5, "state"), "4");
	/* a reader beside a writer on another machine */
	toolstack_adds(6, "r");
	put("/vm/fourth", "/local/domain/6/vm");
	script_adds_pid(6, PID);
	frontend_offers(6, "8", "15");
	settle();
	assert_string_equal(back(6, "state"), "2");
	assert_non_null(strstr(back(6, "error"), "domain 5"));
}

/* Two that ask at the same time must not both find the disk free. */
static void test_race_for_the_disk(void **state)
{
	tapdisk.silent = true;
	for (int domid = 3; domid <= 4; domid++) {
		toolstack_adds(domid, "w");
		put(domid == 3 ? "/vm/a" : "/vm/b", "/local/domain/%d/vm", domid);
		script_adds_pid(domid, PID);
		frontend_offers(domid, "8", "15");
	}
	settle();
	fake_tapdisk_speak(&tapdisk);
	settle();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	assert_int_equal(tapdisk.connects, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_resize), TEST(test_resize_while_connecting), TEST(test_tapdisk_dies),
		TEST(test_tapdisk_dies_after_answer), TEST(test_silent_tapdisk), TEST(test_second_writer),
		TEST(test_migration), TEST(test_stub_domain), TEST(test_sharing_modes),
		TEST(test_race_for_the_disk),
	};

	return tapback_run(tests);
}
