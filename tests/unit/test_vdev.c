/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_vdev.c - names of virtual devices: the numbers that Xen's
 * xen-vbd-interface(7) gives them, and invalid names.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "array.h"
#include "tap-ctl.h"

static void test_names(void **state)
{
	static const struct { const char *vdev; unsigned devid; } names[] = {
		{ "xvda", 51712 }, { "d0", 51712 }, { "d0p0", 51712 }, { "xvda1", 51713 }, { "d0p1", 51713 },
		{ "xvda15", 51727 }, { "xvdb", 51728 }, { "d1p2", 51730 }, { "xvdp", 202 << 8 | 15 << 4 },
		{ "xvdp15", 202 << 8 | 15 << 4 | 15 }, { "xvda16", 1 << 28 | 16 }, { "xvdq", 1 << 28 | 16 << 8 },
		{ "xvdz", 1 << 28 | 25 << 8 }, { "xvdaa", 1 << 28 | 26 << 8 }, { "xvdzz", 1 << 28 | 701 << 8 },
		{ "xvdtq37", 1 << 28 | 536 << 8 | 37 }, { "d536p37", 1 << 28 | 536 << 8 | 37 },
		{ "xvda255", 1 << 28 | 255 }, { "d1048575p255", 1 << 28 | 1048575 << 8 | 255 },
		{ "sda", 2048 }, { "sdb3", 2048 + 19 }, { "sdp15", 2048 + 255 },
		{ "hda", 768 }, { "hdb", 832 }, { "hdc2", 5634 }, { "hdd63", 22 << 8 | 64 | 63 },
		{ "51712", 51712 }, { "0xca00", 51712 }, { "0145000", 51712 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct error_text text = { "" };
		unsigned devid = 0;

		if (vdev_parse(names[i].vdev, &devid, &text))
			fail_msg("%s: %s", names[i].vdev, text.text);
		if (devid != names[i].devid)
			fail_msg("%s is %u, not %u", names[i].vdev, devid, names[i].devid);
	}
}

static void test_no_names(void **state)
{
	static const char *const names[] = {
		"", "x", "xvd", "xvd0", "xvda0", "xvda01", "xvda256", "xvda-1", "xvda 1", "xvda1x", "xvdA", "XVDA",
		"xvdbhwzzz", "sdq", "sda16", "sd", "hde", "hda64", "d", "dp", "d0p", "dp0", "d0p256", "d1048576", "d00",
		"d0p00", "d-1p0", "0", "-1", "+1", " 51712", "51712 ", "2147483648", "99999999999999999999", "0x", "vda",
		"xvda/1", "../xvda", "/dev/xvda",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct error_text text = { "" };
		unsigned devid;

		if (vdev_parse(names[i], &devid, &text) != -EINVAL)
			fail_msg("'%s' is taken for %u", names[i], devid);
		assert_non_null(text.text[0] ? text.text : NULL);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_no_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vdev", tests, NULL, NULL);
}
