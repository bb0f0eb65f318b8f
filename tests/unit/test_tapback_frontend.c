/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tapback_frontend.c - valid and invalid descriptions of a frontend's
 * rings in xenstore.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "tapback_frontend.h"
#include "xenstore_memory.h"

#define FRONT "/local/domain/3/device/vbd/51712"
#define MAX_OFFERED 4

static void test_numbers(void **state)
{
	static const struct {
		const char *text;
		uint64_t max;
		int error;
		uint64_t value;
	} cases[] = {
		{ "0", 10, 0, 0 }, { "10", 10, 0, 10 }, { "007", 10, 0, 7 },
		{ "18446744073709551615", UINT64_MAX, 0, UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX, -ERANGE, 0 },
		{ "99999999999999999999999", UINT64_MAX, -ERANGE, 0 },
		{ "11", 10, -ERANGE, 0 }, { "4294967296", UINT32_MAX, -ERANGE, 0 },
		{ "", 10, -EINVAL, 0 }, { "-1", 10, -EINVAL, 0 }, { "+1", 10, -EINVAL, 0 }, { " 1", 10, -EINVAL, 0 },
		{ "1 ", 10, -EINVAL, 0 }, { "1\n", 10, -EINVAL, 0 }, { "0x1", 10, -EINVAL, 0 }, { "1.5", 10, -EINVAL, 0 },
		{ "one", 10, -EINVAL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 12345;

		assert_int_equal(xenstore_parse_number(cases[i].text, cases[i].max, &value), cases[i].error);
		assert_true(value == (cases[i].error ? 12345 : cases[i].value));
	}
}

/* "node=value" pairs below FRONT; a NULL ends them. */
static struct xenstore *make_xenstore(const char *const *nodes)
{
	struct xenstore *xenstore = xenstore_memory_open();

	for (; *nodes; nodes++) {
		char path[256];
		const char *value = strchr(*nodes, '=');

		snprintf(path, sizeof(path), FRONT "/%.*s", (int)(value - *nodes), *nodes);
		xenstore_memory_put(xenstore, path, value + 1);
	}
	return xenstore;
}

static int read_ring(const char *const *nodes, struct frontend_ring *ring, struct error_text *text)
{
	struct xenstore *xenstore = make_xenstore(nodes);
	int error;

	text->text[0] = '\0';
	error = frontend_read_ring(xenstore, FRONT, MAX_OFFERED, ring, text);
	xenstore_close(xenstore);
	return error;
}

#define NODES(...) ((const char *const[]) { __VA_ARGS__, NULL })

static void test_plain(void **state)
{
	struct frontend_ring ring;
	struct error_text text;

	assert_int_equal(read_ring(NODES("ring-ref=8", "event-channel=5", "protocol=x86_64-abi", "feature-persistent=1"),
				   &ring, &text), 0);
	assert_int_equal(ring.nr_queues, 1);
	assert_int_equal(ring.ring_pages, 1);
	assert_int_equal(ring.queues[0].refs[0], 8);
	assert_int_equal(ring.queues[0].port, 5);
	assert_true(ring.persistent);
	assert_string_equal(ring.protocol, "x86_64-abi");

	assert_int_equal(read_ring(NODES("ring-ref=4294967295", "event-channel=4294967295"), &ring, &text), 0);
	assert_int_equal(ring.queues[0].refs[0], UINT32_MAX);
	assert_string_equal(ring.protocol, "");
	assert_false(ring.persistent);
}

static void test_order_0_spellings(void **state)
{
	struct frontend_ring ring;
	struct error_text text;

	assert_int_equal(read_ring(NODES("ring-page-order=0", "ring-ref=8", "event-channel=5"), &ring, &text), 0);
	assert_int_equal(ring.queues[0].refs[0], 8);
	assert_int_equal(read_ring(NODES("ring-page-order=0", "ring-ref0=9", "event-channel=5"), &ring, &text), 0);
	assert_int_equal(ring.queues[0].refs[0], 9);
	/* but without the order it is an old frontend, and ring-ref0 is not one of its nodes */
	assert_int_equal(read_ring(NODES("ring-ref0=9", "event-channel=5"), &ring, &text), -ENOENT);
}

static void test_queues_and_pages(void **state)
{
	struct frontend_ring ring, other;
	struct error_text text;

	assert_int_equal(read_ring(NODES("multi-queue-num-queues=2", "ring-page-order=1",
					 "queue-0/ring-ref0=10", "queue-0/ring-ref1=11", "queue-0/event-channel=1",
					 "queue-1/ring-ref0=12", "queue-1/ring-ref1=13", "queue-1/event-channel=2"),
				   &ring, &text), 0);
	assert_int_equal(ring.nr_queues, 2);
	assert_int_equal(ring.ring_pages, 2);
	assert_int_equal(ring.queues[1].refs[1], 13);
	assert_int_equal(ring.queues[1].port, 2);

	other = ring;
	assert_true(frontend_ring_same(&ring, &other));
	other.queues[1].refs[1] = 14;
	assert_false(frontend_ring_same(&ring, &other));
	other.refs_known = false;
	assert_true(frontend_ring_same(&ring, &other));
	other.queues[0].port = 3;
	assert_false(frontend_ring_same(&ring, &other));
	other = ring;
	other.nr_queues = 1;
	assert_false(frontend_ring_same(&ring, &other));
}

/* Each hostile set of nodes, and the node that the error must name. */
static void test_hostile(void **state)
{
	static const struct {
		const char *nodes[8];
		const char *named;
	} cases[] = {
		{ { "event-channel=5" }, "ring-ref" },
		{ { "ring-ref=8" }, "event-channel" },
		{ { "ring-ref=8", "event-channel=0" }, "event-channel" },
		{ { "ring-ref=8", "event-channel=-1" }, "event-channel" },
		{ { "ring-ref=4294967296", "event-channel=5" }, "ring-ref" },
		{ { "ring-ref=", "event-channel=5" }, "ring-ref" },
		{ { "ring-ref=8 ", "event-channel=5" }, "ring-ref" },
		{ { "ring-ref=0x8", "event-channel=5" }, "ring-ref" },
		{ { "ring-ref=%n%s", "event-channel=5" }, "ring-ref" },
		{ { "ring-page-order=5", "ring-ref0=8", "event-channel=5" }, "ring-page-order" },
		{ { "ring-page-order=31", "ring-ref0=8", "event-channel=5" }, "ring-page-order" },
		{ { "ring-page-order=18446744073709551617", "ring-ref=8", "event-channel=5" }, "ring-page-order" },
		{ { "ring-page-order=1", "ring-ref0=8", "event-channel=5" }, "ring-ref1" },
		{ { "ring-page-order=1", "ring-ref=8", "event-channel=5" }, "ring-ref0" },
		{ { "multi-queue-num-queues=0", "ring-ref=8", "event-channel=5" }, "multi-queue-num-queues" },
		{ { "multi-queue-num-queues=5", "ring-ref=8", "event-channel=5" }, "multi-queue-num-queues" },
		{ { "multi-queue-num-queues=4294967297", "ring-ref=8", "event-channel=5" }, "multi-queue-num-queues" },
		{ { "multi-queue-num-queues=2", "ring-ref=8", "event-channel=5" }, "ring-ref" },
		{ { "multi-queue-num-queues=2", "queue-0/ring-ref=8", "queue-0/event-channel=5", "queue-1/ring-ref=9" },
		  "event-channel" },
		{ { "protocol=x86_64-abi\n", "ring-ref=8", "event-channel=5" }, "protocol" },
		{ { "protocol=", "ring-ref=8", "event-channel=5" }, "protocol" },
		{ { "protocol=../../x", "ring-ref=8", "event-channel=5" }, "protocol" },
		{ { "feature-persistent=2", "ring-ref=8", "event-channel=5" }, "feature-persistent" },
		{ { "feature-persistent=yes", "ring-ref=8", "event-channel=5" }, "feature-persistent" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct frontend_ring ring;
		struct error_text text;
		int error = read_ring(cases[i].nodes, &ring, &text);

		if (error >= 0 || !strstr(text.text, cases[i].named) || ring.nr_queues)
			fail_msg("case %zu (%s): error %d, text \"%s\", %u queues", i, cases[i].nodes[0], error,
				 text.text, ring.nr_queues);
	}
}

static void test_nul_inside(void **state)
{
	struct xenstore *xenstore = make_xenstore(NODES("event-channel=5"));
	struct frontend_ring ring;
	struct error_text text = { "" };

	xenstore_memory_put_bytes(xenstore, FRONT "/ring-ref", "8\0" "9", 3);
	assert_int_equal(frontend_read_ring(xenstore, FRONT, MAX_OFFERED, &ring, &text), -EINVAL);
	xenstore_memory_put_bytes(xenstore, FRONT "/state", "4\0", 2);
	assert_int_equal(xenbus_read_state(xenstore, FRONT), XENBUS_UNREADABLE);
	xenstore_close(xenstore);
}

static void test_states(void **state)
{
	static const struct {
		const char *text;
		enum xenbus state;
	} cases[] = {
		{ "0", XENBUS_UNREADABLE }, { "1", XENBUS_INITIALISING }, { "4", XENBUS_CONNECTED }, { "6", XENBUS_CLOSED },
		{ "7", XENBUS_UNREADABLE }, { "-1", XENBUS_UNREADABLE }, { "", XENBUS_UNREADABLE }, { "4 ", XENBUS_UNREADABLE },
		{ "44444444444444444444", XENBUS_UNREADABLE },
	};
	struct xenstore *xenstore = xenstore_memory_open();

	assert_int_equal(xenbus_read_state(xenstore, FRONT), XENBUS_GONE);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		xenstore_memory_put(xenstore, FRONT "/state", cases[i].text);
		assert_int_equal(xenbus_read_state(xenstore, FRONT), cases[i].state);
	}
	xenstore_close(xenstore);
}

/* tapdisk's list is trusted not to be hostile, but it may be malformed. */
static void test_from_json(void **state)
{
	static const struct {
		const char *text;
		int error;
		bool refs;
	} cases[] = {
		{ "{\"ring_pages\": 1, \"ports\": [5]}", 0, false },
		{ "{\"ring_pages\": 2, \"ports\": [5], \"refs\": [[8, 9]]}", 0, true },
		{ "{\"ring_pages\": 2, \"ports\": [5], \"refs\": [[8]]}", -EINVAL, false },
		{ "{\"ring_pages\": 1, \"ports\": [5], \"refs\": [[8], [9]]}", -EINVAL, false },
		{ "{\"ring_pages\": 1, \"ports\": [5], \"refs\": [[4294967296]]}", -EINVAL, false },
		{ "{\"ring_pages\": 0, \"ports\": [5]}", -EINVAL, false },
		{ "{\"ring_pages\": 17, \"ports\": [5]}", -EINVAL, false },
		{ "{\"ring_pages\": 1, \"ports\": []}", -EINVAL, false },
		{ "{\"ring_pages\": 1, \"ports\": [\"5\"]}", -EINVAL, false },
		{ "{\"ring_pages\": 1, \"ports\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", -EINVAL, false },
		{ "{}", -EINVAL, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *connection = json_loads(cases[i].text, 0, NULL);
		struct frontend_ring ring;

		assert_non_null(connection);
		assert_int_equal(frontend_ring_from_json(connection, &ring), cases[i].error);
		assert_int_equal(!cases[i].error && ring.refs_known, cases[i].refs);
		json_decref(connection);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_order_0_spellings),
		cmocka_unit_test(test_queues_and_pages),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_nul_inside),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_from_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
