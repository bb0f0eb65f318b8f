/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_json.c - what xl-snapshot --json prints of operations that change
 * something, without Xen: revert, delete and recover, and their failures.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "xl-snapshot.h"

struct printed {
	struct arguments args;
	json_t *json;			/* NULL: not yet */
};

/* What it prints on stdout, as one line of JSON. */
static void print_captured(void *owner, const struct domain_snapshot_result *result)
{
	struct printed *printed = owner;
	int file = memfd_create("stdout", MFD_CLOEXEC), saved = dup(STDOUT_FILENO);
	char text[8192];
	ssize_t length;

	fflush(stdout);
	assert_int_equal(dup2(file, STDOUT_FILENO), STDOUT_FILENO);
	print_json(&printed->args, result);
	fflush(stdout);
	assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
	length = pread(file, text, sizeof(text) - 1, 0);
	close(file);
	close(saved);
	assert_true(length > 0);
	assert_ptr_equal(memchr(text, '\n', (size_t)length), text + length - 1);
	printed->json = json_loadb(text, (size_t)length, 0, NULL);
	assert_non_null(printed->json);
}

/* The caller frees the result. */
static json_t *run_printing(const struct command *command, struct domain_snapshot_request request)
{
	struct printed printed = { .args = { .command = command } };
	const struct domain_snapshot_callbacks callbacks = { .done = print_captured, .owner = &printed };
	struct domain_snapshots *session;
	struct error_text text = { "" };
	struct pollfd poll_fd = { .events = POLLIN };

	request.domain = FAKE_NAME;
	printed.args.request = request;
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	if (domain_snapshots_start(session, &request, &callbacks, NULL, &text))
		fail_msg("%s", text.text);
	poll_fd.fd = domain_snapshots_fd(session);
	while (!printed.json) {
		assert_int_equal(poll(&poll_fd, 1, TIMEOUT_MS), 1);
		domain_snapshots_dispatch(session);
	}
	domain_snapshots_close(session);
	return printed.json;
}

static const struct command revert_command = { .name = "revert", .print = print_reverted };
static const struct command delete_command = { .name = "delete", .print = print_deleted };
static const struct command recover_command = { .name = "recover", .print = print_nothing };

static json_t *revert_json_as(const char *name, enum domain_snapshot_after after)
{
	return run_printing(&revert_command, (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = name,
			    .after = after });
}

static json_t *revert_json(const char *name)
{
	return revert_json_as(name, DOMAIN_SNAPSHOT_AS_SAVED);
}

static json_t *delete_json(const char *name, bool children)
{
	return run_printing(&delete_command, (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_DELETE, .name = name,
			    .children = children });
}

static json_t *recover_json(bool force)
{
	return run_printing(&recover_command, (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_RECOVER, .force = force });
}

/* It was done to these snapshots, whose names are separated by spaces; @warning is a part of the warning. Frees @json. */
static void expect_done(json_t *json, const char *names, const char *warning)
{
	const char *said = info_string(json, "warning");
	const json_t *one;
	char found[100] = "";
	size_t i;

	assert_true(json_is_true(json_object_get(json, "ok")));
	assert_null(json_object_get(json, "errno"));
	assert_null(json_object_get(json, "error"));
	assert_string_equal(info_string(json, "domain"), FAKE_NAME);
	assert_string_equal(info_string(json, "uuid"), FAKE_UUID);
	assert_true(json_is_null(json_object_get(json, "clone")));
	assert_non_null(said);
	if (warning ? !strstr(said, warning) : *said)
		fail_msg("warning: %s", said);
	assert_true(json_is_array(json_object_get(json, "snapshots")));
	json_array_foreach(json_object_get(json, "snapshots"), i, one) {
		size_t used = strlen(found);

		snprintf(found + used, sizeof(found) - used, "%s%s", used ? " " : "", info_string(one, "name"));
		/* the information file, but not libxl's configuration */
		assert_true(json_is_integer(json_object_get(one, "creationtime")));
		assert_int_equal(json_array_size(json_object_get(one, "disks")), FAKE_DISKS);
		assert_true(json_is_boolean(json_object_get(one, "current")));
		assert_null(json_object_get(one, "config"));
	}
	assert_string_equal(found, names);
	json_decref(json);
}

/* Frees @json. */
static void expect_failed(json_t *json, int error, const char *words)
{
	assert_true(json_is_false(json_object_get(json, "ok")));
	assert_int_equal(json_integer_value(json_object_get(json, "errno")), error);
	assert_non_null(info_string(json, "error"));
	if (!strstr(info_string(json, "error"), words))
		fail_msg("error: %s", info_string(json, "error"));
	assert_int_equal(json_array_size(json_object_get(json, "snapshots")), 0);
	assert_true(json_is_array(json_object_get(json, "snapshots")));
	json_decref(json);
}

static void test_revert(void **state)
{
	json_t *json;

	must(create("a"));
	must(create("b"));
	json = revert_json("a");
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(json, "snapshots"), 0), "current")));
	expect_done(json, "a", NULL);
	expect_failed(revert_json("none"), ENOENT, "there is no snapshot called \"none\"");
	fake->fail_restore = -EIO;
	expect_failed(revert_json("b"), EIO, "the domain is shut off: revert to it again");
	fake->fail_restore = 0;
	expect_done(revert_json("b"), "b", NULL);
	/* a warning */
	make_hook();
	must(fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CREATE, .name = "h", .hook = hook }));
	expect_done(revert_json_as("h", DOMAIN_SNAPSHOT_PAUSED), "h", "hook thaw guest' when it is unpaused");
	fake->paused = false;
	must(delete("a", true));
}

static void test_delete(void **state)
{
	must(create("a"));
	must(create("b"));
	must(create("c"));
	expect_failed(delete_json("none", false), ENOENT, "there is no snapshot called \"none\"");
	expect_done(delete_json("b", false), "b", NULL);
	/* children first */
	expect_done(delete_json("a", true), "c a", NULL);
	expect_failed(delete_json("a", false), ENOENT, "domain " FAKE_NAME " has no snapshots");
}

static void test_recover(void **state)
{
	const struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "b" };
	char path[200];

	expect_failed(recover_json(false), ENOENT, "domain " FAKE_NAME " has no snapshots");
	must(create("a"));
	expect_done(recover_json(false), "", NULL);
	assert_true(fake_run_killed(request, 1));
	expect_done(recover_json(false), "", NULL);
	expect_list("a");
	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID "/" INTENT_FILE, fake_dir);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	expect_failed(recover_json(false), EBADMSG, "xl-snapshot recover --force");
	expect_done(recover_json(true), "", INTENT_ASIDE);
	expect_done(recover_json(true), "", NULL);
	must(delete("a", false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_revert),
		DOMAIN_TEST(test_delete),
		DOMAIN_TEST(test_recover),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: JSON", tests, NULL, NULL);
}
