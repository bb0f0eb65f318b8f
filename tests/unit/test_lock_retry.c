/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_lock_retry.c - an image whose lock will soon be released: a block device
 * that udev probes, as it does with every new one, or an image of a killed
 * process. The opener waits for a limited time, but no other disk waits; a
 * lock whose holder lives is not waited for.
 */
#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "file.h"
#include "scratch.h"

#define ROUNDS 10

static struct fixture f;	/* its disk is the other one */
static struct tapctl *ctl;	/* for requests that wait */
static int minor, locked = -1;
static const char *device;

static json_t *command(const char *name)
{
	return json_pack("{s:s, s:i}", "command", name, "minor", minor);
}

static json_t *open_image(const char *path)
{
	return json_pack("{s:s, s:i, s:o}", "command", "open", "minor", minor, "target", json_sprintf("aio:%s", path));
}

static json_t *open_command(void)
{
	return open_image(device);
}

static int setup(void **state)
{
	struct error_text text = { "" };

	device = scratch_loop(scratch_file("contested", 1 << 20), 512);
	fixture_start(&f, 0, "null:1M", NULL);
	minor = tapctl_minor_allocate(-1, &text);
	assert_true(minor >= 0);
	assert_int_equal(tapctl_connect(&ctl, f.pid, &text), 0);
	assert_int_equal(tapctl_call(ctl, command("attach"), NULL, TIMEOUT_MS, &text), 0);
	return 0;
}

static int teardown(void **state)
{
	struct error_text text = { "" };

	tapctl_close(ctl);
	json_decref(fixture_call(&f, command("detach")));
	assert_int_equal(tapctl_minor_free(minor, &text), 0);
	fixture_stop(&f);
	return 0;
}

/* What udev does. */
static void lock_device(void)
{
	locked = open(device, O_RDONLY | O_CLOEXEC);
	assert_true(locked >= 0);
	assert_int_equal(flock(locked, LOCK_SH), 0);
}

static void unlock_device(void)
{
	close(locked);
}

static int result(struct error_text *text)
{
	struct pollfd poll_fd = { .fd = tapctl_fd(ctl), .events = POLLIN };
	json_t *reply;
	int error;

	assert_int_equal(poll(&poll_fd, 1, TIMEOUT_MS), 1);
	assert_int_equal(tapctl_receive(ctl, &reply), 0);
	error = tapctl_reply_error(reply, text);
	json_decref(reply);
	return error;
}

/*
 * Send the command of @request while the device is locked, have another disk answer a query, and
 * unlock. The command has to succeed. If that took us more than half a second, because the machine is
 * busy, it may have given up, and is sent again.
 */
static void succeeds_when_unlocked(json_t *request)
{
	struct error_text text = { "" };
	int error = -EBUSY;

	for (int round = 0; error == -EBUSY && round < ROUNDS; round++) {
		text.text[0] = '\0';
		lock_device();
		assert_int_equal(tapctl_send(ctl, json_deep_copy(request)), 0);
		json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor)));
		unlock_device();
		error = result(&text);
	}
	if (error)
		fail_msg("%s", text.text);
	json_decref(request);
}

static void test_open(void **state)
{
	if (!device)
		skip();
	succeeds_when_unlocked(open_command());
	json_decref(fixture_call(&f, command("close")));
}

/* udev looks at a device that was closed after writing, too. */
static void test_unpause(void **state)
{
	if (!device)
		skip();
	json_decref(fixture_call(&f, open_command()));
	json_decref(fixture_call(&f, command("pause")));
	succeeds_when_unlocked(command("unpause"));
	json_decref(fixture_call(&f, command("close")));
}

static void test_locked_for_good(void **state)
{
	struct error_text text = { "" };
	char words[64];

	if (!device)
		skip();
	lock_device();
	assert_int_equal(tapctl_send(ctl, open_command()), 0);
	assert_int_equal(result(&text), -EBUSY);
	snprintf(words, sizeof(words), "in use by another process (pid %d)", (int)getpid());
	assert_non_null(strstr(text.text, words));
	unlock_device();
}

/* Its minor is detached while an open waits: the open gets that as its error. */
static void test_detached_while_waiting(void **state)
{
	struct error_text text = { "" };

	if (!device)
		skip();
	lock_device();
	assert_int_equal(tapctl_send(ctl, open_command()), 0);
	json_decref(fixture_call(&f, command("detach")));
	assert_true(result(&text) == -ENODEV || strstr(text.text, "in use"));
	unlock_device();
	json_decref(fixture_call(&f, command("attach")));
}

/*
 * A process that has locked @path, and sends us its file: a socket's queue keeps the file locked for
 * as long as we like, as io_uring does for a while.
 */
static pid_t start_holder(const char *path, int *queue)
{
	union { struct cmsghdr header; char space[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	struct iovec byte = { "", 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	struct pollfd readable;
	int fds[2], fd;
	pid_t pid;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	pid = fork();
	if (!pid) {
		fd = open(path, O_RDWR | O_CLOEXEC);
		control.header = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		if (flock(fd, LOCK_EX | LOCK_NB) || sendmsg(fds[1], &message, 0) != 1)
			_exit(1);
		pause();
	}
	close(fds[1]);
	*queue = fds[0];
	readable = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	assert_int_equal(poll(&readable, 1, TIMEOUT_MS), 1);
	return pid;
}

static void test_holder_died(void **state)
{
	const char *path = scratch_file("orphan", 1 << 20);
	struct error_text text = { "" };
	int queue;
	pid_t pid = start_holder(path, &queue);

	assert_int_equal(tapctl_send(ctl, open_image(path)), 0);
	assert_int_equal(result(&text), -EBUSY);	/* it lives */
	assert_int_equal(kill(pid, SIGKILL), 0);
	/* before and after we have collected it; the other disk gets its answers meanwhile */
	assert_int_equal(tapctl_send(ctl, open_image(path)), 0);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor)));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor)));
	close(queue);
	text.text[0] = '\0';
	if (result(&text))
		fail_msg("%s", text.text);
	json_decref(fixture_call(&f, command("close")));
}

/* No process has that number any more at our first look. */
static void test_holder_is_gone(void **state)
{
	const char *path = scratch_file("orphan", 1 << 20);
	struct error_text text = { "" };
	int queue;
	pid_t pid = start_holder(path, &queue);

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(tapctl_send(ctl, open_image(path)), 0);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor)));
	close(queue);
	if (result(&text))
		fail_msg("%s", text.text);
	json_decref(fixture_call(&f, command("close")));
}

/* For the tools, and for callers that try only once. */
static void test_holder_is_dead(void **state)
{
	const char *path = scratch_file("orphan", 1 << 20);
	struct driver_options options = { 0 };
	struct error_text text = { "" };
	struct image_file *file;
	int queue;
	pid_t pid = start_holder(path, &queue);

	assert_int_equal(file_open(&file, path, &options, NULL), -EBUSY);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(file_open(&file, path, &options, &text), -EOWNERDEAD);
	assert_non_null(strstr(text.text, "has ended"));
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(file_open(&file, path, &options, NULL), -EOWNERDEAD);
	close(queue);
	assert_int_equal(file_open(&file, path, &options, NULL), 0);
	file_close(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_unpause),
		cmocka_unit_test(test_locked_for_good),
		cmocka_unit_test(test_detached_while_waiting),
		cmocka_unit_test(test_holder_died),
		cmocka_unit_test(test_holder_is_gone),
		cmocka_unit_test(test_holder_is_dead),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, setup, teardown);
}
