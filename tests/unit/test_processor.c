/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_processor.c - an event channel's interrupt is found by its name.
 * tests/xen/test_xentop.sh checks on real Xen on which processor the thread stays.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "processor.h"

static int find(const char *text, const char *name)
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	int number = processor_find_interrupt(file, name);

	fclose(file);
	return number;
}

#define HEAD "           CPU0       CPU1       \n"
#define LINE(number, name) "  " number ":          1          3  xen-dyn-lateeoi    -event     " name "\n"

static void one_of_several(void **state)
{
	static const char text[] = HEAD LINE("51", "evtchn:tapdisk-31") LINE("52", "evtchn:tapdisk-312") LINE("53", "evtchn:xenstored")
		"NMI:          0          0   Non-maskable interrupts\n";

	assert_int_equal(find(text, "evtchn:tapdisk-312"), 52);
	assert_int_equal(find(text, "evtchn:tapdisk-31"), 51);
	assert_int_equal(find(text, "evtchn:tapdisk-3"), -ENOENT);
	assert_int_equal(find(text, "tapdisk-312"), -ENOENT);
	assert_int_equal(find(text, "interrupts"), -ENOENT);	/* that line has no number */
}

static void two_of_a_name(void **state)
{
	assert_int_equal(find(HEAD LINE("7", "evtchn:tapdisk-5") LINE("9", "evtchn:tapdisk-5"), "evtchn:tapdisk-5"), -ENOTUNIQ);
}

static void what_is_no_table(void **state)
{
	assert_int_equal(find("\n", "x"), -ENOENT);
	assert_int_equal(find("x", "x"), -ENOENT);
	assert_int_equal(find("5 x", "x"), -ENOENT);
	assert_int_equal(find("5:x", "x"), -ENOENT);
	assert_int_equal(find("5: x", "x"), 5);
	assert_int_equal(find("-5: x\n", "x"), -ENOENT);
	assert_int_equal(find("99999999999999999999: x\n", "x"), -ENOENT);
}

static void names(void **state)
{
	char name[16];

	processor_channel_name(name, 4194304);	/* the largest of Linux: PID_MAX_LIMIT */
	assert_string_equal(name, "tapdisk-4194304");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_several),
		cmocka_unit_test(two_of_a_name),
		cmocka_unit_test(what_is_no_table),
		cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
