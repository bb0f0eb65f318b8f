/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_tls_session.c - what lies between a client with TLS and an NBD server:
 * a session in a process of its own, of which this one is both ends. Clients
 * that do not read, and a server that has hung up on them.
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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tls.h"

#define STALL_MS 500
#define CPU_MS 150		/* what the session may take; one that spins takes STALL_MS at least */
#define PATIENCE_MS 10000
#define PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK"

static pid_t session;
static int client, server;
static gnutls_session_t tls;
static gnutls_psk_client_credentials_t client_credentials;

static int give_key(gnutls_session_t one, const char *user, gnutls_datum_t *key)
{
	key->data = gnutls_malloc(16);
	key->size = 16;
	memset(key->data, 7, 16);
	return 0;
}

static void __attribute__((noreturn)) run_session(int to_client, int connector)
{
	struct tls_credentials credentials = { .verify = false };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	tls_stall_ms = STALL_MS;
	if (gnutls_psk_allocate_server_credentials(&credentials.psk) || gnutls_priority_init(&credentials.priority, PRIORITY, NULL))
		_exit(3);
	gnutls_psk_set_server_credentials_function(credentials.psk, give_key);
	_exit(tls_session_run(&credentials, to_client, connector) ? 1 : 0);
}

static void give(int fd, const void *data, size_t length)
{
	assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), length);
}

static void take(int fd, void *data, size_t length)
{
	assert_int_equal(recv(fd, data, length, MSG_WAITALL), length);
}

static void begin_tls(void)
{
	static const char flags_and_starttls[] = "\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0";
	const gnutls_datum_t key = { (unsigned char *)"07070707070707070707070707070707", 32 };
	char greeting[18], reply[20];

	take(client, greeting, sizeof(greeting));
	give(client, flags_and_starttls, sizeof(flags_and_starttls));
	take(client, reply, sizeof(reply));
	assert_int_equal(gnutls_init(&tls, GNUTLS_CLIENT), 0);
	assert_int_equal(gnutls_psk_allocate_client_credentials(&client_credentials), 0);
	assert_int_equal(gnutls_psk_set_client_credentials(client_credentials, "alice", &key, GNUTLS_PSK_KEY_HEX), 0);
	assert_int_equal(gnutls_credentials_set(tls, GNUTLS_CRD_PSK, client_credentials), 0);
	assert_int_equal(gnutls_priority_set_direct(tls, PRIORITY, NULL), 0);
	gnutls_transport_set_int(tls, client);
	assert_int_equal(gnutls_handshake(tls), 0);
}

/* The session asks for the server, and gets it. */
static void connect_server(int connector)
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

static int start(void **state)
{
	int clients[2], connectors[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, clients), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, connectors), 0);
	fflush(NULL);
	session = fork();
	assert_true(session >= 0);
	if (!session) {
		close(clients[0]);
		close(connectors[0]);
		run_session(clients[1], connectors[1]);
	}
	close(clients[1]);
	close(connectors[1]);
	client = clients[0];
	begin_tls();
	connect_server(connectors[0]);
	close(connectors[0]);
	return 0;
}

static int end(void **state)
{
	if (session > 0) {
		kill(session, SIGKILL);
		waitpid(session, NULL, 0);
	}
	gnutls_deinit(tls);
	gnutls_psk_free_client_credentials(client_credentials);
	close(client);
	if (server >= 0)
		close(server);
	return 0;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
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

/* In its own time, and asleep until then. */
static void expect_end(void)
{
	uint64_t begin = now_ms();
	struct rusage usage;
	long cpu;

	while (!session_is_over(&usage)) {
		if (now_ms() - begin > PATIENCE_MS)
			fail_msg("the session does not end");
		sleep_ms(5);
	}
	cpu = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
	if (cpu > CPU_MS)
		fail_msg("the session has taken %ld ms of a processor", cpu);
}

/* As much as there is room for on the way. Returns how much. */
static size_t fill(void)
{
	static char data[65536];
	struct pollfd ready = { .fd = server, .events = POLLOUT };
	size_t sent = 0;
	ssize_t some;

	while (poll(&ready, 1, 100) == 1) {
		some = send(server, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (some < 0)
			assert_int_equal(errno, EAGAIN);
		else
			sent += some;
	}
	return sent;
}

static void hang_up(void)
{
	close(server);
	server = -1;
}

static void test_both_ways(void **state)
{
	char data[16];

	assert_int_equal(gnutls_record_send(tls, "question", 8), 8);
	take(server, data, 8);
	assert_memory_equal(data, "question", 8);
	give(server, "answer", 6);
	assert_int_equal(gnutls_record_recv(tls, data, sizeof(data)), 6);
	assert_memory_equal(data, "answer", 6);
	hang_up();
	assert_int_equal(gnutls_record_recv(tls, data, sizeof(data)), 0);
	expect_end();
}

static void test_client_that_does_not_read(void **state)
{
	fill();
	expect_end();
}

/* And sends on. */
static void test_client_that_only_sends(void **state)
{
	char data[1024] = "";
	struct rusage usage;
	uint64_t begin = now_ms();

	fill();
	while (!session_is_over(&usage)) {
		assert_true(now_ms() - begin < PATIENCE_MS);
		gnutls_record_send(tls, data, 1);
		recv(server, data, sizeof(data), MSG_DONTWAIT);
		sleep_ms(STALL_MS / 10);
	}
}

static void test_slow_client(void **state)
{
	static char data[65536];
	uint64_t begin = now_ms();
	struct rusage usage;

	fill();
	while (now_ms() - begin < 4 * STALL_MS) {
		for (unsigned i = 0; i < 8; i++)
			assert_true(gnutls_record_recv(tls, data, sizeof(data)) > 0);
		sleep_ms(STALL_MS / 2);
		assert_false(session_is_over(&usage));
		fill();
	}
}

static void test_hung_up_on(void **state)
{
	fill();
	hang_up();
	expect_end();
}

/* What the server had said comes to who still reads it, and no more of what is said to it is wanted. */
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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_both_ways, start, end),
		cmocka_unit_test_setup_teardown(test_client_that_does_not_read, start, end),
		cmocka_unit_test_setup_teardown(test_client_that_only_sends, start, end),
		cmocka_unit_test_setup_teardown(test_slow_client, start, end),
		cmocka_unit_test_setup_teardown(test_hung_up_on, start, end),
		cmocka_unit_test_setup_teardown(test_the_rest_is_delivered, start, end),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
