/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_probe.c - images on a file system that does not answer: the result of the
 * command that opens or closes one, of other commands meanwhile, and of a late
 * answer. The open hangs in the kernel, in four different calls: the last is not
 * made to find out whether the image answers, but to open it.
 */
#include "hanging_disks.h"

#include <dirent.h>

#define IMAGE_BYTES (1 << 20)
#define LATE_MS 30000u

#define KINDS 4
#define PROBED_KINDS 3

static const char *const kinds[KINDS] = { "lookup", "open", "read", "write" };	/* hanging_fs.h */

static char *target_of(const char *name)
{
	static char targets[4][300];
	static unsigned turn;
	char *target = targets[turn++ % 4];

	snprintf(target, sizeof(targets[0]), "aio:%s/%s", hanging.path, name);
	return target;
}

static unsigned state_of(int minor)
{
	json_t *reply = fixture_call(&f, minor_request("info", minor));
	unsigned state = (unsigned)json_integer_value(json_object_get(json_object_get(reply, "disk"), "state"));

	json_decref(reply);
	return state;
}

static void wait_for_state(int minor, unsigned state)
{
	for (unsigned ms = 0; state_of(minor) != state; ms++) {
		assert_true(ms < LATE_MS);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

static void expect_timeout(struct tapctl *ctl, const char *name)
{
	expect_stuck(ctl, name, "");
}

/* All commands that concern another image. */
static void use_the_rest(const char *good)
{
	struct tapctl *ours = f.ctl;
	struct error_text text = { "" };
	int minor;

	assert_int_equal(tapctl_connect(&f.ctl, f.pid, &text), 0);
	call(json_pack("{s:s}", "command", "list"));
	call(minor_request("info", f.minor));
	call(minor_request("stats", f.minor));
	call(minor_request("resize", f.minor));
	minor = attach();
	call(open_request(minor, good));
	call(minor_request("pause", minor));
	call(minor_request("unpause", minor));
	remove_disk(minor);
	tapctl_close(f.ctl);
	f.ctl = ours;
}

#define START_OR_SKIP(seconds) do { if (start_with(IMAGE_BYTES, seconds)) skip(); } while (0)

/* The tapdisk, and its opener if it has one. */
static bool has_no_file_there(int pid)
{
	char path[300], target[300];
	struct dirent *entry;
	bool none = true;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		none &= !strstr(target, hanging.path);
	}
	if (dir)
		closedir(dir);
	return none;
}

static int opener_of_tapdisk(void)
{
	json_t *reply = fixture_call(&f, json_pack("{s:s}", "command", "list"));
	int pid = (int)json_integer_value(json_object_get(reply, "opener"));

	json_decref(reply);
	return pid;
}

/* A file whose open ended late may stay open for a moment, until it is noticed that nobody waits for it. */
static void expect_no_file_there(void)
{
	int opener = opener_of_tapdisk();

	for (unsigned ms = 0; !has_no_file_there(f.pid) || (opener && !has_no_file_there(opener)); ms++) {
		assert_true(ms < LATE_MS);
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	assert_true(hanging_wait_open(0));
}

/* Everybody is served, and when the storage answers the image is opened as usual. */
static void test_the_others(void **state)
{
	START_OR_SKIP(FOREVER);
	for (unsigned i = 0; i < KINDS; i++) {
		int minor = attach();
		struct tapctl *waits;

		hanging_set(true);
		waits = send_command(open_request(minor, target_of(kinds[i])));
		assert_true(hanging_wait_held(1));
		use_the_rest(target_of("good"));
		assert_false(has_answer(waits, 0));
		hanging_set(false);
		expect_answer(waits);
		remove_disk(minor);
		expect_no_file_there();
	}
	stop();
}

/* The same for an image that takes another's place, and for one that is closed. */
static void test_the_others_of_open_disk(void **state)
{
	struct tapctl *waits, *again;
	int minor;

	START_OR_SKIP(FOREVER);
	minor = attach();
	call(open_request(minor, target_of("good2")));
	call(minor_request("pause", minor));
	hanging_set(true);
	waits = send_command(json_pack("{s:s, s:i, s:s}", "command", "unpause", "minor", minor, "target", target_of("open")));
	assert_true(hanging_wait_held(1));
	use_the_rest(target_of("good"));
	assert_false(has_answer(waits, 0));
	hanging_set(false);
	expect_answer(waits);
	call(minor_request("pause", minor));
	call(json_pack("{s:s, s:i, s:s}", "command", "unpause", "minor", minor, "target", target_of("end")));
	hanging_set(true);
	waits = send_command(minor_request("close", minor));
	assert_true(hanging_wait_held(1));
	again = send_command(minor_request("close", minor));
	use_the_rest(target_of("good"));
	assert_false(has_answer(waits, 0));
	assert_false(has_answer(again, 0));
	hanging_set(false);
	expect_answer(waits);
	expect_answer(again);
	remove_disk(minor);
	expect_no_file_there();
	stop();
}

/* An open that ends too late is undone, and does not block the next try. */
static void test_limit(void **state)
{
	START_OR_SKIP("1");
	for (unsigned i = 0; i < KINDS; i++) {
		int minor = attach();

		hanging_set(true);
		expect_timeout(send_command(open_request(minor, target_of(kinds[i]))), kinds[i]);
		use_the_rest(target_of("good"));
		hanging_set(false);
		expect_no_file_there();
		call(open_request(minor, target_of(kinds[i])));
		remove_disk(minor);
		expect_no_file_there();
	}
	stop();
}

static void test_unpause(void **state)
{
	START_OR_SKIP("1");
	call(minor_request("pause", f.minor));
	hanging_set(true);
	expect_timeout(send_command(json_pack("{s:s, s:i, s:s}", "command", "unpause", "minor", f.minor, "target", target_of("open"))),
		       "open");
	call(minor_request("unpause", f.minor));	/* on its own image */
	call(minor_request("pause", f.minor));
	expect_timeout(send_command(json_pack("{s:s, s:i, s:s}", "command", "unpause", "minor", f.minor, "target", target_of("write"))),
		       "write");
	hanging_set(false);
	call(minor_request("unpause", f.minor));
	expect_no_file_there();
	stop();
}

/* The size of an open image: only the client that asks for it waits. */
static void test_resize(void **state)
{
	int minor;

	START_OR_SKIP("1");
	minor = attach();
	call(open_request(minor, target_of("size")));
	hanging_set(true);
	expect_timeout(send_command(minor_request("resize", minor)), "size");
	use_the_rest(target_of("good"));
	hanging_set(false);
	call(minor_request("resize", minor));
	remove_disk(minor);
	expect_no_file_there();
	stop();
}

/* A store that answers, on a base that does not. */
static void test_base(void **state)
{
	const char *target;
	int minor;

	START_OR_SKIP("1");
	target = new_store_above("read", "store");
	minor = attach();
	hanging_set(true);
	expect_timeout(send_command(open_request(minor, target)), "store");
	use_the_rest(target_of("good"));
	hanging_set(false);
	expect_no_file_there();
	call(open_request(minor, target));
	remove_disk(minor);
	stop();
}

/* Only a limited number of threads wait; further opens are refused. */
static void test_many(void **state)
{
	struct tapctl *waits[PROBE_MAX + 1];
	struct error_text text = { "" };
	int minors[PROBE_MAX + 1];
	char name[32];

	START_OR_SKIP("3");
	hanging_set(true);
	for (unsigned i = 0; i <= PROBE_MAX; i++) {
		snprintf(name, sizeof(name), "read%u", i);
		minors[i] = attach();
		waits[i] = send_command(open_request(minors[i], target_of(name)));
	}
	call(json_pack("{s:s}", "command", "list"));
	for (unsigned i = 0; i < PROBE_MAX; i++)
		assert_int_equal(take_answer(waits[i], &text), -ETIMEDOUT);
	assert_int_equal(take_answer(waits[PROBE_MAX], &text), -EBUSY);
	assert_non_null(strstr(text.text, "still wait for their storage"));
	hanging_set(false);
	expect_no_file_there();
	use_the_rest(target_of("good"));
	for (unsigned i = 0; i <= PROBE_MAX; i++) {
		call(open_request(minors[i], target_of("good")));
		remove_disk(minors[i]);
	}
	stop();
}

/* Guests wait for a takeover: the limit does not apply there. */
static void test_taken_over(void **state)
{
	json_t *request;
	struct tapctl *waits;
	int minor;

	START_OR_SKIP("1");
	minor = attach();
	request = open_request(minor, target_of("read"));
	json_object_set_new(request, "take_over", json_true());
	hanging_set(true);
	waits = send_command(request);
	assert_false(has_answer(waits, 2500));
	hanging_set(false);
	expect_answer(waits);
	remove_disk(minor);
	stop();
}

/* A waiting open keeps neither the disk nor the process. */
static void test_end(void **state)
{
	struct error_text text = { "" };
	struct tapctl *waits, *other;
	int minor, other_minor;
	bool opens_itself;

	START_OR_SKIP(FOREVER);
	opens_itself = !opener_of_tapdisk();
	minor = attach();
	other_minor = attach();
	hanging_set(true);
	waits = send_command(open_request(minor, target_of("open")));
	other = send_command(open_request(other_minor, target_of("read")));
	assert_true(hanging_wait_held(2));
	remove_disk(minor);
	assert_int_equal(kill(f.pid, SIGTERM), 0);
	assert_int_equal(take_answer(waits, &text), -ESHUTDOWN);
	assert_int_equal(take_answer(other, &text), -ESHUTDOWN);
	if (opens_itself)	/* then this file system holds the tapdisk back */
		hanging_set(false);
	wait_for_end();
	hanging_set(false);
	assert_true(hanging_wait_open(0));
	assert_int_equal(tapctl_minor_free(other_minor, &text), 0);
	assert_int_equal(tapctl_minor_free(f.minor, &text), 0);
	assert_int_equal(unlink(f.image), 0);
	hanging_stop();
}

/* Its close waits, and nobody else; the image is in use until it is closed, and can be used again then. */
static void test_close(void **state)
{
	struct tapctl *waits, *again;
	struct error_text text = { "" };
	int minor, other;
	json_t *request;

	START_OR_SKIP("1");
	minor = attach();
	other = attach();
	call(open_request(minor, target_of("end")));
	hanging_set(true);
	waits = send_command(minor_request("close", minor));
	assert_true(hanging_wait_held(1));
	use_the_rest(target_of("good"));
	fixture_call_fails(&f, minor_request("detach", minor), -EBUSY);
	expect_stuck(waits, "end", "the disk is closed when it does");
	request = open_request(other, target_of("end"));
	json_object_set_new(request, "read_only", json_true());
	assert_int_equal(take_answer(send_command(json_deep_copy(request)), &text), -EBUSY);
	assert_non_null(strstr(text.text, "still closing it"));
	again = send_command(minor_request("close", minor));
	use_the_rest(target_of("good"));
	expect_stuck(again, "end", "the disk is closed when it does");
	again = send_command(minor_request("close", minor));
	hanging_set(false);
	expect_answer(again);
	call(request);
	remove_disk(other);
	remove_disk(minor);
	expect_no_file_there();
	stop();
}

/* A pause that was asked for stays one, however late. */
static void test_pause(void **state)
{
	int minor;

	START_OR_SKIP("1");
	minor = attach();
	call(open_request(minor, target_of("close")));
	hanging_set(true);
	expect_stuck(send_command(minor_request("pause", minor)), "close", "the disk is paused when it does");
	use_the_rest(target_of("good"));
	fixture_call_fails(&f, minor_request("unpause", minor), -EBUSY);
	hanging_set(false);
	wait_for_state(minor, TD_PAUSE_REQUESTED | TD_PAUSED | TD_QUIESCED);
	call(minor_request("pause", minor));
	call(minor_request("unpause", minor));
	remove_disk(minor);
	expect_no_file_there();
	stop();
}

/* The disks run on: that one as soon as it can. */
static void test_hand_over(void **state)
{
	int minor;

	START_OR_SKIP("1");
	minor = attach();
	call(open_request(minor, target_of("close")));
	hanging_set(true);
	fixture_call_fails(&f, json_pack("{s:s}", "command", "hand-over"), -ETIMEDOUT);
	wait_for_state(f.minor, 0);
	use_the_rest(target_of("good"));
	assert_int_equal(state_of(minor), TD_PAUSE_REQUESTED | TD_QUIESCE_REQUESTED);
	hanging_set(false);
	wait_for_state(minor, 0);
	remove_disk(minor);
	expect_no_file_there();
	stop();
}

/* Of a store, the files: its own answers, its base does not. */
static void test_close_store(void **state)
{
	const char *target;
	int minor;

	START_OR_SKIP("1");
	target = new_store_above("close", "closed");
	minor = attach();
	call(open_request(minor, target));
	hanging_set(true);
	expect_stuck(send_command(minor_request("close", minor)), "closed", "the disk is closed when it does");
	use_the_rest(target_of("good"));
	hanging_set(false);
	remove_disk(minor);
	expect_no_file_there();
	stop();
}

/* The process stops serving in time; the kernel keeps it, with the image's locks, until the thread can end. */
static void test_end_while_closing(void **state)
{
	struct error_text text = { "" };
	struct tapctl *waits;
	int minor;

	START_OR_SKIP("2");
	minor = attach();
	call(open_request(minor, target_of("close")));
	hanging_set(true);
	waits = send_command(minor_request("close", minor));
	assert_true(hanging_wait_held(1));
	assert_int_equal(kill(f.pid, SIGTERM), 0);
	assert_int_equal(take_answer(waits, &text), -ETIMEDOUT);
	wait_for_end();
	assert_int_equal(tapctl_minor_free(f.minor, &text), 0);
	assert_int_not_equal(tapctl_minor_free(minor, &text), 0);	/* the locks are still there */
	hanging_set(false);
	assert_true(hanging_wait_open(0));
	free_minor(minor);
	assert_int_equal(unlink(f.image), 0);
	hanging_stop();
}

/* The program fails with one line, and nothing is left. @other: a store there, which is not affected. */
static void test_program(void **state)
{
	static const char *const types[] = { "aio", "cow" };
	char command[1200], program[300], line[600];
	FILE *output;

	START_OR_SKIP("1");
	fixture_find_program(program, sizeof(program), "tap-ctl");
	for (unsigned i = 0; i < 2 * PROBED_KINDS; i++) {
		hanging_set(true);
		snprintf(command, sizeof(command), "%s create -a %s:%s/%s 2>&1; echo $?", program,
			 types[i / PROBED_KINDS], hanging.path, kinds[i % PROBED_KINDS]);
		output = popen(command, "re");
		assert_non_null(fgets(line, sizeof(line), output));
		assert_non_null(strstr(line, "has not answered for 1 seconds"));
		assert_non_null(fgets(line, sizeof(line), output));
		assert_int_equal(atoi(line), ETIMEDOUT);
		assert_null(fgets(line, sizeof(line), output));
		pclose(output);
		use_the_rest(target_of("good"));
		hanging_set(false);
		expect_no_file_there();
	}
	stop();
}

static void count_minor(int minor, int locked_by, void *arg)
{
	++*(int *)arg;
}

/* Without waiting for the limit, and nothing is left. timeout(1) exits with 124, or 137 when it had to kill. */
static void test_interrupted(void **state)
{
	static const char *const types[] = { "aio", "cow" };
	char command[1200], program[300];
	int status, minors;

	START_OR_SKIP(FOREVER);
	fixture_find_program(program, sizeof(program), "tap-ctl");
	for (unsigned i = 0; i < 2 * PROBED_KINDS; i++) {
		hanging_set(true);
		snprintf(command, sizeof(command), "timeout -k 10 -s INT 0.5 %s create -a %s:%s/%s 2>/dev/null", program,
			 types[i / PROBED_KINDS], hanging.path, kinds[i % PROBED_KINDS]);
		status = system(command);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 124);
		minors = 0;
		assert_int_equal(tapctl_minor_list(count_minor, &minors), 0);
		assert_int_equal(minors, 1);
		hanging_set(false);
		expect_no_file_there();
	}
	stop();
}

/* An open store that no longer answers does not delay the open of another. */
static void test_other_store(void **state)
{
	char command[1200], program[300];
	int minor;

	START_OR_SKIP("5");
	tap_img("create %s/alone 1M", scratch_dir);
	minor = add_disk(new_store_above("lookup", "above"));
	hanging_set(true);
	fixture_find_program(program, sizeof(program), "tap-ctl");
	snprintf(command, sizeof(command), "%s destroy $(%s create -a cow:%s/alone --json | jq -r '\"-p \\(.pid) -m \\(.minor)\"')",
		 program, program, scratch_dir);
	assert_int_equal(system(command), 0);
	hanging_set(false);
	remove_disk(minor);
	stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_others),
		cmocka_unit_test(test_the_others_of_open_disk),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_unpause),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_base),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_taken_over),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_hand_over),
		cmocka_unit_test(test_close_store),
		cmocka_unit_test(test_end_while_closing),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_other_store),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
