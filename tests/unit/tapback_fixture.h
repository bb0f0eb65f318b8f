/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_fixture.h - tapback with a disk's other participants: the toolstack,
 * the hotplug script, the frontend and tapdisk. xenstore is in memory, and
 * fake_tapdisk.h answers as tapdisk; tapback is real.
 */
#ifndef TESTS_TAPBACK_FIXTURE_H
#define TESTS_TAPBACK_FIXTURE_H

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
#include "tapback_bus.h"
#include "tapback_log.h"
#include "xenstore_memory.h"

#define PID 1234
#define WAIT_US 10000000

static char run_dir[] = "/tmp/test_tapback.XXXXXX";
static struct tapback tapback;
static struct fake_tapdisk tapdisk;

static inline const char *get(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline const char *get(const char *format, ...)
{
	char path[256];
	va_list args;
	const char *value;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	value = xenstore_memory_get(tapback.xenstore, path);
	return value ? value : "(none)";
}

static inline void put(const char *value, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void put(const char *value, const char *format, ...)
{
	char path[256];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	xenstore_memory_put(tapback.xenstore, path, value);
}

#define back(domid, node) get("backend/vbd3/%d/51712/%s", domid, node)
#define put_back(domid, node, value) put(value, "backend/vbd3/%d/51712/%s", domid, node)
#define put_front(domid, node, value) put(value, "/local/domain/%d/device/vbd/51712/%s", domid, node)

/* Run until no event is ready; local sockets deliver without delay. */
static inline void settle(void)
{
	while (sd_event_run(tapback.event, 0) > 0)
		;
}

/* Wait until @node of the domain's disk is @value, for effects of tapback's timers. */
static inline void wait_for(int domid, const char *node, const char *value)
{
	for (int turns = 0; turns < 200 && strcmp(back(domid, node), value); turns++) {
		assert_true(sd_event_run(tapback.event, WAIT_US) > 0);
		settle();
	}
	assert_string_equal(back(domid, node), value);
}

/* Write the nodes that libxl writes, state last. */
static inline void toolstack_adds(int domid, const char *mode)
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

static inline void script_adds_pid(int domid, int pid)
{
	char value[256];

	snprintf(value, sizeof(value), "%d", pid);
	put_back(domid, "pid", value);
	put_back(domid, "minor", "0");
	snprintf(value, sizeof(value), "%s/nbd%d.0", run_dir, pid);
	put_back(domid, "physical-device-path", value);
}

static inline void frontend_offers(int domid, const char *ref, const char *port)
{
	put_front(domid, "ring-ref", ref);
	put_front(domid, "event-channel", port);
	put_front(domid, "protocol", "x86_64-abi");
	put_front(domid, "feature-persistent", "1");
	put_front(domid, "state", "3");
}

static inline void toolstack_detaches(int domid)
{
	put_back(domid, "online", "0");
	put_back(domid, "state", "5");
}

static inline void toolstack_removes(int domid)
{
	char path[128];

	snprintf(path, sizeof(path), "backend/vbd3/%d", domid);
	xenstore_memory_delete(tapback.xenstore, path);
	snprintf(path, sizeof(path), "/local/domain/%d", domid);
	xenstore_memory_delete(tapback.xenstore, path);
}

/* Connect a guest to its disk, from the toolstack's nodes to Connected. */
static inline void connect_disk(int domid, const char *mode)
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

static inline void start_tapback(void)
{
	tapback.max_queues = 4;
	tapback.devices = NULL;
	assert_int_equal(bus_start(&tapback), 0);
	settle();
}

/* Kill and restart tapback: it loses its state, and tells no peer. */
static inline void restart_tapback(void)
{
	bus_stop(&tapback);
	assert_int_equal(xenstore_memory_watches(tapback.xenstore), 1);
	/* the kill closes its connection to xenstored */
	tapback.xenstore->ops->unwatch(tapback.xenstore, BACKEND_ROOT, "backend");
	start_tapback();
}

static inline int set_up(void **state)
{
	memset(&tapback, 0, sizeof(tapback));
	tapback.xenstore = xenstore_memory_open();
	assert_int_equal(sd_event_new(&tapback.event), 0);
	fake_tapdisk_start(&tapdisk, tapback.event, PID);
	start_tapback();
	return 0;
}

static inline int tear_down(void **state)
{
	const char *removed = xenstore_memory_removed(tapback.xenstore);

	/* the most important rule: only the toolstack removes backend nodes */
	if (removed && !strncmp(removed, "backend/", 8) && !strstr(removed, "error") &&
	    !strstr(removed, "physical-sector-size"))
		fail_msg("tapback removed %s", removed);
	bus_stop(&tapback);
	if (tapdisk.pid)
		fake_tapdisk_die(&tapdisk);
	xenstore_close(tapback.xenstore);
	sd_event_unref(tapback.event);
	return 0;
}

static inline int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
	return remove(path);
}

static inline int make_run_dir(void **state)
{
	signal(SIGPIPE, SIG_IGN);	/* the fake tapdisk may be answering a killed tapback */
	tapback_log_open(true, getenv("TAPBACK_TEST_LOG") ? TAPBACK_LOG_DEBUG : TAPBACK_LOG_QUIET);
	return !mkdtemp(run_dir) || setenv(RUN_DIR_ENV, run_dir, 1);
}

static inline int remove_run_dir(void **state)
{
	return nftw(run_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define tapback_run(tests) cmocka_run_group_tests(tests, make_run_dir, remove_run_dir)

#endif
