/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hanging_disks.h - a fixture's tapdisk with disks on a file system that stops
 * answering, and commands whose answer comes only when it answers again, or
 * after the limit.
 */
#ifndef TESTS_HANGING_DISKS_H
#define TESTS_HANGING_DISKS_H

#include "scratch.h"

#include <poll.h>

#include "fixture_disks.h"
#include "hanging_fs.h"
#include "probe.h"

#define FOREVER "600"

/*
 * The fixture's own disk, of @bytes, is not on that file system. @seconds: the limit of an open and a close; NULL: the
 * default. Without FUSE it returns -1.
 */
static inline int start_with(uint64_t bytes, const char *seconds)
{
	if (!hanging_start(scratch_path("mnt")))
		return -1;
	if (seconds)
		setenv(PROBE_TIMEOUT_ENV, seconds, 1);
	fixture_start(&f, bytes, NULL, NULL);
	return 0;
}

static inline void stop(void)
{
	fixture_stop(&f);
	assert_true(hanging_wait_open(0));
	hanging_stop();
}

/* @format: a command of tap-img and its arguments. */
static inline void __attribute__((format(printf, 1, 2))) tap_img(const char *format, ...)
{
	char command[1600], program[300], arguments[1200];
	va_list list;

	va_start(list, format);
	vsnprintf(arguments, sizeof(arguments), format, list);
	va_end(list);
	fixture_find_program(program, sizeof(program), "tap-img");
	snprintf(command, sizeof(command), "%s %s >/dev/null", program, arguments);
	assert_int_equal(system(command), 0);
}

/* "cow:" and a store, new, on the raw image @base of that file system, but not in it. */
static inline const char *new_store_above(const char *base, const char *name)
{
	static char target[200];

	tap_img("create -F raw -b %s/%s %s/%s", hanging.path, base, scratch_dir, name);
	snprintf(target, sizeof(target), "cow:%s/%s", scratch_dir, name);
	return target;
}

/* SIGTERM was sent: wait until the process serves nobody any more. */
static inline void wait_for_end(void)
{
	char byte;

	while (read(tapctl_fd(f.ctl), &byte, 1) > 0)
		;
	tapctl_close(f.ctl);
}

/* The kernel may keep an ended process, and its locks, for a moment. */
static inline void free_minor(int minor)
{
	struct error_text text;

	for (unsigned ms = 0; tapctl_minor_free(minor, &text); ms++) {
		assert_true(ms < TIMEOUT_MS);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

/* A separate connection, on which a command was sent that waits. */
static inline struct tapctl *send_command(json_t *request)
{
	struct error_text text = { "" };
	struct tapctl *ctl;

	assert_int_equal(tapctl_connect(&ctl, f.pid, &text), 0);
	assert_int_equal(tapctl_send(ctl, request), 0);
	return ctl;
}

static inline bool has_answer(struct tapctl *ctl, int ms)
{
	struct pollfd fd = { .fd = tapctl_fd(ctl), .events = POLLIN };

	return poll(&fd, 1, ms) > 0;
}

/* Its final answer. The connection is closed. */
static inline int take_answer(struct tapctl *ctl, struct error_text *text)
{
	json_t *reply;
	int error;

	text->text[0] = '\0';
	assert_true(has_answer(ctl, TIMEOUT_MS));
	assert_int_equal(tapctl_receive(ctl, &reply), 0);
	error = tapctl_reply_error(reply, text);
	json_decref(reply);
	tapctl_close(ctl);
	return error;
}

static inline void expect_answer(struct tapctl *ctl)
{
	struct error_text text;

	if (take_answer(ctl, &text))
		fail_msg("%s", text.text);
}

/* The limit, of a second, has ended the command; @name: of the image, @what: becomes of it. */
static inline void expect_stuck(struct tapctl *ctl, const char *name, const char *what)
{
	struct error_text text;

	assert_int_equal(take_answer(ctl, &text), -ETIMEDOUT);
	if (!strstr(text.text, "has not answered for 1 seconds") || !strstr(text.text, name) || !strstr(text.text, what) ||
	    strchr(text.text, '\n'))
		fail_msg("%s", text.text);
}

#endif
