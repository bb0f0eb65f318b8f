/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_snapshot_freeze.c - a disk that is frozen for a snapshot: freezes that
 * time out, tokens, and what ends a freeze or decides about a prepared
 * snapshot when its connection ends. Over the driver of snapshot_process.h.
 */
#include "snapshot_control.h"

/* With a short lease the freeze may have ended by the time that this returns. */
static json_int_t freeze_shortly(unsigned lease_ms)
{
	json_t *reply = fake_call(&p, freeze_request(lease_ms));
	json_int_t token = json_integer_value(json_object_get(reply, "token"));

	assert_true(token > 0);
	json_decref(reply);
	return token;
}

static json_int_t freeze(unsigned lease_ms)
{
	json_int_t token = freeze_shortly(lease_ms);

	assert_true(p.disk->frozen);
	return token;
}

static json_t *with_token(const char *command, json_int_t token)
{
	json_t *request = fake_request(&p, command);

	json_object_set_new(request, "token", json_integer(token));
	return request;
}

static void decision_path(char path[200])
{
	mkdir(fake_state, 0700);
	snprintf(path, 200, "%s/groups", fake_state);
	mkdir(path, 0700);
	strcat(path, "/" RANDOM_NAME);
}

static json_t *prepare_request(json_int_t token)
{
	json_t *request = with_token("snapshot-prepare", token);
	char path[200];

	decision_path(path);
	json_object_set_new(request, "name", json_string("snap"));
	json_object_set_new(request, "decision", json_string(path));
	return request;
}

static void test_lease_runs_out(void **state)
{
	json_int_t token = freeze_shortly(20);

	wait_until(!p.disk->frozen);
	fake_call_fails(&p, prepare_request(token), -ETIMEDOUT);
	fake_call_fails(&p, with_token("snapshot-thaw", token), -ETIMEDOUT);
	assert_int_equal(p.disk->calls[SNAPSHOT_PREPARE], 0);
	assert_true(longest_stall_us() >= 20000);
	/* the next freeze works */
	json_decref(fake_call(&p, prepare_request(freeze(LONG_LEASE_MS))));
	assert_string_equal(p.disk->prepared, "snap");
	json_decref(fake_call(&p, with_name("snapshot-commit")));
	assert_string_equal(p.disk->listed, "snap");
}

/* The drain takes longer than the lease. */
static void test_lease_runs_out_before_the_freeze(void **state)
{
	p.disk->hold[SNAPSHOT_FREEZE] = true;
	fake_call_fails(&p, freeze_request(20), -ETIMEDOUT);
	assert_int_equal(p.disk->calls[SNAPSHOT_THAW], 1);
	assert_false(p.disk->frozen);
	p.disk->hold[SNAPSHOT_FREEZE] = false;
	freeze(LONG_LEASE_MS);
}

static void test_tokens(void **state)
{
	json_int_t token = freeze(LONG_LEASE_MS);

	fake_call_fails(&p, freeze_request(LONG_LEASE_MS), -EBUSY);
	fake_call_fails(&p, with_name("snapshot-create"), -EBUSY);
	fake_call_fails(&p, with_name("snapshot-revert"), -EBUSY);
	fake_call_fails(&p, prepare_request(token + 1), -ETIMEDOUT);
	fake_call_fails(&p, with_token("snapshot-thaw", token + 1), -ETIMEDOUT);
	assert_true(p.disk->frozen);
	json_decref(fake_call(&p, with_token("snapshot-thaw", token)));
	assert_false(p.disk->frozen);
	fake_call_fails(&p, prepare_request(token), -ETIMEDOUT);
	/* a token works once */
	token = freeze(LONG_LEASE_MS);
	json_decref(fake_call(&p, prepare_request(token)));
	fake_call_fails(&p, prepare_request(token), -ETIMEDOUT);
}

/* The driver refused before it thawed. */
static void test_failed_prepare_thaws(void **state)
{
	json_int_t token = freeze(LONG_LEASE_MS);

	p.disk->fail[SNAPSHOT_PREPARE] = -EEXIST;
	fake_call_fails(&p, prepare_request(token), -EEXIST);
	assert_false(p.disk->frozen);
}

static void test_connection_that_froze_ends(void **state)
{
	begin(other, freeze_request(LONG_LEASE_MS));
	finish(other, 0);
	assert_true(p.disk->frozen);
	tapctl_close(other);
	other = NULL;
	wait_until(!p.disk->frozen);
}

static void test_connection_ends_before_the_freeze(void **state)
{
	p.disk->hold[SNAPSHOT_FREEZE] = true;
	begin(other, freeze_request(LONG_LEASE_MS));
	wait_until(p.disk->calls[SNAPSHOT_FREEZE] == 1);
	tapctl_close(other);
	other = NULL;
	wait_until(p.disk->calls[SNAPSHOT_THAW] == 1);
	assert_false(p.disk->frozen);
	p.disk->hold[SNAPSHOT_FREEZE] = false;
	freeze(LONG_LEASE_MS);
}

/*
 * When a coordinator has disconnected, the record decides about its prepared snapshot. If there is no
 * record, one is created.
 */
static void prepared_and_gone(bool decided, bool hold)
{
	struct error_text text = { "" };
	json_t *reply;
	char path[200];

	decision_path(path);
	unlink(path);
	if (decided) {
		FILE *file = fopen(path, "w");

		assert_non_null(file);
		fputs("commit\n", file);
		fclose(file);
	}
	begin(other, freeze_request(LONG_LEASE_MS));
	reply = receive(other);
	p.disk->hold[SNAPSHOT_PREPARE] = hold;
	begin(other, prepare_request(json_integer_value(json_object_get(reply, "token"))));
	json_decref(reply);
	if (!hold)
		finish(other, 0);
	else
		wait_until(p.disk->calls[SNAPSHOT_PREPARE] == 1);
	tapctl_close(other);
	if (hold) {
		json_decref(fake_call(&p, fake_request(&p, "info")));
		fake_release(&p);
		wait_until(p.disk->calls[SNAPSHOT_COMMIT] + p.disk->calls[SNAPSHOT_ABORT] == 1);
	}
	wait_until(!p.disk->prepared[0] && !p.disk->frozen);
	assert_string_equal(p.disk->listed, decided ? "snap" : "");
	assert_int_equal(access(path, F_OK), 0);
	p.disk->listed[0] = '\0';
	memset((void *)p.disk->calls, 0, sizeof(p.disk->calls));
	assert_int_equal(tapctl_connect(&other, p.pid, &text), 0);
}

static void test_prepared_and_gone(void **state)
{
	prepared_and_gone(false, false);
	prepared_and_gone(true, false);
	prepared_and_gone(false, true);
	prepared_and_gone(true, true);
}

static void test_pause_ends_a_freeze(void **state)
{
	json_int_t token = freeze(LONG_LEASE_MS);

	json_decref(fake_call(&p, fake_request(&p, "pause")));
	assert_false(p.disk->frozen);
	fake_call_fails(&p, prepare_request(token), -EBUSY);
	fake_call_fails(&p, fake_request(&p, "snapshot-list"), -EBUSY);
	json_decref(fake_call(&p, fake_request(&p, "unpause")));
	fake_call_fails(&p, prepare_request(token), -ETIMEDOUT);
	/* while it drains for the freeze */
	p.disk->hold[SNAPSHOT_FREEZE] = true;
	begin(other, freeze_request(LONG_LEASE_MS));
	wait_until(p.disk->calls[SNAPSHOT_FREEZE] == 2);
	json_decref(fake_call(&p, fake_request(&p, "pause")));
	finish(other, -ETIMEDOUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DISK(test_lease_runs_out),
		ON_DISK(test_lease_runs_out_before_the_freeze),
		ON_DISK(test_tokens),
		ON_DISK(test_failed_prepare_thaws),
		ON_DISK(test_connection_that_froze_ends),
		ON_DISK(test_connection_ends_before_the_freeze),
		ON_DISK(test_prepared_and_gone),
		ON_DISK(test_pause_ends_a_freeze),
	};

	return cmocka_run_group_tests_name("snapshot freeze", tests, fake_make_directory, fake_remove_directory);
}
