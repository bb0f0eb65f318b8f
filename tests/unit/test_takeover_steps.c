/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_takeover_steps.c - a tapdisk is killed after each store to the in-flight
 * table, the journal or the ring (include/point.h), one point per run, until
 * there are no more; and so is its successor while it takes over and serves.
 * TAPSNAP_STRIDE=1 does it at every point (make soak). The frontend sees each
 * request answered once, and finds the answered writes on the disk.
 */
#include "takeover_load.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REQUESTS 4		/* requests at a time, three times: each round kills at another of their steps */
#define SEED 7

static struct fixture f;
static const char *target_type;		/* of the disk: "aio" or "cow" */
static unsigned deaths;			/* in the last round */
static char template[128];		/* a new one is copied from it */

static void make_disk(void)
{
	load_shell("cp --sparse=always %s %s", template, f.image);
}

static void spawn_dying_at(unsigned point)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", point);
	setenv("TAPSNAP_KILL_AT", number, 1);
}

/* Sends a command to a tapdisk that may die of it. */
static int call(json_t *request)
{
	struct error_text text = { "" };
	struct tapctl *ctl;
	int r = tapctl_connect(&ctl, f.pid, &text);

	if (r) {
		json_decref(request);
		return r;
	}
	r = tapctl_call(ctl, request, NULL, 30000, &text);
	tapctl_close(ctl);
	if (r && r != -EPIPE)
		fail_msg("tapdisk: %s", text.text);
	return r;
}

static int start(unsigned point)
{
	struct error_text text = { "" };
	int r;

	spawn_dying_at(point);
	f.pid = tapctl_spawn(&text);
	if (f.pid < 0)
		fail_msg("spawn: %s", text.text);
	r = call(json_pack("{s:s, s:i}", "command", "attach", "minor", f.minor));
	if (!r)
		r = call(json_pack("{s:s, s:i, s:s}", "command", "open", "minor", f.minor, "target", f.target));
	return r;
}

/* True: the disk is served again. False: the successor has died, too. */
static bool follow(struct load *load, unsigned point)
{
	struct error_text text = { "" };
	char why[512] = "";
	int r;

	spawn_dying_at(point);
	f.pid = tapctl_takeover(tapctl_takeover_owner(f.minor), -1, &text);
	if (f.pid < 0 && f.pid != -EPIPE)
		fail_msg("takeover: %s", text.text);
	if (f.pid < 0)
		return false;
	r = blkfront_follow(load->front, f.pid, why, sizeof(why));
	if (r && r != -EPIPE)
		fail_msg("follow: %s", why);
	return !r;
}

/* It was its last disk: the connection ends when nothing of it is left in the run directory. */
static void stop(void)
{
	char byte;

	assert_int_equal(tapctl_connect(&f.ctl, f.pid, NULL), 0);
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "close", "minor", f.minor)));
	json_decref(fixture_call(&f, json_pack("{s:s, s:i}", "command", "detach", "minor", f.minor)));
	while (read(tapctl_fd(f.ctl), &byte, 1) > 0)
		;
	tapctl_close(f.ctl);
}

/* Until all are answered. @point: of the first successor, if one is needed; 0: it lives. */
static void serve(struct load *load, unsigned point)
{
	while (!load_finish(load)) {
		deaths++;
		while (!follow(load, point)) {
			deaths++;
			point = 0;
		}
		point = 0;
	}
}

static void replace(struct load *load)
{
	assert_int_equal(kill(f.pid, SIGKILL), 0);
	while (blkfront_wait(load->front, 0, -1) != -EPIPE)
		;
	assert_true(follow(load, 0));
}

/*
 * A tapdisk dies at its @first-th point (0: at any, if a successor is to die), and a successor at its
 * @second-th; 0: it lives. False: the one that was to die did not reach that many points.
 */
static bool round_run(unsigned first, unsigned second)
{
	struct blkfront_options options = load_options(first % 2);
	struct load *load = calloc(1, sizeof(*load));
	struct blkfront *front;
	char why[512];
	bool more;
	int r;

	assert_non_null(load);
	make_disk();
	r = start(first);
	options.pid = f.pid;
	options.minor = f.minor;
	if (!r)
		r = blkfront_connect(&front, &options, why, sizeof(why));
	if (r) {	/* before there was a frontend: nothing to take over */
		free(load);
		while (tapctl_process_clean(f.pid) == -EBUSY)
			;
		return true;
	}
	load_start(load, front, SEED);
	load_put(load, REQUESTS);
	load_wait(load);
	load_put_flush(load);
	load_put(load, REQUESTS);
	deaths = 0;
	if (second && !first)
		assert_int_equal(kill(f.pid, SIGKILL), 0);
	serve(load, second);
	load_put(load, REQUESTS);
	serve(load, 0);
	more = deaths > (second ? 1 : 0);
	if (!more)	/* that one would die while the disk is checked */
		replace(load);
	load_check(load);
	blkfront_disconnect(load->front);
	free(load);
	stop();
	return more;
}

/* TAPSNAP_STRIDE=1: at each point; else at every eleventh, beginning at another one in each sweep. */
static void sweep(bool successor)
{
	const char *wanted = getenv("TAPSNAP_STRIDE");
	static unsigned sweeps;
	unsigned stride = wanted ? (unsigned)atoi(wanted) : 11, point = 1 + sweeps++ * 3 % stride, rounds = 0;

	for (; round_run(successor ? 0 : point, successor ? point : 0); point += stride)
		rounds++;
	print_message("# %s: %s killed at %u of %u points\n", target_type, successor ? "a successor" : "a tapdisk", rounds, point);
	/* each request has seven; a successor clears and counts the entries */
	assert_true(point > (successor ? 30 : 60));
}

static void test_tapdisk(void **state)
{
	sweep(false);
}

static void test_successor(void **state)
{
	sweep(true);
}

/*
 * A successor dies in the middle of a takeover, and the next one continues: on the way to its first
 * requests, and after them.
 */
static void test_both(void **state)
{
	for (unsigned first = 1; first < 8; first++)
		round_run(first, 40 + first);
}

static int disk_of(const char *type)
{
	char path[300];

	fixture_find_program(path, sizeof(path), "../tests/tapdisk-points");
	fixture_tapdisk = path;
	fixture_make_dir(&f);
	fixture_tapdisk = NULL;
	target_type = type;
	snprintf(f.image, sizeof(f.image), "%s/disk", f.dir);
	snprintf(f.target, sizeof(f.target), "%s:%s", type, f.image);
	snprintf(template, sizeof(template), "%s/template", f.dir);
	load_make_disk(type, template);
	f.minor = tapctl_minor_allocate(-1, NULL);
	return f.minor < 0;
}

static int start_raw(void **state)
{
	return disk_of("aio");
}

static int start_store(void **state)
{
	return disk_of("cow");
}

/* Only the files that the test has made are left. */
static int end(void **state)
{
	char path[128];

	if (tapctl_minor_free(f.minor, NULL) || unlink(f.image) || unlink(template))
		return -1;
	snprintf(path, sizeof(path), "%s/tapdisk", f.dir);
	return rmdir(path) || rmdir(f.dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_tapdisk, start_raw, end),
		cmocka_unit_test_setup_teardown(test_successor, start_raw, end),
		cmocka_unit_test_setup_teardown(test_both, start_raw, end),
		cmocka_unit_test_setup_teardown(test_tapdisk, start_store, end),
		cmocka_unit_test_setup_teardown(test_successor, start_store, end),
	};

	return cmocka_run_group_tests_name("takeover: killed at every step", tests, NULL, NULL);
}
