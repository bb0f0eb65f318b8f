/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tapback_device.c - a disk's life as the toolstack, the hotplug script,
 * the frontend and tapdisk make it, and tapback's part in it. xenstore is in
 * memory and tapdisk is a socket that answers; everything else is real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fake_tapdisk.h"
#include "store_memory.h"
#include "tapback_bus.h"
#include "tapback_log.h"

#define PID 1234
#define WAIT_US 10000000

static char run_dir[] = "/tmp/test_tapback.XXXXXX";
static struct tapback tapback;
static struct fake_tapdisk tapdisk;

/* ---- the others ---- */

static const char *get(const char *format, ...) __attribute__((format(printf, 1, 2)));
static const char *get(const char *format, ...)
{
	char path[256];
	va_list args;
	const char *value;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	value = store_memory_get(tapback.store, path);
	return value ? value : "(none)";
}

static void put(const char *value, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(const char *value, const char *format, ...)
{
	char path[256];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	store_memory_put(tapback.store, path, value);
}

#define back(domid, node) get("backend/vbd3/%d/51712/%s", domid, node)
#define put_back(domid, node, value) put(value, "backend/vbd3/%d/51712/%s", domid, node)
#define put_front(domid, node, value) put(value, "/local/domain/%d/device/vbd/51712/%s", domid, node)

/* Run until nothing is left to do at once; local sockets deliver at once. */
static void settle(void)
{
	while (sd_event_run(tapback.event, 0) > 0)
		;
}

/* Until @node of the domain's disk is @value: for what waits for a timer of tapback's. */
static void wait_for(int domid, const char *node, const char *value)
{
	for (int turns = 0; turns < 200 && strcmp(back(domid, node), value); turns++) {
		assert_true(sd_event_run(tapback.event, WAIT_US) > 0);
		settle();
	}
	assert_string_equal(back(domid, node), value);
}

/* What libxl writes, state last. */
static void toolstack_adds(int domid, const char *mode)
{
	char front[128], id[16];

	snprintf(front, sizeof(front), "/local/domain/%d/device/vbd/51712", domid);
	snprintf(id, sizeof(id), "%d", domid);
	put_front(domid, "state", "1");
	put("/vm/one", "/local/domain/%d/vm", domid);
	put_back(domid, "frontend", front);
	put_back(domid, "frontend-id", id);
	put_back(domid, "online", "1");
	put_back(domid, "removable", "0");
	put_back(domid, "device-type", "disk");
	put_back(domid, "params", "aio:/srv/x.img");
	put_back(domid, "mode", mode);
	put_back(domid, "state", "1");
}

static void script_adds_pid(int domid, int pid)
{
	char value[256];

	snprintf(value, sizeof(value), "%d", pid);
	put_back(domid, "pid", value);
	put_back(domid, "minor", "0");
	snprintf(value, sizeof(value), "%s/nbd%d.0", run_dir, pid);
	put_back(domid, "physical-device-path", value);
}

static void frontend_offers(int domid, const char *ref, const char *port)
{
	put_front(domid, "ring-ref", ref);
	put_front(domid, "event-channel", port);
	put_front(domid, "protocol", "x86_64-abi");
	put_front(domid, "feature-persistent", "1");
	put_front(domid, "state", "3");
}

static void toolstack_detaches(int domid)
{
	put_back(domid, "online", "0");
	put_back(domid, "state", "5");
}

static void toolstack_removes(int domid)
{
	char path[128];

	snprintf(path, sizeof(path), "backend/vbd3/%d", domid);
	store_memory_delete(tapback.store, path);
	snprintf(path, sizeof(path), "/local/domain/%d", domid);
	store_memory_delete(tapback.store, path);
}

/* All the way to a guest that uses its disk. */
static void connect_disk(int domid, const char *mode)
{
	toolstack_adds(domid, mode);
	settle();
	assert_string_equal(back(domid, "state"), "2");
	script_adds_pid(domid, PID);
	frontend_offers(domid, "8", "15");
	settle();
	assert_string_equal(back(domid, "state"), "4");
	put_front(domid, "state", "4");
	settle();
}

static void start_tapback(void)
{
	tapback.max_queues = 4;
	tapback.devices = NULL;
	assert_int_equal(bus_start(&tapback), 0);
	settle();
}

/* Killed and started again: nothing it knew is left, nothing was said to anybody. */
static void restart_tapback(void)
{
	bus_stop(&tapback);
	assert_int_equal(store_memory_watches(tapback.store), 1);
	/* its connection to xenstored ends with it */
	tapback.store->ops->unwatch(tapback.store, BACKEND_ROOT, "backend");
	start_tapback();
}

static int set_up(void **state)
{
	memset(&tapback, 0, sizeof(tapback));
	tapback.store = store_memory_open();
	assert_int_equal(sd_event_new(&tapback.event), 0);
	fake_tapdisk_start(&tapdisk, tapback.event, PID);
	start_tapback();
	return 0;
}

static int tear_down(void **state)
{
	const char *removed = store_memory_removed(tapback.store);

	/* the rule of rules: a backend node is the toolstack's */
	if (removed && !strncmp(removed, "backend/", 8) && !strstr(removed, "error") &&
	    !strstr(removed, "physical-sector-size"))
		fail_msg("tapback removed %s", removed);
	bus_stop(&tapback);
	if (tapdisk.pid)
		fake_tapdisk_die(&tapdisk);
	store_close(tapback.store);
	sd_event_unref(tapback.event);
	return 0;
}

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

/* Every node of the toolstack's may come alone, in any order, and still the disk comes up. */
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

static void test_conflicts(void **state)
{
	store_memory_conflict(tapback.store, 7);
	connect_disk(3, "w");
}

/* A quota or memory gone for a moment. */
static void test_write_fails_once(void **state)
{
	store_memory_fail_writes(tapback.store, 1, -ENOSPC);
	toolstack_adds(3, "w");
	settle();
	wait_for(3, "state", "2");
}

/* ---- hostile or unlucky ---- */

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
	/* it thinks better of it */
	put_front(3, "ring-page-order", "0");
	wait_for(3, "state", "4");
	assert_string_equal(back(3, "error"), "(none)");
	assert_string_equal(get("error/backend/vbd3/3/51712/error"), "(none)");
}

/* Garbage beside a ring that works harms nothing. */
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

/* The frontend starts over while its rings are being connected: that they have ended is no error, and the new ones
 * are connected at once. */
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

/* A disk in use stays in 5 and is served until the frontend is done. */
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

/* pvgrub, OVMF, kexec: closed while online, and back again. */
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

/* Resume in place: new rings, and our state is never left. */
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
	store_memory_delete(tapback.store, "/local/domain/3/device/vbd/51712");
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

/* The toolstack takes the disk away while tapdisk is connecting it. */
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

/* ---- tapdisk ---- */

static void test_resize(void **state)
{
	unsigned before;

	connect_disk(3, "w");
	before = store_memory_changes(tapback.store);
	fake_tapdisk_event(&tapdisk, json_pack("{s:s, s:i, s:i}", "event", "resized", "minor", 0, "sectors", 4194304));
	settle();
	assert_string_equal(back(3, "sectors"), "4194304");
	assert_string_equal(back(3, "state"), "4");
	assert_true(store_memory_changes(tapback.store) > before);
}

/* Between tapdisk's answer about the disk and the connect: only tapdisk's answer to that tells. */
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

/* The answer that no ring is there, and right behind it the end. */
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

/* One tapdisk that does not answer holds nobody else up. */
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
	/* the first one goes, the second gets it */
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
	/* a reader beside a writer of another machine */
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

/* ---- killed and started again ---- */

static void test_restart(void **state)
{
	unsigned before;

	connect_disk(3, "w");
	before = store_memory_changes(tapback.store);
	restart_tapback();
	assert_int_equal(store_memory_changes(tapback.store), before);
	assert_int_equal(tapdisk.connects, 1);
	assert_int_equal(tapdisk.disconnects, 0);
	/* and it is in charge again */
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
	store_memory_delete(tapback.store, "/local/domain/3");
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

/* Destroyed while nobody was there, nodes and all. */
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
	assert_int_equal(tapdisk.closes, 1);	/* refused, for the other domain has it */
	assert_int_equal(tapdisk.detaches, 0);
	assert_string_equal(back(4, "state"), "4");
	bus_stop(&tapback);
	toolstack_removes(4);
	start_tapback();
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 0);
	assert_int_equal(tapdisk.detaches, 1);
	assert_null(tapdisk.connections);
}

/* The device came back meanwhile, with another tapdisk. */
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

/* Killed after each step of a connect, and of a detach: the next one brings it to its end. */
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

/* Fewer processors than when the frontend was told what it may have. */
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

static void test_store_lost(void **state)
{
	connect_disk(3, "w");
	store_memory_lose(tapback.store);
	assert_int_equal(sd_event_loop(tapback.event), -EPIPE);
	assert_int_equal(fake_tapdisk_rings(&tapdisk), 1);
	tapback.store->lost = false;	/* for the teardown */
}

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
	return remove(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_init_wait_at_once), TEST(test_handshake), TEST(test_frontend_first), TEST(test_half_written),
		TEST(test_read_only_cdrom), TEST(test_discard_corrected), TEST(test_conflicts),
		TEST(test_write_fails_once),
		TEST(test_bad_frontend), TEST(test_garbage_while_connected), TEST(test_connect_refused),
		TEST(test_connect_overtaken), TEST(test_ring_error), TEST(test_wrong_device_path),
		TEST(test_close), TEST(test_reopen), TEST(test_start_over), TEST(test_new_rings),
		TEST(test_forced_destroy), TEST(test_backend_deleted), TEST(test_detach_before_use),
		TEST(test_detach_while_connecting), TEST(test_replaced),
		TEST(test_resize), TEST(test_resize_while_connecting), TEST(test_tapdisk_dies),
		TEST(test_tapdisk_dies_after_answer),
		TEST(test_silent_tapdisk),
		TEST(test_second_writer), TEST(test_migration), TEST(test_stub_domain), TEST(test_sharing_modes),
		TEST(test_race_for_the_disk),
		TEST(test_restart), TEST(test_restart_unannounced), TEST(test_restart_frontend_changed),
		TEST(test_restart_frontend_gone), TEST(test_restart_resized), TEST(test_restart_tapdisk_died),
		TEST(test_restart_ring_lost), TEST(test_restart_fewer_queues),
		TEST(test_orphans), TEST(test_orphan_of_another_tapdisk), TEST(test_killed_anywhere), TEST(test_store_lost),
	};
	int failed;

	signal(SIGPIPE, SIG_IGN);	/* the tapdisk here answers a tapback that has been killed */
	if (!mkdtemp(run_dir) || setenv(RUN_DIR_ENV, run_dir, 1))
		return 1;
	tapback_log_open(true, getenv("TAPBACK_TEST_LOG") ? TAPBACK_LOG_DEBUG : TAPBACK_LOG_QUIET);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	nftw(run_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return failed;
}
