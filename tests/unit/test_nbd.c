/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd.c - the NBD server as its clients meet it: honest ones, broken
 * ones and hostile ones, byte by byte.
 *
 * A child process runs the real server over a real disk (a temporary file,
 * or null) and takes one-letter commands on a socket pair, so that the test
 * can pause, reopen and end it. After each hostile client an honest one has
 * to be served: what one client does ends at most its own connection.
 *
 * TAPSNAP_SEED=N repeats a run of the random part; the seed is printed.
 * TAPSNAP_TEST_ENGINE=libaio runs everything on that engine.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "nbd_connection.h"
#include "protocol.h"

#define DISK_BYTES	(64u << 20)
#define TIMEOUT_MS	20000

static char run_dir[64], image[80], socket_path[108];
static pid_t child;
static int control = -1;

/* The server's side. */

struct server_process {
	struct loop *loop;
	struct engine *engine;
	struct vbd *vbd;
	int control;
};

static void process_reply(void *arg, int error)
{
	struct server_process *process = arg;
	char answer = error ? 'e' : 'k';

	if (write(process->control, &answer, 1) != 1)
		_exit(3);
}

static void process_quit(void *arg, int error)
{
	struct server_process *process = arg;

	process_reply(arg, error);
	loop_quit(process->loop);
}

static void process_command(void *arg, uint32_t events)
{
	struct server_process *process = arg;
	struct error_text text = { "" };
	char command;
	int error = 0;

	if (read(process->control, &command, 1) != 1)
		_exit(4);
	switch (command) {
	case 'p':
		error = vbd_pause(process->vbd, process_reply, process, &text);
		break;
	case 'u':
		process_reply(process, vbd_unpause(process->vbd, NULL, &text));
		break;
	case 'q':
		error = vbd_close(process->vbd, true, process_quit, process, &text);
		break;
	}
	if (error) {
		fprintf(stderr, "# command %c: %s\n", command, text.text);
		_exit(5);
	}
}

static void engine_ready(void *arg, uint32_t events)
{
	engine_reap(arg);
}

static bool engine_prepare(void *arg)
{
	struct engine *engine = arg;

	engine_commit(engine);
	return engine_fd(engine) < 0 && engine_reap(engine) > 0;
}

static int server_main(int control_fd, const char *target, bool read_only, unsigned sector_size)
{
	struct server_process process = { .control = control_fd };
	struct driver_options options = { .read_only = read_only, .sector_size = sector_size };
	struct loop_source *control_source, *engine_source, *commit_source;
	struct error_text text = { "" };

	if (loop_create(&process.loop) || engine_open(&process.engine, getenv("TAPSNAP_TEST_ENGINE"), 256) ||
	    vbd_create(&process.vbd, process.loop, process.engine, 7))
		return 1;
	if (loop_add_prepare(process.loop, &commit_source, engine_prepare, process.engine) ||
	    loop_add_fd(process.loop, &engine_source, engine_fd(process.engine), EPOLLIN, engine_ready, process.engine) ||
	    loop_add_fd(process.loop, &control_source, control_fd, EPOLLIN, process_command, &process))
		return 1;
	if (vbd_open(process.vbd, target, &options, &text)) {
		fprintf(stderr, "# open %s: %s\n", target, text.text);
		return 2;
	}
	process_reply(&process, 0);
	if (loop_run(process.loop))
		return 1;
	vbd_destroy(process.vbd);
	loop_remove(control_source);
	loop_remove(engine_source);
	loop_remove(commit_source);
	engine_close(process.engine);
	loop_destroy(process.loop);
	return 0;
}

/* The test's side. */

static char server_command(char command)
{
	struct pollfd ready = { .fd = control, .events = POLLIN };
	char answer = 0;

	if (command)
		assert_int_equal(write(control, &command, 1), 1);
	assert_int_equal(poll(&ready, 1, TIMEOUT_MS), 1);
	assert_int_equal(read(control, &answer, 1), 1);
	return answer;
}

/* A failed test must not leave a process that holds the image. */
static void kill_server(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
}

static void server_start(const char *target, bool read_only, unsigned sector_size)
{
	int pair[2];

	kill_server();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		exit(server_main(pair[1], target, read_only, sector_size));
	}
	close(pair[1]);
	control = pair[0];
	assert_int_equal(server_command(0), 'k');
	snprintf(socket_path, sizeof(socket_path), NBD_SOCKET_FORMAT, run_dir, (int)child, 7);
}

static void server_end(void)
{
	int status;

	assert_int_equal(server_command('q'), 'k');
	assert_int_equal(waitpid(child, &status, 0), child);
	child = 0;
	close(control);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(access(socket_path, F_OK), -1);
}

static int start_file(void **state)
{
	char target[100];
	int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	snprintf(target, sizeof(target), "aio:%s", image);
	server_start(target, false, 0);
	return 0;
}

static int start_null(void **state)
{
	server_start("null:67108864", false, 0);
	return 0;
}

static int start_read_only(void **state)
{
	server_start("null:67108864", true, 0);
	return 0;
}

static int start_4096(void **state)
{
	server_start("null:67108864", false, 4096);
	return 0;
}

static int end(void **state)
{
	server_end();
	return 0;
}

/* A raw connection. */

static int client_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = TIMEOUT_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, socket_path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), 0);
	return fd;
}

static void client_send(int fd, const void *data, size_t length)
{
	const char *bytes = data;

	while (length > 0) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		assert_true(sent > 0);
		bytes += sent;
		length -= sent;
	}
}

static void client_receive(int fd, void *data, size_t length)
{
	char *bytes = data;

	while (length > 0) {
		ssize_t got = recv(fd, bytes, length, 0);

		assert_true(got > 0);
		bytes += got;
		length -= got;
	}
}

/* The server hangs up, after whatever else it sends. */
static void client_expect_end(int fd)
{
	char rest[4096];
	ssize_t got;

	do
		got = recv(fd, rest, sizeof(rest), 0);
	while (got > 0);
	assert_true(got == 0 || errno == ECONNRESET);
	close(fd);
}

static int client_greet(uint32_t flags)
{
	struct nbd_greeting greeting;
	int fd = client_connect();

	client_receive(fd, &greeting, sizeof(greeting));
	assert_true(be64toh(greeting.init_magic) == NBD_INIT_MAGIC);
	assert_true(be64toh(greeting.option_magic) == NBD_OPTION_MAGIC);
	assert_int_equal(be16toh(greeting.flags), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	flags = htobe32(flags);
	client_send(fd, &flags, sizeof(flags));
	return fd;
}

static void client_option(int fd, uint32_t option, const void *data, uint32_t length)
{
	struct nbd_option header = { htobe64(NBD_OPTION_MAGIC), htobe32(option), htobe32(length) };

	client_send(fd, &header, sizeof(header));
	client_send(fd, data, length);
}

/* Returns the reply's type; its data go to @data, their length to @length. */
static uint32_t client_option_reply(int fd, uint32_t option, uint8_t data[512], uint32_t *length)
{
	struct nbd_option_reply reply;

	client_receive(fd, &reply, sizeof(reply));
	assert_true(be64toh(reply.magic) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(be32toh(reply.option), option);
	*length = be32toh(reply.length);
	assert_true(*length <= 512);
	client_receive(fd, data, *length);
	return be32toh(reply.type);
}

static const uint8_t no_name[6];	/* name length 0, no information requests */

/* INFO or GO for the default export; returns the transmission flags. */
static uint16_t client_info(int fd, uint32_t option, struct nbd_info_block_size *sizes)
{
	struct nbd_info_export export;
	uint8_t data[512];
	uint32_t length;

	client_option(fd, option, no_name, sizeof(no_name));
	assert_int_equal(client_option_reply(fd, option, data, &length), NBD_REP_INFO);
	assert_int_equal(length, sizeof(export));
	memcpy(&export, data, sizeof(export));
	assert_int_equal(be16toh(export.type), NBD_INFO_EXPORT);
	assert_true(be64toh(export.size) == DISK_BYTES);
	assert_int_equal(client_option_reply(fd, option, data, &length), NBD_REP_INFO);
	assert_int_equal(length, sizeof(*sizes));
	memcpy(sizes, data, sizeof(*sizes));
	assert_int_equal(be16toh(sizes->type), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(client_option_reply(fd, option, data, &length), NBD_REP_ACK);
	return be16toh(export.flags);
}

static int client_go(void)
{
	struct nbd_info_block_size sizes;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);

	client_info(fd, NBD_OPT_GO, &sizes);
	return fd;
}

static struct nbd_wire_request wire(uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length)
{
	return (struct nbd_wire_request){
		htobe32(NBD_REQUEST_MAGIC), htobe16(flags), htobe16(type), cookie, htobe64(offset), htobe32(length)
	};
}

static void client_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length)
{
	struct nbd_wire_request request = wire(type, flags, cookie, offset, length);

	client_send(fd, &request, sizeof(request));
}

static uint32_t client_reply(int fd, uint64_t *cookie)
{
	struct nbd_wire_reply reply;

	client_receive(fd, &reply, sizeof(reply));
	assert_int_equal(be32toh(reply.magic), NBD_REPLY_MAGIC);
	*cookie = reply.cookie;
	return be32toh(reply.error);
}

/* One request and its reply; the error. @data is what is written or where to read to. */
static uint32_t client_command(int fd, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length, void *data)
{
	static uint64_t last_cookie;
	uint64_t cookie, sent = ++last_cookie * 0x0123456789abcdefULL;
	uint32_t error;

	client_request(fd, type, flags, sent, offset, length);
	if (type == NBD_CMD_WRITE)
		client_send(fd, data, length);
	error = client_reply(fd, &cookie);
	assert_true(cookie == sent);
	if (type == NBD_CMD_READ && !error)
		client_receive(fd, data, length);
	return error;
}

static void client_leave(int fd)
{
	client_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	client_expect_end(fd);
}

/* An honest client is served. */
static void expect_service(void)
{
	uint8_t data[4096];
	int fd = client_go();

	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, DISK_BYTES - sizeof(data), sizeof(data), data), 0);
	client_leave(fd);
}

/* Negotiation. */

static void test_go_tells_the_disk(void **state)
{
	struct nbd_info_block_size sizes;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	uint16_t flags = client_info(fd, NBD_OPT_INFO, &sizes);

	assert_int_equal(flags & ~NBD_FLAG_SEND_TRIM, NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA |
						      NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_CAN_MULTI_CONN);
	assert_int_equal(be32toh(sizes.minimum), 512);
	assert_int_equal(be32toh(sizes.preferred), 4096);
	assert_int_equal(be32toh(sizes.maximum), 32 << 20);
	assert_int_equal(client_info(fd, NBD_OPT_GO, &sizes), flags);
	client_leave(fd);
}

static void test_export_name(void **state)
{
	for (int zeroes = 0; zeroes < 2; zeroes++) {
		size_t length = zeroes ? sizeof(struct nbd_export_reply) : 10;
		int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE | (zeroes ? 0 : NBD_FLAG_NO_ZEROES));
		struct nbd_export_reply reply;
		uint8_t data[512];

		client_option(fd, NBD_OPT_EXPORT_NAME, "", 0);
		client_receive(fd, &reply, length);
		assert_true(be64toh(reply.size) == DISK_BYTES);
		assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, sizeof(data), data), 0);
		client_leave(fd);
	}
}

static void test_other_exports_refused(void **state)
{
	const uint8_t named[] = { 0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 1, 0, 3 };
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_option(fd, NBD_OPT_GO, named, sizeof(named));
	assert_int_equal(client_option_reply(fd, NBD_OPT_GO, data, &length), NBD_REP_ERR_UNKNOWN);
	assert_true(length > 0);
	client_option(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
	client_expect_end(fd);
}

static void test_other_options(void **state)
{
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_option(fd, NBD_OPT_LIST, "", 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_SERVER);
	assert_int_equal(length, 4);
	assert_memory_equal(data, "\0\0\0\0", 4);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ACK);
	client_option(fd, NBD_OPT_LIST, "x", 1);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ERR_INVALID);
	client_option(fd, 8, "", 0);	/* structured replies */
	assert_int_equal(client_option_reply(fd, 8, data, &length), NBD_REP_ERR_UNSUP);
	client_option(fd, 0xffffffff, "data that are skipped", 21);
	assert_int_equal(client_option_reply(fd, 0xffffffff, data, &length), NBD_REP_ERR_UNSUP);
	client_option(fd, NBD_OPT_ABORT, "", 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_ABORT, data, &length), NBD_REP_ACK);
	client_expect_end(fd);
}

static void test_byte_by_byte(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 99, 512, 512);
	uint8_t session[4 + 16 + 6 + sizeof(request) + 512] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
								0, 0, 0, NBD_OPT_GO, 0, 0, 0, 6 };
	uint8_t replies[18 + 20 + 12 + 20 + 14 + 20], data[512];
	uint64_t cookie;
	int fd = client_connect();

	memcpy(session + 26, &request, sizeof(request));
	memset(session + 26 + sizeof(request), 0x5a, 512);
	for (size_t i = 0; i < sizeof(session); i++)
		client_send(fd, session + i, 1);
	client_receive(fd, replies, sizeof(replies));
	assert_int_equal(client_reply(fd, &cookie), 0);
	assert_true(cookie == 99);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 512, 512, data), 0);
	assert_memory_equal(data, session + sizeof(session) - 512, 512);
	client_leave(fd);
}

/* Hostile negotiation: @bytes after the greeting have to end the connection. */
static void expect_hang_up(const void *bytes, size_t length)
{
	struct nbd_greeting greeting;
	int fd = client_connect();

	client_receive(fd, &greeting, sizeof(greeting));
	client_send(fd, bytes, length);
	client_expect_end(fd);
	expect_service();
}

static void test_hostile_negotiation(void **state)
{
	const uint8_t bad_flags[] = { 0x80, 0, 0, 3 };
	const uint8_t bad_magic[] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'X', 0, 0, 0, 3, 0, 0, 0, 0 };
	const uint8_t too_long[] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 6, 0xff, 0xff, 0xff, 0xff };
	const uint8_t just_too_long[] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 6, 0, 0, 0x20, 1 };

	expect_hang_up(bad_flags, sizeof(bad_flags));
	expect_hang_up(bad_magic, sizeof(bad_magic));
	expect_hang_up(too_long, sizeof(too_long));
	expect_hang_up(just_too_long, sizeof(just_too_long));
}

static void test_malformed_information_requests(void **state)
{
	static const struct { uint8_t bytes[12]; uint32_t length; } cases[] = {
		{ { 0 }, 0 },
		{ { 0, 0, 0, 0, 0 }, 5 },
		{ { 0xff, 0xff, 0xff, 0xff, 0, 0 }, 6 },		/* name length */
		{ { 0xff, 0xff, 0xff, 0xfa, 0, 0 }, 6 },		/* ... that would wrap around */
		{ { 0, 0, 0, 1, 0, 0 }, 6 },
		{ { 0, 0, 0, 0, 0xff, 0xff }, 6 },			/* number of requests */
		{ { 0, 0, 0, 0, 0, 1, 0 }, 7 },
		{ { 0, 0, 0, 0, 0, 0, 0, 0 }, 8 },
	};
	struct nbd_info_block_size sizes;
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		client_option(fd, NBD_OPT_GO, cases[i].bytes, cases[i].length);
		assert_int_equal(client_option_reply(fd, NBD_OPT_GO, data, &length), NBD_REP_ERR_INVALID);
	}
	client_info(fd, NBD_OPT_GO, &sizes);
	client_leave(fd);
}

static void test_endless_options(void **state)
{
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	for (unsigned i = 0; i < NBD_MAX_OPTIONS; i++) {
		client_option(fd, 77, "", 0);
		client_option_reply(fd, 77, data, &length);
	}
	client_option(fd, 77, "", 0);
	client_expect_end(fd);
	expect_service();
}

/* Every prefix of a good session, cut off. */
static void test_truncated_sessions(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_WRITE, 0, 1, 0, 4096);
	uint8_t session[4 + 16 + 6 + sizeof(request) + 64] = { 0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T',
							       0, 0, 0, NBD_OPT_GO, 0, 0, 0, 6 };

	memcpy(session + 26, &request, sizeof(request));
	for (size_t length = 0; length <= sizeof(session); length++) {
		int fd = client_connect();

		client_send(fd, session, length);
		close(fd);
	}
	expect_service();
}

/* Transmission. */

static void test_contents(void **state)
{
	size_t size = 3 << 20;
	uint8_t *out = malloc(size), *in = malloc(size);
	int fd = client_go();

	for (size_t i = 0; i < size; i++)
		out[i] = i * 2654435761u >> 24;
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, size, out), 0);
	assert_int_equal(client_command(fd, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_READ, NBD_CMD_FLAG_FUA, 512, size, in), 0);
	assert_memory_equal(in, out, size);

	/* zeroes that may and zeroes that must not be holes; the latter in more than one piece */
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, 0, 4096, 8192, NULL), 0);
	memset(out + 4096 - 512, 0, 8192);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA,
					65536, (2 << 20) + 512, NULL), 0);
	memset(out + 65536 - 512, 0, (2 << 20) + 512);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 512, size, in), 0);
	assert_memory_equal(in, out, size);
	client_leave(fd);
	free(out);
	free(in);
}

static void test_no_hole_allocates(void **state)
{
	struct stat status;
	int fd = client_go();

	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FUA,
					32 << 20, 8 << 20, NULL), 0);
	assert_int_equal(stat(image, &status), 0);
	assert_true(status.st_blocks >= (8 << 20) / 512);
	client_leave(fd);
}

static void test_largest_request(void **state)
{
	uint8_t *data = malloc(NBD_MAX_PAYLOAD);
	int fd = client_go();

	memset(data, 0x77, NBD_MAX_PAYLOAD);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, NBD_MAX_PAYLOAD, NBD_MAX_PAYLOAD, data), 0);
	memset(data, 0, NBD_MAX_PAYLOAD);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, NBD_MAX_PAYLOAD, NBD_MAX_PAYLOAD, data), 0);
	assert_int_equal(data[0], 0x77);
	assert_int_equal(data[NBD_MAX_PAYLOAD - 1], 0x77);
	client_leave(fd);
	free(data);
}

/* Refused, and the connection goes on: a refused write's data have been skipped. */
static void test_refused_requests(void **state)
{
	static const struct { uint16_t type, flags; uint64_t offset; uint32_t length, error; } cases[] = {
		{ NBD_CMD_READ, 0, 1, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 511, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_READ, 0, DISK_BYTES, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, DISK_BYTES - 512, 1024, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0xfffffffffffffe00, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0xfffffffffffffe00, 1024, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, NBD_MAX_PAYLOAD + 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, 0xffffffff, NBD_EINVAL },
		{ NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0x8000, 0, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 1, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 512, 4095, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, DISK_BYTES, 65536, NBD_ENOSPC },
		{ NBD_CMD_WRITE, 0, 0xfffffffffffffe00, 1024, NBD_ENOSPC },
		{ NBD_CMD_WRITE, 4, 0, 512, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 512, 0, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 0, 512, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, 0, 0, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, 0, 0xfffffe00, NBD_EINVAL },
		{ NBD_CMD_WRITE_ZEROES, 0, 0, 0xfffffe00, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, 0, 0xfffffffffffffe00, 512, NBD_ENOSPC },
		{ NBD_CMD_WRITE_ZEROES, 16, 0, 512, NBD_EINVAL },	/* fast zero was not offered */
		{ 5, 0, 0, 512, NBD_EINVAL },
		{ 7, 0, 0, 512, NBD_EINVAL },
		{ 0xffff, 0, 0, 0, NBD_EINVAL },
	};
	static uint8_t data[65536];
	int fd = client_go();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t error = client_command(fd, cases[i].type, cases[i].flags, cases[i].offset, cases[i].length, data);

		if (error != cases[i].error)
			fail_msg("case %zu: error %u, expected %u", i, error, cases[i].error);
	}
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, 512, data), 0);
	client_leave(fd);
}

static void test_hostile_requests(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_READ, 0, 1, 0, 512);
	int fd = client_go();

	request.magic ^= 1;
	client_send(fd, &request, sizeof(request));
	client_expect_end(fd);
	expect_service();

	fd = client_go();
	client_request(fd, NBD_CMD_WRITE, 0, 1, 0, NBD_MAX_PAYLOAD + 1);
	client_expect_end(fd);
	expect_service();

	fd = client_go();
	client_request(fd, NBD_CMD_WRITE, 0, 1, 0, 0xffffffff);
	client_expect_end(fd);
	expect_service();
}

static void test_read_only(void **state)
{
	struct nbd_info_block_size sizes;
	uint8_t data[4096] = { 0 };
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);
	uint16_t flags = client_info(fd, NBD_OPT_GO, &sizes);

	assert_true(flags & NBD_FLAG_READ_ONLY);
	assert_false(flags & (NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_TRIM));
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, 0, sizeof(data), data), NBD_EPERM);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE_ZEROES, 0, 0, 4096, NULL), NBD_EPERM);
	assert_int_equal(client_command(fd, NBD_CMD_TRIM, 0, 0, 4096, NULL), NBD_EPERM);
	assert_int_equal(client_command(fd, NBD_CMD_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, sizeof(data), data), 0);
	client_leave(fd);
}

static void test_4096_byte_sectors(void **state)
{
	struct nbd_info_block_size sizes;
	uint8_t data[4096] = { 0 };
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_info(fd, NBD_OPT_GO, &sizes);
	assert_int_equal(be32toh(sizes.minimum), 4096);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 512, 4096, data), NBD_EINVAL);
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 4096, 512, data), NBD_EINVAL);
	assert_int_equal(client_command(fd, NBD_CMD_WRITE, 0, 4096, 4096, data), 0);
	client_leave(fd);
}

/* A client that asks for ever and reads nothing stops itself, and nobody else. */
static void test_slow_reader(void **state)
{
	struct nbd_wire_request request = wire(NBD_CMD_READ, 0, 5, 0, 1 << 20);
	uint8_t *data = malloc(1 << 20);
	unsigned asked = 0;
	uint64_t cookie;
	int fd = client_go();

	for (;;) {
		struct pollfd ready = { .fd = fd, .events = POLLOUT };

		if (poll(&ready, 1, 1000) == 0)
			break;	/* the server has stopped reading, and the socket is full */
		client_send(fd, &request, sizeof(request));
		asked++;
		assert_true(asked < 1000000);
	}
	expect_service();
	assert_true(asked > NBD_MAX_BYTES >> 20);
	for (unsigned i = 0; i < asked; i++) {
		assert_int_equal(client_reply(fd, &cookie), 0);
		client_receive(fd, data, 1 << 20);
	}
	client_leave(fd);

	/* and one that never reads and goes */
	fd = client_go();
	for (unsigned i = 0; i < 64; i++)
		client_send(fd, &request, sizeof(request));
	close(fd);
	expect_service();
	free(data);
}

static void test_many_small_requests(void **state)
{
	const unsigned count = 3 * NBD_MAX_REQUESTS;
	uint8_t data[512], seen[3 * NBD_MAX_REQUESTS] = { 0 };
	uint64_t cookie;
	int fd = client_go();

	for (unsigned i = 0; i < count; i++)
		client_request(fd, NBD_CMD_READ, 0, i, i * 512, 512);
	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(client_reply(fd, &cookie), 0);
		client_receive(fd, data, sizeof(data));
		assert_true(cookie < count);
		assert_int_equal(seen[cookie]++, 0);
	}
	client_leave(fd);
}

static void test_pause(void **state)
{
	struct pollfd ready = { .events = POLLIN };
	uint8_t data[4096];
	uint64_t cookie;
	int fd = client_go(), other;

	assert_int_equal(server_command('p'), 'k');
	memset(data, 0x11, sizeof(data));
	client_request(fd, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 1, 8192, sizeof(data));
	client_send(fd, data, sizeof(data));

	/* a client may still connect, leave or vanish with requests that wait */
	other = client_go();
	client_request(other, NBD_CMD_READ, 0, 2, 0, 4096);
	close(other);
	ready.fd = fd;
	assert_int_equal(poll(&ready, 1, 100), 0);

	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(client_reply(fd, &cookie), 0);
	assert_int_equal(cookie, 1);
	memset(data, 0, sizeof(data));
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 8192, sizeof(data), data), 0);
	assert_int_equal(data[4095], 0x11);
	client_leave(fd);
}

/* What was asked for before a DISC is done, even if nobody stays for the answer. */
static void test_disconnect_with_requests(void **state)
{
	uint8_t data[4096];
	int fd = client_go();

	assert_int_equal(server_command('p'), 'k');
	memset(data, 0x22, sizeof(data));
	client_request(fd, NBD_CMD_WRITE, 0, 1, 16384, sizeof(data));
	client_send(fd, data, sizeof(data));
	client_request(fd, NBD_CMD_DISC, 0, 2, 0, 0);
	/* a greeting on a second connection, taken after the first one's bytes were there, shows that they were read */
	close(client_greet(NBD_FLAG_FIXED_NEWSTYLE));
	close(fd);
	assert_int_equal(server_command('u'), 'k');
	/* another pause waits for what the end of this one has begun */
	assert_int_equal(server_command('p'), 'k');
	assert_int_equal(server_command('u'), 'k');
	fd = client_go();
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 16384, sizeof(data), data), 0);
	assert_int_equal(data[0], 0x22);
	client_leave(fd);
}

/* Gone in the middle: requests in flight, and a write whose data never come. */
static void test_vanishing_clients(void **state)
{
	uint8_t data[65536] = { 0 };

	for (unsigned round = 0; round < 50; round++) {
		int fd = client_go();

		for (unsigned i = 0; i < 20; i++) {
			client_request(fd, NBD_CMD_WRITE, i & 1 ? NBD_CMD_FLAG_FUA : 0, i, i << 16, sizeof(data));
			client_send(fd, data, sizeof(data));
			client_request(fd, NBD_CMD_READ, 0, i, i << 16, sizeof(data));
		}
		client_request(fd, NBD_CMD_WRITE, 0, 1, 0, NBD_MAX_PAYLOAD);
		client_send(fd, data, round * 1000);
		close(fd);
	}
	expect_service();
}

static void test_too_many_connections(void **state)
{
	int fds[NBD_MAX_CONNECTIONS];
	uint8_t data[512];

	for (unsigned i = 0; i < NBD_MAX_CONNECTIONS; i++)
		fds[i] = client_go();
	client_expect_end(client_connect());
	assert_int_equal(client_command(fds[0], NBD_CMD_READ, 0, 0, sizeof(data), data), 0);
	client_leave(fds[3]);
	fds[3] = client_go();
	for (unsigned i = 0; i < NBD_MAX_CONNECTIONS; i++)
		client_leave(fds[i]);
}

static void test_connected_at_the_end(void **state)
{
	int fd;

	start_file(NULL);
	fd = client_go();
	client_request(fd, NBD_CMD_READ, 0, 1, 0, 8 << 20);
	server_end();
	client_expect_end(fd);
}

/* Random bytes, random cuts, from each stage of a session. */
static void test_random_bytes(void **state)
{
	const char *given = getenv("TAPSNAP_SEED");
	unsigned seed = given ? strtoul(given, NULL, 0) : (unsigned)time(NULL);
	uint8_t junk[600];

	print_message("# TAPSNAP_SEED=%u\n", seed);
	srandom(seed);
	for (unsigned round = 0; round < 400; round++) {
		struct nbd_wire_request request = wire(random() % 9, random() % 4, random(), random() % 9 * 512,
						       random() % 9 * 512);
		int fd = round % 4 == 0 ? client_connect() :
			 round % 4 == 1 ? client_greet(NBD_FLAG_FIXED_NEWSTYLE) : client_go();
		size_t length = random() % sizeof(junk);

		for (size_t i = 0; i < length; i++)
			junk[i] = random();
		if (round % 4 == 1)
			send(fd, "IHAVEOPT\0\0\0\7\0\0\0\20", 16, MSG_NOSIGNAL);
		if (round % 4 == 3)
			send(fd, &request, sizeof(request), MSG_NOSIGNAL);
		send(fd, junk, length, MSG_NOSIGNAL);
		close(fd);
	}
	expect_service();
}

static void remove_files(void)
{
	kill_server();
	unlink(image);
	rmdir(run_dir);
}

#define ON_FILE(test) cmocka_unit_test_setup_teardown(test, start_file, end)
#define ON_NULL(test) cmocka_unit_test_setup_teardown(test, start_null, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_NULL(test_go_tells_the_disk),
		ON_NULL(test_export_name),
		ON_NULL(test_other_exports_refused),
		ON_NULL(test_other_options),
		ON_FILE(test_byte_by_byte),
		ON_NULL(test_hostile_negotiation),
		ON_NULL(test_malformed_information_requests),
		ON_NULL(test_endless_options),
		ON_FILE(test_truncated_sessions),
		ON_FILE(test_contents),
		ON_FILE(test_no_hole_allocates),
		ON_FILE(test_largest_request),
		ON_FILE(test_refused_requests),
		ON_FILE(test_hostile_requests),
		cmocka_unit_test_setup_teardown(test_read_only, start_read_only, end),
		cmocka_unit_test_setup_teardown(test_4096_byte_sectors, start_4096, end),
		ON_NULL(test_slow_reader),
		ON_FILE(test_slow_reader),
		ON_FILE(test_many_small_requests),
		ON_FILE(test_pause),
		ON_FILE(test_disconnect_with_requests),
		ON_FILE(test_vanishing_clients),
		ON_NULL(test_too_many_connections),
		cmocka_unit_test(test_connected_at_the_end),
		ON_FILE(test_random_bytes),
	};

	strcpy(run_dir, "/var/tmp/tapsnap-nbd-XXXXXX");
	if (!mkdtemp(run_dir) || setenv(RUN_DIR_ENV, run_dir, 1))
		return 1;
	snprintf(image, sizeof(image), "%s/image", run_dir);
	if (cmocka_run_group_tests(tests, NULL, NULL) != 0) {
		remove_files();
		return 1;
	}
	remove_files();
	return 0;
}
