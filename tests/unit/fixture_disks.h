/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fixture_disks.h - a fixture's tapdisk with more disks than one, and NBD
 * clients of them.
 */
#ifndef TESTS_FIXTURE_DISKS_H
#define TESTS_FIXTURE_DISKS_H

#include "nbd_client.h"

static struct fixture f;

static inline void call(json_t *request)
{
	json_decref(fixture_call(&f, request));
}

static inline json_t *minor_request(const char *command, int minor)
{
	return json_pack("{s:s, s:i}", "command", command, "minor", minor);
}

static inline json_t *open_request(int minor, const char *target)
{
	return json_pack("{s:s, s:i, s:s}", "command", "open", "minor", minor, "target", target);
}

/* One more minor of the tapdisk, with no image open. */
static inline int attach(void)
{
	struct error_text text = { "" };
	int minor = tapctl_minor_allocate(-1, &text);

	assert_true(minor >= 0);
	call(minor_request("attach", minor));
	return minor;
}

static inline int add_disk(const char *target)
{
	int minor = attach();

	call(open_request(minor, target));
	return minor;
}

static inline void remove_disk(int minor)
{
	struct error_text text = { "" };

	call(minor_request("close", minor));
	call(minor_request("detach", minor));
	assert_int_equal(tapctl_minor_free(minor, &text), 0);
}

static inline int client_of(int minor)
{
	int fd;

	snprintf(socket_path, sizeof(socket_path), NBD_SOCKET_FORMAT, f.dir, f.pid, minor);
	fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	return fd;
}

#endif
