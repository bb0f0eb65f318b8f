/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_states.c - commands that a disk's state does not allow: each is refused
 * with the reason, the disk stays as it is, and its frontend is served.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "fixture.h"

#define DISK_BYTES (1u << 20)

static struct fixture f;

static int setup(void **state)
{
	fixture_start(&f, DISK_BYTES, NULL, NULL);
	return 0;
}

static int teardown(void **state)
{
	fixture_stop(&f);
	return 0;
}

/* @target may be NULL. */
static json_t *request(const char *command, const char *target)
{
	json_t *made = json_pack("{s:s, s:i, s:s*}", "command", command, "minor", f.minor, "target", target);

	assert_non_null(made);
	return made;
}

static void does(const char *command, const char *target)
{
	json_decref(fixture_call(&f, request(command, target)));
}

static void refuses(const char *command, const char *target, int error, const char *why)
{
	struct error_text text = { "" };
	int ret = tapctl_call(f.ctl, request(command, target), NULL, TIMEOUT_MS, &text);

	if (ret != error || !strstr(text.text, why))
		fail_msg("%s: %d %s, not %d ... %s", command, ret, text.text, error, why);
}

static json_int_t info(const char *member)
{
	json_t *reply = fixture_call(&f, request("info", NULL));
	json_int_t value = json_integer_value(json_object_get(json_object_get(reply, "disk"), member));

	json_decref(reply);
	return value;
}

static void reads(struct blkfront *front)
{
	struct blkfront_segment segment = { blkfront_data_ref(front, 0), 0, 7 };

	assert_int_equal(blkfront_rw(front, 0, 1, false, 0, &segment, 1, false), 0);
	assert_int_equal(fixture_one(front, 0, 1, BLKIF_OP_READ), BLKIF_RSP_OKAY);
}

/* An image beside the fixture's; returns its target, in a static buffer, with the path behind the colon. */
static const char *image(const char *name, uint64_t bytes)
{
	static char target[160];
	FILE *file;

	snprintf(target, sizeof(target), "aio:%s/%s", f.dir, name);
	file = fopen(target + 4, "w");
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), (off_t)bytes), 0);
	fclose(file);
	return target;
}

static void test_running(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .queues = 1 });

	refuses("open", f.target, -EEXIST, "already has");
	refuses("unpause", f.target, -EINVAL, "is not paused");
	does("unpause", NULL);			/* the options are as given */
	refuses("close", NULL, -EBUSY, "is in use by 1 frontend");
	refuses("detach", NULL, -EBUSY, "has an open image");
	refuses("commit-cancel", NULL, -EINVAL, "no commit is running");
	reads(front);
	blkfront_disconnect(front);
}

static void test_paused(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .queues = 1 });

	does("pause", NULL);
	does("pause", NULL);
	refuses("resize", NULL, -EINVAL, "is not running");
	refuses("commit", NULL, -EBUSY, "is paused");
	refuses("open", f.target, -EEXIST, "already has");
	refuses("detach", NULL, -EBUSY, "has an open image");
	does("unpause", NULL);
	reads(front);
	blkfront_disconnect(front);
}

static void test_closed(void **state)
{
	struct blkfront_options options = { .pid = f.pid, .minor = f.minor, .queues = 1 };
	struct blkfront *front;
	char text[512] = "";
	unsigned before;

	does("close", NULL);
	does("close", NULL);
	refuses("pause", NULL, -EINVAL, "has no image open");
	refuses("unpause", NULL, -EINVAL, "has no image open");
	refuses("resize", NULL, -EINVAL, "is not running");
	refuses("commit", NULL, -EINVAL, "has no image open");
	before = fixture_count_descriptors(&f);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(blkfront_connect(&front, &options, text, sizeof(text)), -ENODEV);
		assert_non_null(strstr(text, "has no image open"));
	}
	assert_true(fixture_count_descriptors(&f) < before + 4);	/* the connection's own may still be closing; those of rings are not kept */
	does("open", f.target);
}

/* The geometry that a connected guest knows cannot be changed, except for a larger size. */
static void test_other_image(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .queues = 1 });
	const char *target;
	char none[160];

	does("pause", NULL);
	target = image("smaller", DISK_BYTES / 2);
	refuses("unpause", target, -EINVAL, "it cannot shrink");
	assert_int_equal(unlink(target + 4), 0);
	snprintf(none, sizeof(none), "aio:%s/none", f.dir);
	refuses("unpause", none, -ENOENT, "none");
	refuses("resize", NULL, -EINVAL, "is not running");	/* still paused */
	target = image("larger", 2 * DISK_BYTES);
	does("unpause", target);
	assert_int_equal(info("sectors"), 2 * DISK_BYTES / 512);
	reads(front);
	does("pause", NULL);
	assert_int_equal(unlink(target + 4), 0);
	blkfront_disconnect(front);
	/* no guest is connected, so everything can change */
	does("unpause", f.target);
	assert_int_equal(info("sectors"), DISK_BYTES / 512);
}

static void test_other_sectors(void **state)
{
	struct blkfront *front = fixture_connect(&f, (struct blkfront_options){ .queues = 1 });
	char tap_img[300], command[600], target[160];

	fixture_find_program(tap_img, sizeof(tap_img), "tap-img");
	snprintf(target, sizeof(target), "cow:%s/4k", f.dir);
	snprintf(command, sizeof(command), "%s create -s 4096 %s 1M >/dev/null", tap_img, target + 4);
	assert_int_equal(system(command), 0);
	does("pause", NULL);
	refuses("unpause", target, -EINVAL, "has sectors of 4096 bytes, the disk in use has 512");
	does("unpause", NULL);
	reads(front);
	blkfront_disconnect(front);
	assert_int_equal(unlink(target + 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_paused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_closed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_image, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_sectors, setup, teardown),
	};

	return cmocka_run_group_tests_name("states", tests, NULL, NULL);
}
