/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap_img.h - runs tap-img on one image of a test, which the test makes with
 * the library and then leaves behind, as a killed process does.
 */
#ifndef TESTS_TAP_IMG_H
#define TESTS_TAP_IMG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "fixture.h"
#include "scratch.h"

static char tap_img_program[PATH_MAX], tap_img_image[PATH_MAX];

static inline void tap_img_init(void)
{
	scratch_init();
	fixture_find_program(tap_img_program, sizeof(tap_img_program), "tap-img");
	snprintf(tap_img_image, sizeof(tap_img_image), "%s", scratch_path("image"));
}

static inline void tap_img_must(int ret, const struct error_text *error)
{
	if (ret)
		fail_msg("%d: %s", ret, error->text);
}

static inline void tap_img_print(void)
{
	char command[PATH_MAX + 16];

	snprintf(command, sizeof(command), "cat %s >&2", scratch_path("out"));
	scratch_run(command);
}

/* Returns its exit code; its output is in the file "out". */
static inline int tap_img_run(const char *arguments)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command), "%s %s %s >%s 2>&1", tap_img_program, arguments, tap_img_image, scratch_path("out"));
	return scratch_run(command) >> 8;
}

static inline void tap_img_exits(int code, const char *arguments)
{
	int ret = tap_img_run(arguments);

	if (ret == code)
		return;
	tap_img_print();
	fail_msg("tap-img %s: exit status %d, and not %d", arguments, ret, code);
}

/* How often its last output has @text. */
static inline unsigned tap_img_count(const char *text)
{
	char all[4096], *at = all;
	FILE *file = fopen(scratch_path("out"), "r");
	unsigned count = 0;

	assert_non_null(file);
	all[fread(all, 1, sizeof(all) - 1, file)] = '\0';
	fclose(file);
	while ((at = strstr(at, text))) {
		at += strlen(text);
		count++;
	}
	return count;
}

static inline void tap_img_says(const char *text)
{
	if (tap_img_count(text))
		return;
	tap_img_print();
	fail_msg("it does not say \"%s\"", text);
}

#endif
