/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tls_session.c - the session between a TLS client and an NBD server. It
 * runs in a process of its own that has dropped its rights, as in tapdisk-tls;
 * the test is both ends. Clients that do not read or have no key, and a server
 * that has hung up on them.
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
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "sandbox.h"
#include "tls.h"

#define STALL_MS 500
#define CPU_MS 150		/* the limit for the session; one that loops takes at least STALL_MS */
#define TIMEOUT_MS 10000
#define KEYS ":+ECDHE-PSK:+DHE-PSK:+PSK"
#define TLS_1_2 "NORMAL:-VERS-ALL:+VERS-TLS1.2" KEYS
#define TLS_1_3 "NORMAL:-VERS-ALL:+VERS-TLS1.3" KEYS

/* The session's clock, in memory that it shares with the test. Unless @standing it is the machine's. */
struct session_clock {
	bool standing;
	atomic_uint ms;
};

static struct session_clock *session_clock;
static bool in_session;

int __real_clock_gettime(clockid_t id, struct timespec *now);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	unsigned ms;

	if (!in_session || !session_clock->standing)
		return __real_clock_gettime(id, now);
	ms = atomic_load(&session_clock->ms);
	*now = (struct timespec){ ms / 1000, ms % 1000 * 1000000L };
	return 0;
}

static struct sock_fprog filter;
static pid_t session;
static int client, connector, server, reports;
static gnutls_session_t tls;
static gnutls_psk_client_credentials_t client_credentials;

#define RIGHT_KEY "07070707070707070707070707070707"
#define WRONG_KEY "07070707070707070707070707070708"

static int give_key(gnutls_session_t one, const char *user, gnutls_datum_t *key)
{
	key->data = gnutls_malloc(16);
	key->size = 16;
	memset(key->data, 7, 16);
	return 0;
}

static void __attribute__((noreturn)) run_session(int to_client, int to_connector, int to_log)
{
	struct tls_credentials credentials = { .verify = false };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	in_session = true;
	tls_stall_ms = STALL_MS;
	if (gnutls_psk_allocate_server_credentials(&credentials.psk) || gnutls_priority_init(&credentials.priority, "NORMAL" KEYS, NULL))
		_exit(3);
	gnutls_psk_set_server_credentials_function(credentials.psk, give_key);
	tls_process_run(&credentials, &filter, to_client, to_connector, to_log);
}

static void give(int fd, const void *data, size_t length)
{
	assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), length);
}

static void take(int fd, void *data, size_t length)
{
	assert_int_equal(recv(fd, data, length, MSG_WAITALL), length);
}

/* The result of gnutls_handshake(). */
static int begin_tls(const char *priority, const char *hex)
{
	static const char flags_and_starttls[] = "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0";
	const gnutls_datum_t key = { (unsigned char *)hex, 32 };
	char greeting[18], reply[20];

	take(client, greeting, sizeof(greeting));
	give(client, flags_and_starttls, sizeof(flags_and_starttls));
	take(client, reply, sizeof(reply));
	assert_int_equal(gnutls_init(&tls, GNUTLS_CLIENT), 0);
	assert_int_equal(gnutls_psk_allocate_client_credentials(&client_credentials), 0);
	assert_int_equal(gnutls_psk_set_client_credentials(client_credentials, "alice", &key, GNUTLS_PSK_KEY_HEX), 0);
	assert_int_equal(gnutls_credentials_set(tls, GNUTLS_CRD_PSK, client_credentials), 0);
	assert_int_equal(gnutls_priority_set_direct(tls, priority, NULL), 0);
	gnutls_transport_set_int(tls, client);
	return gnutls_handshake(tls);
}

/* The session asks for the server, and gets it. */
static void connect_server(void)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} descriptor = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	char byte, greeting[18] = "", flags[4];
	struct iovec iov = { &byte, 1 };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &descriptor,
				  .msg_controllen = sizeof(descriptor.space) };
	int pair[2];

	take(connector, &byte, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	memcpy(CMSG_DATA(&descriptor.header), &pair[1], sizeof(int));
	assert_int_equal(sendmsg(connector, &message, 0), 1);
	close(pair[1]);
	server = pair[0];
	give(server, greeting, sizeof(greeting));
	take(server, flags, sizeof(flags));
}

static int start_process(void **state)
{
	int clients[2], connectors[2], log[2];

	tls = NULL;
	client_credentials = NULL;
	server = -1;
	assert_int_equal(pipe2(log, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, clients), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connectors), 0);
	fflush(NULL);
	session = fork();
	assert_true(session >= 0);
	if (!session) {
		close(clients[0]);
		close(connectors[0]);
		close(log[0]);
		run_session(clients[1], connectors[1], log[1]);
	}
	close(clients[1]);
	close(connectors[1]);
	close(log[1]);
	client = clients[0];
	connector = connectors[0];
	reports = log[0];
	return 0;
}

static int start_version(void **state, const char *priority)
{
	start_process(state);
	assert_int_equal(begin_tls(priority, RIGHT_KEY), 0);
	connect_server();
	return 0;
}

static int start(void **state)
{
	return start_version(state, TLS_1_2);
}

static int start_1_3(void **state)
{
	return start_version(state, TLS_1_3);
}

/* No time passes but what the test lets pass, however late the machine runs either of them. */
static int start_standing(void **state)
{
	session_clock->standing = true;
	return start(state);
}

static int end(void **state)
{
	session_clock->standing = false;
	if (session > 0) {
		kill(session, SIGKILL);
		waitpid(session, NULL, 0);
	}
	if (tls)
		gnutls_deinit(tls);
	if (client_credentials)
		gnutls_psk_free_client_credentials(client_credentials);
	close(client);
	close(connector);
	close(reports);
	if (server >= 0)
		close(server);
	return 0;
}

static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

static bool session_is_over(struct rusage *usage)
{
	int status;

	if (wait4(session, &status, WNOHANG, usage) != session)
		return false;
	session = 0;
	return true;
}

static void wait_for_end(struct rusage *usage)
{
	int64_t begin = clock_ms();

	while (!session_is_over(usage)) {
		if (clock_ms() - begin > TIMEOUT_MS)
			fail_msg("the session does not end");
		sleep_ms(5);
	}
}

/* At its own speed, and asleep until then. */
static void expect_end(void)
{
	struct rusage usage;
	long cpu;

	wait_for_end(&usage);
	cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
	if (cpu > CPU_MS)
		fail_msg("the session has taken %ld ms of a processor", cpu);
}

/* 'S': it sleeps. */
static char session_state(void)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", session);
	file = fopen(path, "re");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d (%*[^)]) %c", &state), 1);
	fclose(file);
	return state;
}

/*
 * Sends as much as fits on the way. Returns how much. It is full when the session sleeps though more
 * data wait for it; or when the session is over.
 */
static size_t fill(void)
{
	static char data[65536];
	struct pollfd ready = { .fd = server, .events = POLLOUT };
	size_t sent = 0;
	ssize_t some;
	bool asleep;

	do {
		asleep = session_state() == 'S';
		some = send(server, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
		sent += some > 0 ? some : 0;
		if (some < 0 && errno == EAGAIN && !asleep)
			poll(&ready, 1, 1);
	} while (some >= 0 || (errno == EAGAIN && !asleep));
	return sent;
}

static void hang_up(void)
{
	close(server);
	server = -1;
}

static const char any_text[] = "";	/* of GnuTLS */

/* It reported that, once, and nothing else. */
static void expect_report(const char *text)
{
	char line[256] = "";
	struct rusage usage;

	wait_for_end(&usage);
	assert_true(read(reports, line, sizeof(line) - 1) > 0);
	if (!strstr(line, text) || strchr(line, '\n') != line + strlen(line) - 1)
		fail_msg("it said: %s", line);
}

static void expect_no_report(void)
{
	struct rusage usage;
	char byte;

	wait_for_end(&usage);
	assert_int_equal(read(reports, &byte, 1), 0);
}

/* ---- the rights that it keeps ---- */

/* Does the line of @file that begins with @key continue with @value? */
static void expect_line(const char *file, const char *key, const char *value)
{
	char path[64], line[256] = "";
	size_t length = strlen(key);
	FILE *opened;

	snprintf(path, sizeof(path), "/proc/%d/%s", session, file);
	opened = fopen(path, "re");
	assert_non_null(opened);
	while (strncmp(line, key, length) && fgets(line, sizeof(line), opened))
		;
	fclose(opened);
	if (strncmp(line, key, length) || strncmp(line + length + strspn(line + length, "\t "), value, strlen(value)))
		fail_msg("%s: %s, not %s", path, line, value);
}

/* Descriptors 0 to 2, the client, the connector, the log, the server; the test runner may have left more. */
static void test_has_little(void **state)
{
	expect_line("status", "Seccomp:", "2");
	expect_line("status", "NoNewPrivs:", "1");
	expect_line("status", "CapPrm:", "0000000000000000");
	if (!geteuid()) {
		expect_line("status", "CapBnd:", "0000000000000000");
		expect_line("status", "Uid:", "65534\t65534\t65534\t65534");
		expect_line("status", "Gid:", "65534\t65534\t65534\t65534");
		expect_line("status", "Groups:", "\n");
	}
	expect_line("limits", "Max core file size", "0 ");
	expect_line("limits", "Max processes", "0 ");
	expect_line("limits", "Max file size", "0 ");
	expect_line("limits", "Max open files", "32 ");
}

/* ---- a session ---- */

/* One record of data; records that GnuTLS handles itself may come before it. */
static void take_record(void *data, ssize_t length)
{
	ssize_t got;

	do
		got = gnutls_record_recv(tls, data, length);
	while (got == GNUTLS_E_AGAIN);
	assert_int_equal(got, length);
}

static void say_both_ways(void)
{
	char data[16];

	assert_int_equal(gnutls_record_send(tls, "question", 8), 8);
	take(server, data, 8);
	assert_memory_equal(data, "question", 8);
	give(server, "answer", 6);
	take_record(data, 6);
	assert_memory_equal(data, "answer", 6);
}

static void test_both_ways(void **state)
{
	char data[16];

	say_both_ways();
	hang_up();
	assert_int_equal(gnutls_record_recv(tls, data, sizeof(data)), 0);
	expect_end();
}

static void test_client_ends(void **state)
{
	char byte;

	say_both_ways();
	assert_int_equal(gnutls_bye(tls, GNUTLS_SHUT_WR), 0);
	assert_int_equal(recv(server, &byte, 1, 0), 0);
	hang_up();
	assert_int_equal(gnutls_record_recv(tls, &byte, 1), 0);
	expect_no_report();
}

/* In the middle of a session each side asks the other one for new keys, too. */
static void test_new_keys(void **state)
{
	for (int i = 0; i < 3; i++) {
		say_both_ways();
		assert_int_equal(gnutls_session_key_update(tls, GNUTLS_KU_PEER), 0);
	}
	say_both_ways();
	hang_up();
	expect_no_report();
}

/* Enough that the random numbers are seeded again and memory is given back. */
static void test_much(void **state)
{
	static char data[65536], back[65536];
	ssize_t some;

	for (unsigned i = 0; i < 256; i++) {
		memset(data, (int)i, sizeof(data));
		for (size_t sent = 0; sent < sizeof(data); sent += some)
			assert_true((some = gnutls_record_send(tls, data + sent, sizeof(data) - sent)) > 0);
		take(server, back, sizeof(back));
		assert_memory_equal(data, back, sizeof(data));
		give(server, data, 100);
		take_record(back, 100);
	}
	hang_up();
	expect_no_report();
}

/* ---- clients that are refused ---- */

static void test_wrong_key(void **state)
{
	char byte;

	assert_true(begin_tls(TLS_1_3, WRONG_KEY) < 0);
	expect_report(any_text);
	assert_int_equal(recv(connector, &byte, 1, 0), 0);	/* nobody was asked to connect it */
}

static void test_wrong_key_1_2(void **state)
{
	assert_true(begin_tls(TLS_1_2, WRONG_KEY) < 0);
	expect_report(any_text);
}

static void test_no_tls(void **state)
{
	char greeting[18];

	take(client, greeting, sizeof(greeting));
	give(client, "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0", 20);
	expect_report("the client did not ask for TLS");
}

static void test_no_handshake(void **state)
{
	char greeting[18], reply[20], hello[64];

	take(client, greeting, sizeof(greeting));
	give(client, "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0", 20);
	take(client, reply, sizeof(reply));
	memset(hello, 'x', sizeof(hello));
	give(client, hello, sizeof(hello));
	expect_report(any_text);
}

static void test_leaves_at_once(void **state)
{
	shutdown(client, SHUT_RDWR);
	expect_report("the client disconnected");
}

/* ---- clients and servers that do not read ---- */

static void test_client_that_does_not_read(void **state)
{
	fill();
	expect_end();
}

/* And it keeps sending. */
static void test_client_that_only_sends(void **state)
{
	char data[1024] = "";
	struct rusage usage;
	int64_t begin = clock_ms();

	fill();
	while (!session_is_over(&usage)) {
		assert_true(clock_ms() - begin < TIMEOUT_MS);
		gnutls_record_send(tls, data, 1);
		recv(server, data, sizeof(data), MSG_DONTWAIT);
		sleep_ms(STALL_MS / 10);
	}
}

/* It looks at the clock once in each turn. When it takes the second byte, the turn of the first one is over. */
static void let_session_look(void)
{
	char byte = 'x';

	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(gnutls_record_send(tls, &byte, 1), 1);
		take(server, &byte, 1);
	}
}

static void test_slow_client(void **state)
{
	static char data[65536];

	fill();
	for (unsigned times = 0; times < 8; times++) {
		atomic_fetch_add(&session_clock->ms, STALL_MS * 3 / 4);
		let_session_look();
		for (unsigned i = 0; i < 8; i++)
			assert_true(gnutls_record_recv(tls, data, sizeof(data)) > 0);
		let_session_look();
		fill();
	}
}

static void test_hung_up_on(void **state)
{
	fill();
	hang_up();
	expect_end();
}

/*
 * After the server has disconnected its last data reach a client that still reads, and no more data
 * are accepted from the client.
 */
static void test_the_rest_is_delivered(void **state)
{
	static char data[65536];
	size_t sent = fill(), got = 0;
	ssize_t some;

	hang_up();
	assert_int_equal(gnutls_record_send(tls, "question", 8), 8);
	sleep_ms(50);
	while ((some = gnutls_record_recv(tls, data, sizeof(data))) > 0)
		got += some;
	assert_int_equal(some, 0);
	assert_int_equal(got, sent);
	expect_end();
}

int main(void)
{
	struct error_text text = { "" };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_has_little, start, end),
		cmocka_unit_test_setup_teardown(test_both_ways, start, end),
		cmocka_unit_test_setup_teardown(test_both_ways, start_1_3, end),
		cmocka_unit_test_setup_teardown(test_client_ends, start, end),
		cmocka_unit_test_setup_teardown(test_client_ends, start_1_3, end),
		cmocka_unit_test_setup_teardown(test_new_keys, start_1_3, end),
		cmocka_unit_test_setup_teardown(test_much, start, end),
		cmocka_unit_test_setup_teardown(test_much, start_1_3, end),
		cmocka_unit_test_setup_teardown(test_wrong_key, start_process, end),
		cmocka_unit_test_setup_teardown(test_wrong_key_1_2, start_process, end),
		cmocka_unit_test_setup_teardown(test_no_tls, start_process, end),
		cmocka_unit_test_setup_teardown(test_no_handshake, start_process, end),
		cmocka_unit_test_setup_teardown(test_leaves_at_once, start_process, end),
		cmocka_unit_test_setup_teardown(test_client_that_does_not_read, start, end),
		cmocka_unit_test_setup_teardown(test_client_that_only_sends, start, end),
		cmocka_unit_test_setup_teardown(test_slow_client, start_standing, end),
		cmocka_unit_test_setup_teardown(test_hung_up_on, start, end),
		cmocka_unit_test_setup_teardown(test_the_rest_is_delivered, start_standing, end),
	};

	signal(SIGPIPE, SIG_IGN);
	session_clock = mmap(NULL, sizeof(*session_clock), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (session_clock == MAP_FAILED)
		return 1;
	if (sandbox_prepare(&filter, SANDBOX_TLS, &text)) {
		fprintf(stderr, "# %s\n", text.text);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
