/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot_control.h - one disk of snapshot_process.h with two connections to
 * its control socket, and snapshot commands whose answer comes later.
 */
#ifndef TESTS_SNAPSHOT_CONTROL_H
#define TESTS_SNAPSHOT_CONTROL_H

#include "snapshot_process.h"

#include <poll.h>

#define LONG_LEASE_MS 30000	/* no test waits for it */
#define RANDOM_NAME "0123456789abcdef0123456789abcdef"

static struct fake_process p;
static struct tapctl *other;	/* a second connection */

static inline int setup(void **state)
{
	struct error_text text = { "" };

	fake_start(&p);
	return tapctl_connect(&other, p.pid, &text);
}

static inline int teardown(void **state)
{
	tapctl_close(other);
	fake_stop(&p);
	return 0;
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static inline json_t *freeze_request(unsigned lease_ms)
{
	json_t *request = fake_request(&p, "snapshot-freeze");

	json_object_set_new(request, "lease_ms", json_integer(lease_ms));
	return request;
}

static inline json_t *with_name(const char *command)
{
	json_t *request = fake_request(&p, command);

	json_object_set_new(request, "name", json_string("snap"));
	return request;
}

static inline json_t *disk_stats(const char *member)
{
	json_t *reply = fake_call(&p, fake_request(&p, "stats"));
	json_t *value = json_incref(json_object_get(json_object_get(reply, "stats"), member));

	json_decref(reply);
	return value;
}

static inline double longest_stall_us(void)
{
	json_t *stalls = disk_stats("stalls");
	double longest = json_number_value(json_object_get(stalls, "longest_us"));

	json_decref(stalls);
	return longest;
}

/* A command whose answer comes later, on @ctl. */
static inline void begin(struct tapctl *ctl, json_t *request)
{
	assert_int_equal(tapctl_send(ctl, request), 0);
}

/* The next message, which must come. */
static inline json_t *receive(struct tapctl *ctl)
{
	struct pollfd poll_fd = { .fd = tapctl_fd(ctl), .events = POLLIN };
	json_t *message;
	int error;

	while ((error = tapctl_receive(ctl, &message)) == -EAGAIN)
		assert_int_equal(poll(&poll_fd, 1, TIMEOUT_MS), 1);
	assert_int_equal(error, 0);
	return message;
}

static inline void finish(struct tapctl *ctl, int error)
{
	json_t *reply = receive(ctl);

	assert_int_equal(tapctl_reply_error(reply, NULL), error);
	json_decref(reply);
}

#endif
