/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_control.c - the control socket of a real tapdisk: framing, limits,
 * descriptors, and clients that break the protocol. After each attack another
 * client must be served as before, and no descriptor may leak.
 */
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "array.h"

#define MAX_CONNECTIONS 256	/* tapdisk/control.c */
#define DISK_BYTES (16u << 20)

static struct fixture f;
static unsigned descriptors;	/* tapdisk's, when only f.ctl is connected */

/* A bare connection. */
static int raw_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), CONTROL_SOCKET_FORMAT, f.dir, f.pid);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* How many of @length bytes tapdisk still reads; it may close the connection before the last. */
static void raw_send(int fd, const char *data, size_t length)
{
	ssize_t sent;

	while (length) {
		sent = send(fd, data, length, MSG_NOSIGNAL);
		if (sent < 0 && (errno == EPIPE || errno == ECONNRESET))
			return;
		assert_true(sent > 0);
		data += sent;
		length -= (size_t)sent;
	}
}

/* The next line as JSON; NULL at the end of the connection. */
static json_t *raw_receive(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	static char line[PROTOCOL_MAX_LINE];
	size_t length = 0;
	json_t *message;

	for (;;) {
		assert_int_equal(poll(&poll_fd, 1, TIMEOUT_MS), 1);
		if (recv(fd, line + length, 1, 0) != 1)
			return NULL;
		if (line[length] == '\n')
			break;
		assert_true(++length < sizeof(line));
	}
	message = json_loadb(line, length, 0, NULL);
	assert_true(json_is_object(message));
	return message;
}

static void expect_reply(int fd, int error)
{
	json_t *reply = raw_receive(fd);
	const char *text;

	assert_non_null(reply);
	assert_int_equal(json_is_true(json_object_get(reply, "ok")), !error);
	assert_int_equal(json_integer_value(json_object_get(reply, "errno")), error);
	text = json_string_value(json_object_get(reply, "error"));
	assert_int_equal(!text, !error);
	assert_true(!text || (*text && !strchr(text, '\n')));
	json_decref(reply);
}

/*
 * Events that came just after @fd was closed have been handled once tapdisk has answered on another
 * connection: the loop handles in one turn everything that is ready, and a second answer is from a
 * later turn.
 */
static void settle(void)
{
	json_decref(fixture_call(&f, json_pack("{s:s}", "command", "list")));
	json_decref(fixture_call(&f, json_pack("{s:s}", "command", "list")));
}

static int setup(void **state)
{
	fixture_start(&f, DISK_BYTES, NULL, NULL);
	settle();	/* the probe's pipe is closed after the reply to `open` */
	descriptors = fixture_count_descriptors(&f);
	return 0;
}

static int teardown(void **state)
{
	fixture_stop(&f);
	return 0;
}

static void expect_nothing_left(void)
{
	settle();
	assert_int_equal(fixture_count_descriptors(&f), descriptors);
}

static void send_text(int fd, const char *text)
{
	raw_send(fd, text, strlen(text));
}

static void test_lines_that_are_no_objects(void **state)
{
	static const char *const lines[] = { "\n", "hello\n", "[]\n", "42\n", "{\"a\": 1}}\n", "{\"a\": 1, \"a\": 2}\n",
					     "\"\\ud800\"\n", "{\xff}\n", "{\"version\": 1e999}\n" };

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		int fd = raw_connect();

		send_text(fd, lines[i]);
		send_text(fd, "{\"version\": 1, \"command\": \"list\"}\n");	/* too late */
		expect_reply(fd, EPROTO);
		assert_null(raw_receive(fd));
		close(fd);
	}
	expect_nothing_left();
}

static void test_deep_nesting(void **state)
{
	size_t depth = 500000;
	char *line = malloc(depth + 1);
	int fd = raw_connect();

	assert_non_null(line);
	memset(line, '[', depth);
	line[depth] = '\n';
	raw_send(fd, line, depth + 1);
	free(line);
	expect_reply(fd, EPROTO);
	assert_null(raw_receive(fd));
	close(fd);
	expect_nothing_left();
}

/* A request padded with spaces to @length bytes, newline included. */
static void send_padded(int fd, size_t length)
{
	static const char request[] = "{\"version\": 1, \"command\": \"list\"}";
	char *line = malloc(length);

	assert_non_null(line);
	memset(line, ' ', length);
	memcpy(line, request, sizeof(request) - 1);
	line[length - 1] = '\n';
	raw_send(fd, line, length);
	free(line);
}

static void test_line_length(void **state)
{
	int fd = raw_connect();

	send_padded(fd, PROTOCOL_MAX_LINE);
	expect_reply(fd, 0);
	send_padded(fd, PROTOCOL_MAX_LINE + 1);
	expect_reply(fd, EPROTO);
	assert_null(raw_receive(fd));
	close(fd);
	expect_nothing_left();
}

static void test_line_without_end(void **state)
{
	char block[65536];
	int fd = raw_connect();

	memset(block, 'x', sizeof(block));
	for (unsigned i = 0; i < 2 * PROTOCOL_MAX_LINE / sizeof(block); i++)
		raw_send(fd, block, sizeof(block));
	expect_reply(fd, EPROTO);
	assert_null(raw_receive(fd));
	close(fd);
	fd = raw_connect();
	send_text(fd, "{\"version\": 1, ");
	shutdown(fd, SHUT_WR);
	expect_reply(fd, EPROTO);
	assert_null(raw_receive(fd));
	close(fd);
	expect_nothing_left();
}

static void test_wrong_members(void **state)
{
	static const struct { const char *line; int error; } requests[] = {
		{ "{}", EINVAL },
		{ "{\"command\": \"list\"}", EINVAL },
		{ "{\"version\": \"1\", \"command\": \"list\"}", EINVAL },
		{ "{\"version\": 2, \"command\": \"list\"}", EPROTONOSUPPORT },
		{ "{\"version\": 1}", EINVAL },
		{ "{\"version\": 1, \"command\": 7}", EINVAL },
		{ "{\"version\": 1, \"command\": \"format\"}", ENOSYS },
		{ "{\"version\": 1, \"command\": \"info\"}", EINVAL },
		{ "{\"version\": 1, \"command\": \"info\", \"minor\": -1}", EINVAL },
		{ "{\"version\": 1, \"command\": \"info\", \"minor\": 65536}", EINVAL },
		{ "{\"version\": 1, \"command\": \"info\", \"minor\": 4294967296}", EINVAL },
		{ "{\"version\": 1, \"command\": \"info\", \"minor\": \"0\"}", EINVAL },
		{ "{\"version\": 1, \"command\": \"info\", \"minor\": 1.5}", EINVAL },
		{ "{\"version\": 1, \"command\": \"info\", \"minor\": 65535}", ENODEV },
		{ "{\"version\": 1, \"command\": \"attach\", \"minor\": 65535}", ENOENT },
		{ "{\"version\": 1, \"command\": \"attach\", \"minor\": 0}", EEXIST },
		{ "{\"version\": 1, \"command\": \"detach\", \"minor\": 0}", EBUSY },
		{ "{\"version\": 1, \"command\": \"open\", \"minor\": 0}", EINVAL },
		{ "{\"version\": 1, \"command\": \"open\", \"minor\": 0, \"target\": \"null:1G\"}", EEXIST },
		{ "{\"version\": 1, \"command\": \"open\", \"minor\": 0, \"target\": \"null:\\n\"}", EINVAL },
		{ "{\"version\": 1, \"command\": \"close\", \"minor\": 0, \"force\": 1}", EINVAL },
		{ "{\"version\": 1, \"command\": \"connect\", \"minor\": 0}", EINVAL },
		{ "{\"version\": 1, \"command\": \"connect\", \"minor\": 0, \"transport\": \"ip\"}", EINVAL },
		{ "{\"version\": 1, \"command\": \"disconnect\", \"minor\": 0, \"domid\": 1, \"devid\": 51712}", ENOENT },
		{ "{\"version\": 1, \"command\": \"watch\"}", 0 },
	};
	int fd = raw_connect();

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		send_text(fd, requests[i].line);
		send_text(fd, "\n");
		expect_reply(fd, requests[i].error);
	}
	close(fd);
	expect_nothing_left();
}

/* A message about a text that is too long is cut, perhaps within a character; the reply arrives all the same. */
static void test_error_cut_in_a_character(void **state)
{
	int fd = raw_connect();
	char name[1001], line[1100];

	for (size_t i = 0; i < sizeof(name) - 1; i += 2)
		memcpy(name + i, "\303\251", 2);		/* e with an acute accent */
	name[sizeof(name) - 1] = '\0';
	for (unsigned shift = 0; shift < 2; shift++) {
		snprintf(line, sizeof(line), "{\"version\": 1, \"command\": \"%s%s\"}\n", shift ? "x" : "", name);
		send_text(fd, line);
		expect_reply(fd, ENOSYS);
	}
	close(fd);
	expect_nothing_left();
}

static const char *const bad_queues[] = {
	"7", "[]", "[7]", "[{}]", "[{\"refs\": [], \"port\": 0}]", "[{\"refs\": [1, 2], \"port\": 0}]",
	"[{\"refs\": [-1], \"port\": 0}]", "[{\"refs\": [4294967296], \"port\": 0}]", "[{\"refs\": [1]}]",
	"[{\"refs\": [1], \"port\": -1}]", "[{\"refs\": [\"1\"], \"port\": 0}]", "[{\"refs\": [1], \"port\": 0}]",
};

static void test_wrong_connect(void **state)
{
	char line[512];
	int fd = raw_connect();

	for (size_t i = 0; i < ARRAY_SIZE(bad_queues); i++) {
		/* the last one lacks only the descriptors */
		snprintf(line, sizeof(line), "{\"version\": 1, \"command\": \"connect\", \"minor\": %d, \"transport\": \"shm\", "
			 "\"domid\": 1, \"devid\": 1, \"queues\": %s}\n", f.minor, bad_queues[i]);
		send_text(fd, line);
		expect_reply(fd, EINVAL);
	}
	close(fd);
	expect_nothing_left();
}

/* Send @text with @count copies of @fd. */
static void send_descriptors(int socket_fd, const char *text, int fd, unsigned count)
{
	char control[CMSG_SPACE(sizeof(int) * 250)] = { 0 };
	struct iovec iov = { (char *)text, strlen(text) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = CMSG_SPACE(sizeof(int) * count) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int) * count);
	for (unsigned i = 0; i < count; i++)
		memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(int));
	assert_int_equal(sendmsg(socket_fd, &message, MSG_NOSIGNAL), iov.iov_len);
}

static void test_descriptor_flood(void **state)
{
	static const unsigned counts[] = { PROTOCOL_MAX_FDS + 1, PROTOCOL_MAX_FDS + 2, 250 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		int fd = raw_connect();

		send_descriptors(fd, "{\"version\": 1, \"command\": \"list\"}\n", null, counts[i]);
		expect_reply(fd, EPROTO);
		assert_null(raw_receive(fd));
		close(fd);
	}
	close(null);
	expect_nothing_left();
}

/* Byte by byte, a line that never ends. */
static void test_descriptor_trickle(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd = raw_connect();

	for (unsigned i = 0; i <= PROTOCOL_MAX_FDS; i++)
		send_descriptors(fd, " ", null, 1);
	expect_reply(fd, EPROTO);
	assert_null(raw_receive(fd));
	close(fd);
	close(null);
	expect_nothing_left();
}

/* Descriptors that a command does not use are closed; they belong to their own line only. */
static void test_unwanted_descriptors(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd = raw_connect();

	for (unsigned i = 0; i < 4; i++)
		send_descriptors(fd, "{\"version\": 1, \"command\": \"list\"}\n", null, PROTOCOL_MAX_FDS);
	for (unsigned i = 0; i < 4; i++)
		expect_reply(fd, 0);
	settle();
	assert_int_equal(fixture_count_descriptors(&f), descriptors + 1);
	close(fd);
	close(null);
	expect_nothing_left();
}

/* Lines sent in one go before a line with descriptors do not get those. */
static void test_descriptors_stay_with_their_line(void **state)
{
	static const char list[] = "{\"version\": 1, \"command\": \"list\"}\n";
	char connect_line[512];
	int memory = memfd_create("guest", MFD_CLOEXEC);
	int fd = raw_connect();

	snprintf(connect_line, sizeof(connect_line), "{\"version\": 1, \"command\": \"connect\", \"minor\": %d, "
		 "\"transport\": \"shm\", \"domid\": 1, \"devid\": 1, \"queues\": [{\"refs\": [0], \"port\": 0}]}\n", f.minor);
	send_text(fd, list);
	send_text(fd, list);
	send_descriptors(fd, connect_line, memory, 3);
	send_text(fd, connect_line);
	expect_reply(fd, 0);
	expect_reply(fd, 0);
	/* three descriptors arrived: they are refused because each is an empty memfd, with another error than for none */
	json_t *with = raw_receive(fd), *without = raw_receive(fd);

	assert_non_null(with);
	assert_non_null(without);
	assert_non_null(strstr(json_string_value(json_object_get(without, "error")), "the command has 0 descriptors"));
	assert_null(strstr(json_string_value(json_object_get(with, "error")), "descriptors, it needs"));
	json_decref(with);
	json_decref(without);
	close(memory);
	close(fd);
	expect_nothing_left();
}

static void test_many_lines_in_one_write(void **state)
{
	static const char list[] = "{\"version\": 1, \"command\": \"list\"}\n";
	char lines[100 * sizeof(list)] = "";
	int fd = raw_connect();

	for (int i = 0; i < 100; i++)
		strcat(lines, list);
	send_text(fd, lines);
	shutdown(fd, SHUT_WR);		/* replies arrive all the same */
	for (int i = 0; i < 100; i++)
		expect_reply(fd, 0);
	assert_null(raw_receive(fd));
	close(fd);
	expect_nothing_left();
}

static void test_line_in_pieces(void **state)
{
	static const char list[] = "{\"version\": 1, \"command\": \"list\"}\n";
	int fd = raw_connect();

	for (const char *letter = list; *letter; letter++) {
		raw_send(fd, letter, 1);
		settle();
	}
	expect_reply(fd, 0);
	close(fd);
	expect_nothing_left();
}

/* A client that sends and never reads: tapdisk stops reading from it, and only from it. */
static void test_client_that_never_reads(void **state)
{
	static const char list[] = "{\"version\": 1, \"command\": \"list\"}\n";
	struct pollfd poll_fd = { .events = POLLOUT };
	size_t sent = 0;
	int fd = raw_connect();

	poll_fd.fd = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	/* until nothing has been taken for a while: both directions of the socket are full, and no more memory is used */
	while (poll(&poll_fd, 1, 500) == 1) {
		if (send(fd, list, sizeof(list) - 1, MSG_NOSIGNAL) > 0)
			sent++;
		assert_true(sent < 100000);
	}
	assert_true(sent > 1);
	settle();
	close(fd);
	expect_nothing_left();
}

/* A client disconnects whose command is waiting: the disk behaves as if it were still there. */
static void test_client_gone_while_pausing(void **state)
{
	char line[128];
	int fd = raw_connect();

	snprintf(line, sizeof(line), "{\"version\": 1, \"command\": \"pause\", \"minor\": %d}\n", f.minor);
	send_text(fd, line);
	close(fd);
	/* it was sent before the next command, so it has begun before that one is answered */
	settle();
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "pause", "minor", f.minor)));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "unpause", "minor", f.minor)));
	expect_nothing_left();
}

static void test_too_many_connections(void **state)
{
	int fds[MAX_CONNECTIONS];
	unsigned i;
	int fd;

	/* one of them is f.ctl; an answer shows that a connection was accepted */
	for (i = 0; i < MAX_CONNECTIONS - 1; i++) {
		fds[i] = raw_connect();
		send_text(fds[i], "{\"version\": 1, \"command\": \"list\"}\n");
		expect_reply(fds[i], 0);
	}
	fd = raw_connect();
	expect_reply(fd, EAGAIN);
	assert_null(raw_receive(fd));
	close(fd);
	for (i = 0; i < MAX_CONNECTIONS - 1; i++)
		close(fds[i]);
	expect_nothing_left();
}

/* Enlarge the image by a sector and announce it: one event. */
static void cause_event(uint64_t *sectors)
{
	json_t *reply;

	++*sectors;
	assert_int_equal(truncate(f.image, *sectors * 512), 0);
	reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "resize", "minor", f.minor));
	assert_int_equal(json_integer_value(json_object_get(reply, "sectors")), *sectors);
	json_decref(reply);
}

static uint64_t image_sectors(void)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s, s:i}", "command", "info", "minor", f.minor));
	uint64_t sectors = (uint64_t)json_integer_value(json_object_get(json_object_get(reply, "disk"), "sectors"));

	json_decref(reply);
	return sectors;
}

/* On a busy machine an image may not answer for seconds, which is an event as well. */
static json_t *next_event(int fd)
{
	json_t *event;
	const char *name;

	while ((event = raw_receive(fd))) {
		name = json_string_value(json_object_get(event, "event"));
		if (!name || (strcmp(name, "not-answering") && strcmp(name, "answering")))
			break;
		json_decref(event);
	}
	return event;
}

static void test_events(void **state)
{
	uint64_t sectors = image_sectors();
	int fd = raw_connect();
	json_t *event;

	send_text(fd, "{\"version\": 1, \"command\": \"watch\"}\n");
	expect_reply(fd, 0);
	for (int i = 0; i < 100; i++) {
		cause_event(&sectors);
		event = next_event(fd);
		assert_string_equal(json_string_value(json_object_get(event, "event")), "resized");
		assert_int_equal(json_integer_value(json_object_get(event, "minor")), f.minor);
		assert_int_equal(json_integer_value(json_object_get(event, "sectors")), sectors);
		assert_null(json_object_get(event, "ok"));
		json_decref(event);
	}
	close(fd);
	expect_nothing_left();
}

/* Events for a watcher that does not read accumulate only up to a limit: then it is disconnected. */
static void test_watcher_that_never_reads(void **state)
{
	uint64_t sectors = image_sectors();
	unsigned events = 0, received = 0;
	json_t *event;
	int fd = raw_connect();

	send_text(fd, "{\"version\": 1, \"command\": \"watch\"}\n");
	expect_reply(fd, 0);
	while (fixture_count_descriptors(&f) > descriptors) {
		for (int i = 0; i < 500; i++, events++)
			cause_event(&sectors);
		assert_true(events < 100000);
	}
	/* the events that fitted into the socket are still there, complete */
	for (; (event = raw_receive(fd)); received++)
		json_decref(event);
	assert_true(received > 0 && received < events);
	close(fd);
	expect_nothing_left();
}

/*
 * The modes of the socket and of its directory permit everybody. Only the end of the path, because a
 * directory above may be closed.
 */
static void connect_as_nobody(int report)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char line[200] = "";
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "ctl%d", f.pid);
	if (chdir(f.dir) || chmod(".", 0777) || chmod(address.sun_path, 0666) || setgid(65534) || setuid(65534))
		_exit(1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) || recv(fd, line, sizeof(line) - 1, MSG_WAITALL) <= 0)
		_exit(2);
	_exit(write(report, line, strlen(line)) != (ssize_t)strlen(line));
}

static void test_other_user(void **state)
{
	char line[200] = "", path[128];
	int fds[2], status;
	struct stat st;
	pid_t pid;

	snprintf(path, sizeof(path), CONTROL_SOCKET_FORMAT, f.dir, f.pid);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	if (geteuid())
		skip();
	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (!pid)
		connect_as_nobody(fds[1]);
	close(fds[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(chmod(f.dir, 0700), 0);
	assert_int_equal(status, 0);
	assert_true(read(fds[0], line, sizeof(line) - 1) > 0);
	assert_non_null(strstr(line, "only root and tapdisk's own user"));
	close(fds[0]);
	expect_nothing_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_other_user),
		cmocka_unit_test(test_lines_that_are_no_objects),
		cmocka_unit_test(test_deep_nesting),
		cmocka_unit_test(test_line_length),
		cmocka_unit_test(test_line_without_end),
		cmocka_unit_test(test_wrong_members),
		cmocka_unit_test(test_error_cut_in_a_character),
		cmocka_unit_test(test_wrong_connect),
		cmocka_unit_test(test_descriptor_flood),
		cmocka_unit_test(test_descriptor_trickle),
		cmocka_unit_test(test_unwanted_descriptors),
		cmocka_unit_test(test_descriptors_stay_with_their_line),
		cmocka_unit_test(test_many_lines_in_one_write),
		cmocka_unit_test(test_line_in_pieces),
		cmocka_unit_test(test_client_that_never_reads),
		cmocka_unit_test(test_client_gone_while_pausing),
		cmocka_unit_test(test_too_many_connections),
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_watcher_that_never_reads),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("control", tests, setup, teardown);
}
