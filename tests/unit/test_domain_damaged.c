/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_damaged.c - snapshots of a domain, without Xen: each of the files
 * in its directory cut at every byte, overwritten with garbage, or with members
 * of a wrong type. None of that is taken for something else, or blocks the
 * domain's snapshots for ever.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"

struct content {
	char bytes[8192];
	size_t length;
};

static void file_path(char path[200], const char *file)
{
	snprintf(path, 200, "%s/snapshots/" FAKE_UUID "/%s", fake_dir, file);
}

static bool exists(const char *file)
{
	char path[200];

	file_path(path, file);
	return !access(path, F_OK);
}

static void read_content(const char *file, struct content *content)
{
	char path[200];
	ssize_t got;
	int fd;

	file_path(path, file);
	fd = open(path, O_RDONLY);
	got = read(fd, content->bytes, sizeof(content->bytes));
	close(fd);
	assert_true(got > 0 && got < (ssize_t)sizeof(content->bytes));
	content->length = (size_t)got;
}

static void write_content(const char *file, const void *bytes, size_t length)
{
	char path[200];
	int fd;

	file_path(path, file);
	unlink(path);		/* ext4 waits for the disk when a file that was truncated is closed */
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_int_equal(write(fd, bytes, length), length);
	close(fd);
}

/* Opens the domain's directory, for a look at one file; an operation for each byte would take half a minute. */
static struct domain_directory open_directory(void)
{
	struct domain_directory directory;
	struct error_text text = { "" };

	if (directory_open(&directory, FAKE_UUID, false, &text))
		fail_msg("%s", text.text);
	return directory;
}

/* Calls @cut with the file cut at each byte, and @check with it overwritten. */
static void each_damage(const char *file, void (*cut)(void), void (*check)(void))
{
	static const char *const garbage[] = { "", "\n", "[]\n", "{}\n", "7\n", "null\n", "\"x\"\n", "{\"a\": 1}{\n", "\xff\xfe{}" };
	static const char zeros[4096];
	struct content content;

	read_content(file, &content);
	for (size_t length = 0; length < content.length - 1; length++) {		/* the last byte is a line feed */
		write_content(file, content.bytes, length);
		cut();
	}
	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		write_content(file, garbage[i], strlen(garbage[i]));
		check();
	}
	write_content(file, zeros, sizeof(zeros));
	check();
	for (size_t i = 0; i < content.length; i++)
		content.bytes[i] = (char)(content.bytes[i] ^ 0x80);
	write_content(file, content.bytes, content.length);
	check();
}

static void write_json(const char *file, const json_t *value)
{
	char *bytes = json_dumps(value, 0);

	write_content(file, bytes, strlen(bytes));
	free(bytes);
}

static json_t *wrong_type(const json_t *value)
{
	return json_is_string(value) || json_is_array(value) || json_is_object(value) ? json_integer(7) : json_string("x");
}

/* Calls @check with each member of the file's object, and of those in it, of a wrong type. */
static void each_wrong(const char *file, json_t *whole, json_t *object, void (*check)(const char *key))
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(object, next, key, value) {
		json_incref(value);
		json_object_set_new(object, key, wrong_type(value));
		write_json(file, whole);
		check(key);
		json_object_set(object, key, value);
		if (json_is_object(value))
			each_wrong(file, whole, value, check);
		if (json_is_array(value) && json_is_object(json_array_get(value, 0)))
			each_wrong(file, whole, json_array_get(value, 0), check);
		json_decref(value);
	}
}

/* ---- information files ---- */

static void test_information(void **state)
{
	struct domain_snapshot_request away = { .command = DOMAIN_SNAPSHOT_DELETE, .name = "b" };
	struct outcome outcome;
	char path[300];
	int fd;

	must(create("a"));
	must(create("b"));
	must(create("c"));
	must(revert("b"));
	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID "/snapshotdata-b.xl", fake_dir);
	fd = open(path, O_WRONLY | O_TRUNC);
	assert_int_equal(write(fd, "{\"name\": \"b\"}", 13), 13);
	close(fd);
	/* it does no harm to the others */
	must_fail(list(), -EBADMSG, "snapshotdata-b.xl: damaged");
	assert_string_equal(list().names, "a c");
	must(fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY, .name = "c" }));
	must(revert("c"));
	must(create("d"));
	must(delete("d", false));
	must(delete("a", false));
	must(delete("c", false));
	expect_disks("b");
	/* nor is it taken for one that does not exist */
	must_fail(revert("b"), -EBADMSG, "damaged");
	must_fail(create("b"), -EEXIST, "already");
	must_fail(delete("b", false), -EBADMSG, "delete --keep-disks removes it");
	away.keep_disks = true;
	outcome = fake_run(away);
	must(outcome);
	assert_string_equal(outcome.names, "b");
	assert_non_null(strstr(outcome.text, "tap-ctl snapshot-delete"));
	expect_list("");
	expect_files(0);
	expect_disks("b");
}

static void check_information_cut(void)
{
	struct domain_directory directory = open_directory();
	struct error_text text = { "" };
	json_t *info;

	assert_int_equal(info_read(&directory, "b", &info, &text), -EBADMSG);
	assert_non_null(strstr(text.text, "snapshotdata-b.xl: damaged"));
	directory_close(&directory);
}

static void check_information(void)
{
	struct outcome outcome = list();

	must_fail(outcome, -EBADMSG, "snapshotdata-b.xl: damaged");
	assert_string_equal(outcome.names, "a c");
	must_fail(revert("b"), -EBADMSG, "snapshotdata-b.xl: damaged");
}

static unsigned refused;

/* One that is not refused is not used, or only shown. */
static void check_member(const char *key)
{
	struct outcome outcome = list();

	if (!outcome.error) {
		assert_string_equal(outcome.names, "a b c");
		return;
	}
	check_information();
	refused++;
}

static void test_information_cut(void **state)
{
	json_t *info;
	struct content content;

	must(create("a"));
	must(create("b"));
	must(create("c"));
	read_content("snapshotdata-b.xl", &content);
	each_damage("snapshotdata-b.xl", check_information_cut, check_information);
	info = json_loadb(content.bytes, content.length, 0, NULL);
	refused = 0;
	each_wrong("snapshotdata-b.xl", info, info, check_member);
	/* name, creationtime, parent, save, config, disks; of a disk its vdev, target, path, format, id, time */
	assert_int_equal(refused, 12);
	json_decref(info);
	write_content("snapshotdata-b.xl", content.bytes, content.length);
	must(revert("b"));
	must(delete("a", true));
	expect_files(0);
}

/* ---- intent.xl ---- */

static void check_refused(void)
{
	struct domain_directory directory = open_directory();
	struct error_text text = { "" };
	json_t *intent;

	assert_int_equal(intent_read(&directory, &intent, &text), -EBADMSG);
	assert_non_null(strstr(text.text, "intent.xl: damaged: "));
	directory_close(&directory);
}

/* Nothing is changed, every refusal names the way out, and a query works. */
static void check_blocked(void)
{
	struct outcome outcome = list();

	must_fail(create("x"), -EBADMSG, "xl-snapshot recover --force");
	must_fail(delete("a", false), -EBADMSG, "xl-snapshot recover --force");
	must(outcome);
	assert_non_null(strstr(outcome.text, "xl-snapshot recover --force"));
	assert_string_equal(outcome.names, "a");
}

static void check_put_aside(void)
{
	struct outcome outcome;

	check_blocked();
	outcome = recover(true);
	must(outcome);
	assert_non_null(strstr(outcome.text, "intent.xl: damaged"));
	assert_non_null(strstr(outcome.text, "tap-ctl snapshot-list)"));
	assert_false(exists("intent.xl"));
	assert_true(exists("intent.xl.damaged"));
	outcome = list();
	must(outcome);
	assert_string_equal(outcome.text, "");
}

static struct content whole_intent;

/* One that is not refused is used as it is: what it describes must end. */
static void check_intent_member(const char *key)
{
	if (!recover(false).error) {
		assert_false(exists("intent.xl"));
		return;
	}
	check_put_aside();
	refused++;
}

static bool leave_intent(struct domain_snapshot_request request)
{
	unsigned step = 0;

	do {
		if (!fake_run_killed(request, ++step))
			return false;
	} while (!exists("intent.xl"));
	read_content("intent.xl", &whole_intent);
	return true;
}

/* The commands are killed at their first step, at which nothing has been changed yet. */
static void test_intent(void **state)
{
	static const struct {
		struct domain_snapshot_request request;
		unsigned refused;
	} cases[] = {
		/* op, name, time, memory, after, hook, moves; the domain and its four, the disks and a disk's four */
		{ { .command = DOMAIN_SNAPSHOT_CREATE, .name = "b", .hook = "/bin/true" }, 17 },
		/* op, phase, after; the domain and its two; the information and eight of its members */
		{ { .command = DOMAIN_SNAPSHOT_REVERT, .name = "a" }, 15 },
		/* op, suffix, whole, files */
		{ { .command = DOMAIN_SNAPSHOT_CLONE, .name = "a", .new_name = "new" }, 4 },
	};

	must(create("a"));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *intent;

		assert_true(leave_intent(cases[i].request));
		each_damage("intent.xl", check_refused, check_put_aside);
		intent = json_loadb(whole_intent.bytes, whole_intent.length, 0, NULL);
		refused = 0;
		each_wrong("intent.xl", intent, intent, check_intent_member);
		assert_int_equal(refused, cases[i].refused);
		json_decref(intent);
		expect_running(1);
		expect_disks("a");
	}
	/* with the last snapshot, what was put aside goes, too */
	must(delete("a", false));
	assert_false(exists(""));
}

/* ---- domain.xl ---- */

static void check_state_cut(void)
{
	struct domain_directory directory = open_directory();
	struct error_text text = { "" };

	assert_null(info_current(&directory, &text));
	assert_non_null(strstr(text.text, "domain.xl: damaged: "));
	directory_close(&directory);
}

/* Which snapshot is the current one is lost, and said to be; the domain is found by its name although it is off. */
static void check_state(void)
{
	struct outcome outcome = list();

	must(outcome);
	assert_string_equal(outcome.names, "a b");
	assert_string_equal(outcome.current, "");
	assert_non_null(strstr(outcome.text, "domain.xl: damaged"));
	must_fail(delete(NULL, false), -EBADMSG, "name one with -n");
}

static void check_state_member(const char *key)
{
	if (strcmp(key, "uuid"))		/* which is not read: the directory's name is the uuid */
		check_state();
}

static void test_state(void **state)
{
	struct content content;
	struct outcome outcome;
	json_t *whole;

	must(create("a"));
	must(create("b"));
	fake_stop_domain();
	read_content("domain.xl", &content);
	each_damage("domain.xl", check_state_cut, check_state);
	whole = json_loadb(content.bytes, content.length, 0, NULL);
	each_wrong("domain.xl", whole, whole, check_state_member);
	json_decref(whole);
	/* a snapshot says that it has lost its parent; it, or a revert, writes the file anew */
	write_content("domain.xl", "", 0);
	must(revert("b"));
	assert_string_equal(list().current, "b");
	write_content("domain.xl", "", 0);
	outcome = create("c");
	must(outcome);
	assert_non_null(strstr(outcome.text, "the snapshot has no parent: "));
	outcome = list();
	assert_string_equal(outcome.current, "c");
	assert_string_equal(outcome.text, "");
	must(delete("c", false));
	must(delete("a", true));
	expect_files(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_information),
		DOMAIN_TEST(test_information_cut),
		DOMAIN_TEST(test_intent),
		DOMAIN_TEST(test_state),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain damaged", tests, NULL, NULL);
}
