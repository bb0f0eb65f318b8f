/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_backend.c - backend_*() checks for every driver: targets are TYPE:PATH
 * and nothing else, requests are valid. And the null driver.
 */
#include <errno.h>

#include "array.h"
#include "disk.h"
#include "scratch.h"

static void bad_targets(void **state)
{
	static const struct { const char *target, *words; } cases[] = {
		{ "/srv/disk.img", "no type: write TYPE:PATH" },
		{ "", "no type: write TYPE:PATH" },
		{ "qcow:/srv/disk.img", "unknown type \"qcow\": use one of aio, cow, null" },
		{ ":/srv/disk.img", "unknown type \"\"" },
		{ "ai:/srv/disk.img", "unknown type \"ai\"" },
		{ "aio:", "no path after the colon" },
	};
	struct driver_options options = { 0 };
	struct backend *backend;
	struct error_text text;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		text.text[0] = '\0';
		assert_int_equal(backend_open(&backend, sync_engine, cases[i].target, &options, &text), -EINVAL);
		if (!strstr(text.text, cases[i].words))
			fail_msg("%s: \"%s\"", cases[i].target, text.text);
	}
	/* The text is one line, whatever the path contains. */
	assert_int_equal(open_path(&backend, "/no\nsuch", options, &text), -ENOENT);
	assert_null(strchr(text.text, '\n'));
}

static void requests_are_checked(void **state)
{
	static char data[8192] __attribute__((aligned(4096)));
	const char *path = scratch_file("checked", 8 * 4096);
	struct backend *backend = open_works(path, OPTIONS(.sector_size = 4096));

	assert_int_equal(do_request(backend, BLOCK_READ, 0, 8, data), 0);
	assert_int_equal(do_request(backend, BLOCK_READ, 64, 8, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, 56, 16, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, UINT64_MAX - 7, 16, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_DISCARD, 8, UINT64_MAX - 7, NULL), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, 0, 0, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, 1, 8, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 7, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 8, data + 1), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 8, NULL), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(do_request(backend, BLOCK_NR_OPS, 0, 8, data), -EOPNOTSUPP);
	backend_close(backend);
	backend = open_works(path, OPTIONS(.read_only = true));
	assert_int_equal(do_request(backend, BLOCK_READ, 1, 1, data), 0);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 1, data), -EROFS);
	assert_int_equal(do_request(backend, BLOCK_DISCARD, 0, 1, NULL), -EROFS);
	assert_int_equal(do_request(backend, BLOCK_WRITE_ZEROES, 0, 1, NULL), -EROFS);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
	assert_false(backend->geometry.discard);
	backend_close(backend);
}

static void null_driver(void **state)
{
	static const struct { const char *target; uint64_t sectors; } cases[] = {
		{ "null:2097152", 4096 }, { "null:4K", 8 }, { "null:3M", 6144 }, { "null:10g", 20971520 },
		{ "null:2T", 4294967296 }, { "null:8388607T", 8388607ull << 31 }, { "null:8388608T", 0 },
		{ "null:0", 0 }, { "null:0G", 0 }, { "null:1000", 0 }, { "null:-512", 0 }, { "null: 512", 0 },
		{ "null:512x", 0 }, { "null:512KB", 0 }, { "null:G", 0 }, { "null:99999999999999999999", 0 },
	};
	static char data[4096] __attribute__((aligned(4096))), zeroes[4096];
	struct driver_options options = { 0 };
	struct error_text text = { "" };
	struct backend *backend;
	size_t i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		ret = backend_open(&backend, sync_engine, cases[i].target, &options, &text);
		if (ret != (cases[i].sectors ? 0 : -EINVAL) ||
		    (!ret && backend->geometry.sectors != cases[i].sectors))
			fail_msg("%s: %d", cases[i].target, ret);
		if (ret)
			continue;
		memset(data, 0xff, sizeof(data));
		assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 8, data), 0);
		assert_int_equal(do_request(backend, BLOCK_READ, 0, 8, data), 0);
		assert_memory_equal(data, zeroes, sizeof(data));
		assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
		backend_close(backend);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_targets),
		cmocka_unit_test(requests_are_checked),
		cmocka_unit_test(null_driver),
	};

	scratch_init();
	return disk_run(tests);
}
