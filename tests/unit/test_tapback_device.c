/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tapback_device.c - a disk's life with one guest: connecting, mistakes of
 * a frontend meanwhile, and disconnecting.
 */
#include "array.h"
#include "tapback_fixture.h"

/* ---- coming up ---- */

static void test_init_wait_at_once(void **state)
{
	toolstack_adds(3, "w");
	settle();
	assert_string_equal(back(3, "state"), "2");
	assert_string_equal(back(3, "max-ring-page-order"), "4");
	assert_string_equal(back(3, "multi-queue-max-queues"), "4");
	assert_string_equal(back(3, "feature-persistent"), "1");
	assert_string_equal(back(3, "feature-max-indirect-segments"), "256");
	assert_string_equal(back(3, "feature-flush-cache"), "1");
	assert_string_equal(back(3, "feature-barrier"), "1");
	assert_string_equal(back(3, "feature-discard"), "1");
	assert_string_equal(back(3, "discard-secure"), "0");
	assert_int_equal(tapdisk.infos, 0);
}

static void test_handshake(void **state)
{
	connect_disk(3, "w");
	assert_string_equal(back(3, "sectors"), "2097152");
	assert_string_equal(back(3, "sector-size"), "512");
	assert_string_equal(back(3, "physical-sector-size"), "4096");
	assert_string_equal(back(3, "info"), "0");
	assert_string_equal(back(3, "discard-granularity"), "4096");
	assert_string_equal(back(3, "kthread-pid"), "1234");
	assert_string_equal(back(3, "error"), "(none)");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	assert_true(json_is_true(json_object_get(tapdisk.last_connect, "persistent")));
	assert_true(json_is_false(json_object_get(tapdisk.last_connect, "read_only")));
	assert_string_equal(json_string_value(json_object_get(tapdisk.last_connect, "protocol")), "x86_64-abi");
	assert_string_equal(json_string_value(json_object_get(tapdisk.last_connect, "transport")), "xen");
	assert_int_equal(json_integer_value(json_object_get(tapdisk.last_connect, "domid")), 3);
	assert_int_equal(json_integer_value(json_object_get(tapdisk.last_connect, "devid")), 51712);
}

/* The frontend may be faster than the script. */
static void test_frontend_first(void **state)
{
	toolstack_adds(3, "w");
	settle();
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "2");
	script_adds_pid(3, PID);
	settle();
	assert_string_equal(back(3, "state"), "4");
}

/* The toolstack's nodes may come one at a time, in any order, and the disk still connects. */
static void test_half_written(void **state)
{
	put_back(3, "state", "1");
	settle();
	assert_string_equal(back(3, "state"), "1");
	put_back(3, "mode", "w");
	settle();
	put_back(3, "frontend-id", "3");
	settle();
	assert_string_equal(back(3, "state"), "1");
	put_back(3, "frontend", "/local/domain/3/device/vbd/51712");
	settle();
	assert_string_equal(back(3, "state"), "2");
	frontend_offers(3, "8", "15");
	script_adds_pid(3, PID);
	settle();
	assert_string_equal(back(3, "state"), "4");
}

/* The frontend belongs to another domain, or pretends to: nothing is read from it, and no ring is connected. */
static void test_frontend_of_another_domain(void **state)
{
	static const char *const wrong[] = {
		"/local/domain/4/device/vbd/51712", "/local/domain/33/device/vbd/51712", "local/domain/3/device/vbd/51712", "", "/",
	};

	toolstack_adds(3, "w");
	settle();
	toolstack_adds(4, "w");
	frontend_offers(4, "8", "15");
	frontend_offers(3, "9", "16");
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		put_back(3, "frontend", wrong[i]);
		script_adds_pid(3, PID);
		settle();
		assert_string_not_equal(back(3, "state"), "4");
		assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	}
	put_back(3, "frontend", "/local/domain/3/device/vbd/51712");
	settle();
	assert_string_equal(back(3, "state"), "4");
	assert_int_equal(json_integer_value(json_object_get(tapdisk.last_connect, "domid")), 3);
}

static void test_read_only_cdrom(void **state)
{
	json_object_set_new(tapdisk.disk, "sectors", json_integer(2097153));
	toolstack_adds(3, "r");
	put_back(3, "device-type", "cdrom");
	put_back(3, "removable", "1");
	settle();
	assert_string_equal(back(3, "feature-discard"), "0");
	script_adds_pid(3, PID);
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "info"), "7");
	/* 2097153 is no multiple of 8 */
	assert_string_equal(back(3, "physical-sector-size"), "(none)");
	assert_string_equal(back(3, "feature-discard"), "0");
	assert_true(json_is_true(json_object_get(tapdisk.last_connect, "read_only")));
}

static void test_discard_corrected(void **state)
{
	json_object_set_new(tapdisk.disk, "discard", json_false());
	connect_disk(3, "w");
	assert_string_equal(back(3, "feature-discard"), "0");
	assert_string_equal(back(3, "discard-granularity"), "(none)");
	put_back(4, "discard-enable", "0");
	json_object_set_new(tapdisk.disk, "discard", json_true());
	connect_disk(4, "w");
	assert_string_equal(back(4, "feature-discard"), "0");
}

/* What tapback writes conflicts with what others write. */
static void test_conflicts(void **state)
{
	xenstore_memory_conflict(tapback.xenstore, 7);
	connect_disk(3, "w");
}

#define FRONT3 "/local/domain/3/device/vbd/51712"

/* Two sets of nodes of one frontend: 2 pages, whose references begin with 20, or 4, with 40; its port is that number, too. */
static void offer_set(struct xenstore *xenstore, unsigned first)
{
	char path[80], value[16];

	xenstore_memory_put(xenstore, FRONT3 "/ring-page-order", first == 20 ? "1" : "2");
	for (unsigned i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), FRONT3 "/ring-ref%u", i);
		snprintf(value, sizeof(value), "%u", first + i);
		xenstore_memory_put(xenstore, path, value);
	}
	snprintf(value, sizeof(value), "%u", first);
	xenstore_memory_put(xenstore, FRONT3 "/event-channel", value);
}

static void check_set(const json_t *command)
{
	const json_t *queue = json_array_get(json_object_get(command, "queues"), 0), *refs = json_object_get(queue, "refs");
	json_int_t first = json_integer_value(json_object_get(queue, "port"));
	size_t i;
	const json_t *ref;

	assert_true(first == 20 || first == 40);
	assert_int_equal(json_integer_value(json_object_get(command, "ring_pages")), first == 20 ? 2 : 4);
	assert_int_equal(json_array_size(refs), first == 20 ? 2 : 4);
	json_array_foreach(refs, i, ref)
		assert_int_equal(json_integer_value(ref), first + (json_int_t)i);
}

static unsigned reads_left;		/* reads of the frontend's nodes until it offers the other set */

static void change_set(struct xenstore *xenstore, const char *path)
{
	if (!strncmp(path, FRONT3 "/", strlen(FRONT3) + 1) && reads_left && !--reads_left)
		offer_set(xenstore, 40);
}

/* A frontend changes its nodes between any two reads: what is connected is one set or the other. */
static void test_changing_nodes(void **state)
{
	bool changed;

	for (unsigned number = 1; ; number++) {
		tapdisk.on_connect = check_set;
		toolstack_adds(3, "w");
		settle();
		script_adds_pid(3, PID);
		offer_set(tapback.xenstore, 20);
		reads_left = number;
		xenstore_memory_on_read(tapback.xenstore, change_set);
		put_front(3, "state", "3");
		settle();
		changed = !reads_left;
		xenstore_memory_on_read(tapback.xenstore, NULL);
		assert_string_equal(back(3, "state"), "4");
		assert_string_equal(back(3, "error"), "(none)");
		if (!changed)
			break;
		tear_down(state);
		set_up(state);
	}
	assert_int_equal(json_array_size(json_object_get(json_array_get(json_object_get(tapdisk.last_connect, "queues"), 0),
							 "refs")), 2);
	tapdisk.on_connect = NULL;
}

static unsigned endless;

static void change_always(struct xenstore *xenstore, const char *path)
{
	if (!strcmp(path, FRONT3 "/event-channel")) {
		offer_set(xenstore, 20);
		endless++;
	}
}

/* It never stops: that is said, other guests' disks are served, and its own is when it stops. */
static void test_endless_changes(void **state)
{
	toolstack_adds(3, "w");
	settle();
	script_adds_pid(3, PID);
	offer_set(tapback.xenstore, 20);
	xenstore_memory_on_read(tapback.xenstore, change_always);
	put_front(3, "state", "3");
	settle();
	assert_int_equal(endless, 100);
	assert_string_equal(back(3, "state"), "2");
	assert_string_equal(back(3, "error"), "frontend's nodes change while they are read");
	assert_int_equal(tapdisk.connects, 0);
	connect_disk(4, "w");
	xenstore_memory_on_read(tapback.xenstore, NULL);
	wait_for(3, "state", "4");
	assert_string_equal(back(3, "error"), "(none)");
}

/* A quota is exceeded, or memory is short, for a moment. */
static void test_write_fails_once(void **state)
{
	xenstore_memory_fail_writes(tapback.xenstore, 1, -ENOSPC);
	toolstack_adds(3, "w");
	settle();
	wait_for(3, "state", "2");
}

/* ---- hostile frontends, unlucky times ---- */

static void test_bad_frontend(void **state)
{
	toolstack_adds(3, "w");
	script_adds_pid(3, PID);
	put_front(3, "ring-page-order", "99");
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "2");
	assert_non_null(strstr(back(3, "error"), "ring-page-order"));
	assert_non_null(strstr(back(3, "hotplug-error"), "ring-page-order"));
	assert_non_null(strstr(get("error/backend/vbd3/3/51712/error"), "ring-page-order"));
	assert_int_equal(tapdisk.connects, 0);
	/* it changes its mind */
	put_front(3, "ring-page-order", "0");
	wait_for(3, "state", "4");
	assert_string_equal(back(3, "error"), "(none)");
	assert_string_equal(get("error/backend/vbd3/3/51712/error"), "(none)");
}

/* Garbage beside a working ring does no harm. */
static void test_garbage_while_connected(void **state)
{
	connect_disk(3, "w");
	put_front(3, "state", "garbage");
	settle();
	put_front(3, "ring-ref", "nonsense");
	put_front(3, "state", "4");
	settle();
	assert_string_equal(back(3, "state"), "4");
	assert_int_equal(tapdisk.disconnects, 0);
}

static void test_connect_refused(void **state)
{
	tapdisk.refuse_connect = EINVAL;
	toolstack_adds(3, "w");
	script_adds_pid(3, PID);
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "2");
	assert_string_equal(back(3, "error"), "refused by the test");
	tapdisk.refuse_connect = 0;
	wait_for(3, "state", "4");
}

/*
 * The frontend starts over while its rings are being connected: that the old ones are gone is no
 * error, and the new ones are connected at once.
 */
static void test_connect_overtaken(void **state)
{
	tapdisk.silent_at_connect = true;
	toolstack_adds(3, "w");
	script_adds_pid(3, PID);
	frontend_offers(3, "8", "15");
	settle();
	assert_true(tapdisk.silent);
	frontend_offers(3, "9", "16");
	settle();
	tapdisk.refuse_connect = EFAULT;
	tapdisk.silent_at_connect = false;
	fake_tapdisk_speak(&tapdisk);
	tapdisk.refuse_connect = 0;
	settle();
	assert_string_equal(back(3, "state"), "4");
	assert_string_equal(back(3, "error"), "(none)");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	/* with the same rings a refusal is one */
	put_front(3, "state", "1");
	settle();
	tapdisk.refuse_connect = EFAULT;
	frontend_offers(3, "9", "16");
	settle();
	assert_string_equal(back(3, "error"), "refused by the test");
}

static void test_ring_error(void **state)
{
	connect_disk(3, "w");
	fake_tapdisk_event(&tapdisk, json_pack("{s:s, s:i, s:i, s:i, s:s}", "event", "ring-error", "minor", 0,
					       "domid", 3, "devid", 51712, "error", "producer index"));
	settle();
	assert_string_equal(back(3, "error"), "producer index");
	assert_string_equal(back(3, "state"), "4");
}

static void test_wrong_device_path(void **state)
{
	toolstack_adds(3, "w");
	put_back(3, "pid", "1234");
	put_back(3, "minor", "0");
	put_back(3, "physical-device-path", "/dev/sda");
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "2");
	assert_non_null(strstr(back(3, "error"), "/dev/sda"));
}

/* ---- going down ---- */

/* A disk in use stays in 5 and is served until the frontend has finished. */
static void test_close(void **state)
{
	connect_disk(3, "w");
	toolstack_detaches(3);
	put_front(3, "state", "5");
	settle();
	assert_string_equal(back(3, "state"), "5");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	put_front(3, "state", "6");
	settle();
	assert_string_equal(back(3, "state"), "6");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	assert_null(tapdisk.connections);
	assert_string_equal(back(3, "params"), "aio:/srv/x.img");
	toolstack_removes(3);
	settle();
	assert_null(tapback.devices);
}

/* pvgrub, OVMF, kexec: closed while online, and connected again. */
static void test_reopen(void **state)
{
	connect_disk(3, "w");
	put_front(3, "state", "5");
	settle();
	assert_string_equal(back(3, "state"), "5");
	put_front(3, "state", "6");
	settle();
	assert_string_equal(back(3, "state"), "6");
	put_front(3, "state", "1");
	settle();
	assert_string_equal(back(3, "state"), "2");
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "4");
	assert_int_equal(tapdisk.connects, 2);
}

/* A crash kernel that closes nothing. */
static void test_start_over(void **state)
{
	connect_disk(3, "w");
	put_front(3, "state", "1");
	settle();
	assert_string_equal(back(3, "state"), "2");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "4");
}

/* Resume in place: there are new rings, and our state stays 4. */
static void test_new_rings(void **state)
{
	connect_disk(3, "w");
	frontend_offers(3, "21", "16");
	settle();
	assert_int_equal(tapdisk.disconnects, 1);
	assert_int_equal(tapdisk.connects, 2);
	assert_string_equal(back(3, "state"), "4");
	/* the same numbers again, but it was connected in between */
	put_front(3, "state", "4");
	settle();
	put_front(3, "state", "3");
	settle();
	assert_int_equal(tapdisk.connects, 3);
	/* new rings, and 3 and 4 were written before we looked */
	frontend_offers(3, "22", "16");
	put_front(3, "state", "4");
	settle();
	assert_int_equal(tapdisk.connects, 4);
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
}

static void test_forced_destroy(void **state)
{
	connect_disk(3, "w");
	xenstore_memory_delete(tapback.xenstore, "/local/domain/3/device/vbd/51712");
	toolstack_detaches(3);
	settle();
	assert_string_equal(back(3, "state"), "6");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	toolstack_removes(3);
	settle();
	assert_null(tapback.devices);
}

static void test_backend_deleted(void **state)
{
	connect_disk(3, "w");
	toolstack_removes(3);
	settle();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	assert_null(tapback.devices);
	assert_string_equal(back(3, "state"), "(none)");
}

static void test_detach_before_use(void **state)
{
	toolstack_adds(3, "w");
	settle();
	toolstack_detaches(3);
	settle();
	assert_string_equal(back(3, "state"), "6");
}

/* The toolstack removes the disk while tapdisk is connecting it. */
static void test_detach_while_connecting(void **state)
{
	toolstack_adds(3, "w");
	script_adds_pid(3, PID);
	settle();
	tapdisk.silent = true;
	frontend_offers(3, "8", "15");
	settle();
	toolstack_detaches(3);
	settle();
	fake_tapdisk_speak(&tapdisk);
	settle();
	put_front(3, "state", "6");
	settle();
	assert_string_equal(back(3, "state"), "6");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
}

/* Removed and added again before we looked. */
static void test_replaced(void **state)
{
	connect_disk(3, "w");
	toolstack_removes(3);
	toolstack_adds(3, "w");
	settle();
	assert_string_equal(back(3, "state"), "2");
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	script_adds_pid(3, PID);
	frontend_offers(3, "8", "15");
	settle();
	assert_string_equal(back(3, "state"), "4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_init_wait_at_once), TEST(test_handshake), TEST(test_frontend_first),
		TEST(test_half_written), TEST(test_frontend_of_another_domain), TEST(test_read_only_cdrom), TEST(test_discard_corrected),
		TEST(test_conflicts), TEST(test_changing_nodes), TEST(test_endless_changes), TEST(test_write_fails_once), TEST(test_bad_frontend),
		TEST(test_garbage_while_connected), TEST(test_connect_refused), TEST(test_connect_overtaken),
		TEST(test_ring_error), TEST(test_wrong_device_path), TEST(test_close), TEST(test_reopen),
		TEST(test_start_over), TEST(test_new_rings), TEST(test_forced_destroy),
		TEST(test_backend_deleted), TEST(test_detach_before_use), TEST(test_detach_while_connecting),
		TEST(test_replaced),
	};

	return tapback_run(tests);
}
