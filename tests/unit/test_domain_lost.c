/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_lost.c - xenstored dies, and its waiting clients are told. Here a
 * listening socket stands for it.
 */
#include <errno.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"
#include "domain_xen_lost.h"

static char path[64];
static int listener;
static sem_t calls;

static int setup(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(path, sizeof(path), "/tmp/test-lost.%d", getpid());
	strcpy(address.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 20 }, sizeof(struct timeval)))
		return -1;
	setenv("XENSTORED_PATH", path, 1);
	sem_init(&calls, 0, 0);
	return bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 1);
}

static int teardown(void **state)
{
	close(listener);
	unlink(path);
	return 0;
}

static void count(void *owner)
{
	sem_post(owner);
}

static void expect_call(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 20;
	assert_int_equal(sem_timedwait(&calls, &until), 0);
}

/* Returns xenstored's end of its connection. */
static int start(struct xen_watchdog *watchdog)
{
	struct error_text text = { "" };

	assert_int_equal(xen_watchdog_start(watchdog, count, &calls, &text), 0);
	return accept(listener, NULL, NULL);
}

static void test_its_end(void **state)
{
	struct xen_watchdog watchdog;
	int connection = start(&watchdog);

	assert_false(xen_lost(&watchdog));
	assert_int_equal(sem_trywait(&calls), -1);
	close(connection);
	assert_true(xen_lost(&watchdog));
	expect_call();
	expect_call();			/* again: what it has to end may have begun after the first call */
	xen_watchdog_stop(&watchdog);
}

static void test_stopped_before(void **state)
{
	struct error_text text = { "" };
	struct xen_watchdog watchdog;

	assert_int_equal(xen_watchdog_start(&watchdog, count, &calls, &text), 0);
	xen_watchdog_stop(&watchdog);
	assert_int_equal(sem_trywait(&calls), -1);
}

static void test_gone_already(void **state)
{
	struct error_text text = { "" };
	struct xen_watchdog watchdog;

	close(listener);
	assert_int_equal(xen_watchdog_start(&watchdog, count, &calls, &text), -ECONNREFUSED);
	assert_non_null(strstr(text.text, path));
	xen_watchdog_stop(&watchdog);
}

static void test_told(void **state)
{
	struct error_text text = { "" };
	struct xen_watchdog watchdog;

	assert_int_equal(xen_watchdog_start(&watchdog, count, &calls, &text), 0);
	xen_watchdog_bark(&watchdog);
	expect_call();
	expect_call();
	assert_false(xen_lost(&watchdog));
	xen_watchdog_stop(&watchdog);
}

static struct {
	pthread_t thread;
	bool answers, asked;
} fake;

/* Answers or not, depending on the test, and then ends that connection. */
static void *serve(void *arg)
{
	char question[64];
	int connection = accept(listener, NULL, NULL);

	fake.asked = recv(connection, question, sizeof(question), 0) > 0 &&
		(!fake.answers || send(connection, "x", 1, 0) == 1);
	close(connection);
	return NULL;
}

static bool lost_when_asked(struct xen_watchdog *watchdog, bool answers)
{
	bool lost;

	fake.answers = answers;
	assert_int_equal(pthread_create(&fake.thread, NULL, serve, NULL), 0);
	lost = xen_lost_now(watchdog);
	pthread_join(fake.thread, NULL);
	assert_true(fake.asked);
	return lost;
}

/* The connections to it end one after the other; ours is still there. */
static void test_asked(void **state)
{
	struct xen_watchdog watchdog;
	int connection = start(&watchdog);

	assert_false(lost_when_asked(&watchdog, true));
	assert_false(xen_lost(&watchdog));
	assert_true(lost_when_asked(&watchdog, false));
	assert_true(xen_lost(&watchdog));
	expect_call();
	assert_true(xen_lost_now(&watchdog));	/* nobody is asked again: nobody would answer */
	close(connection);
	xen_watchdog_stop(&watchdog);
}

static void test_refuses_when_asked(void **state)
{
	struct xen_watchdog watchdog;
	int connection = start(&watchdog);

	close(listener);
	assert_true(xen_lost_now(&watchdog));
	close(connection);
	xen_watchdog_stop(&watchdog);
}

/* Without a socket xenstored is a domain of its own: there is nothing to watch. */
static void test_no_socket(void **state)
{
	struct error_text text = { "" };
	struct xen_watchdog watchdog;

	unlink(path);
	assert_int_equal(xen_watchdog_start(&watchdog, count, &calls, &text), 0);
	assert_false(xen_lost(&watchdog));
	assert_false(xen_lost_now(&watchdog));
	xen_watchdog_stop(&watchdog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_its_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_before, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gone_already, setup, teardown),
		cmocka_unit_test_setup_teardown(test_told, setup, teardown),
		cmocka_unit_test_setup_teardown(test_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refuses_when_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_socket, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
