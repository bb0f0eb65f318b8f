/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_daemon.c - the start of a daemon: which descriptors it has open,
 * whatever its caller had open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client_internal.h"
#include "in_child.h"

/* The files of descriptors 0 to 2 and 4 of a daemon. */
static void daemon_look(char *line, size_t size)
{
	/* without a pipe of the shell's, which could be number 4 */
	char *arguments[] = { "sh", "-c", "for n in 0 1 2 4; do f=/proc/$$/fd/$n; "
			      "if [ ! -e $f ]; then l=\"$l none\"; elif [ $f -ef /dev/null ]; then l=\"$l null\"; "
			      "else l=\"$l other\"; fi; done; echo $l >&3", NULL };
	struct error_text text = { "" };

	require(client_start_daemon(arguments, -1, line, size, &text) == 0);
}

static void with_all_open(void)
{
	char line[200];

	daemon_look(line, sizeof(line));
	require(!strcmp(line, "null null null none"));
}

/* The pipe by which it reports that it is ready then gets numbers 0 and 1, and the next file number 3. */
static void with_two_closed(void)
{
	char line[200];

	close(0);
	close(1);
	daemon_look(line, sizeof(line));
	require(!strcmp(line, "null null null none"));
}

static void test_all_open(void **state)
{
	in_child(with_all_open);
}

static void test_two_closed(void **state)
{
	in_child(with_two_closed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_open),
		cmocka_unit_test(test_two_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
