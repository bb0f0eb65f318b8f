/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_text.c - conversion of texts with any bytes to JSON, and the JSON of a
 * failure.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tapctl.h"

static void expect(const char *text, const char *expected)
{
	json_t *json = tapctl_text_json(text);

	assert_non_null(json);
	assert_string_equal(json_string_value(json), expected);
	json_decref(json);
}

static void test_texts(void **state)
{
	expect("", "");
	expect("all is well", "all is well");
	expect("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x91", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x91");
	expect("/tmp/\xff/x", "/tmp/?/x");
	expect("caf\xe9 and caf\xc3\xa9", "caf? and caf\xc3\xa9");
	/* cut within a character */
	expect("caf\xc3", "caf?");
	expect("\"\xe2\x82\": no", "\"\?\?\": no");
	expect("\xf0\x9f\x90", "\?\?\?");
	/* overlong, a surrogate, more than there is */
	expect("\xc0\xaf", "\?\?");
	expect("\xe0\x80\xaf", "\?\?\?");
	expect("\xed\xa0\x80", "\?\?\?");
	expect("\xf4\x90\x80\x80", "\?\?\?\?");
	expect("\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf");
}

static void test_failure(void **state)
{
	json_t *json = tapctl_failure_json(-ENOENT, "caf\xe9 is not there");
	json_t *expected = json_pack("{s:b, s:i, s:s}", "ok", 0, "errno", ENOENT, "error", "caf? is not there");

	assert_true(json_equal(json, expected));
	json_decref(json);
	json = tapctl_failure_json(-ENOENT, "");
	json_object_set_new(expected, "error", json_string(strerror(ENOENT)));
	assert_true(json_equal(json, expected));
	json_decref(json);
	json_decref(expected);
}

/* jansson accepts the repaired text of any bytes. */
static void test_any(void **state)
{
	static const unsigned char edges[] = {
		'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff,
	};
	const size_t count = sizeof(edges);

	for (size_t i = 0; i < count * count * count * count; i++) {
		const char text[] = {
			(char)edges[i % count], (char)edges[i / count % count], (char)edges[i / count / count % count],
			(char)edges[i / count / count / count], '\0',
		};
		json_t *as_it_is = json_string(text), *json = tapctl_text_json(text);

		if (!json || (as_it_is && !json_equal(json, as_it_is)))
			fail_msg("text %zu", i);
		json_decref(json);
		json_decref(as_it_is);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_any),
		cmocka_unit_test(test_failure),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("texts", tests, NULL, NULL);
}
