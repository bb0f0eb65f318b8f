/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage.c - see usage.h.
 */
#include <errno.h>
#include <string.h>

#include "tapctl.h"
#include "usage.h"

/* Is @word, with "--" and perhaps a value, a name of the option @letter? Names may be shortened. */
static bool is_long_name(const char *word, int letter, const struct option *options)
{
	size_t length = strcspn(word, "=");

	if (strncmp(word, "--", 2) != 0)
		return false;
	for (; options->name; options++) {
		if (options->val == letter && !strncmp(options->name, word + 2, length - 2))
			return true;
	}
	return false;
}

void usage_describe(int letter, char *const *argv, const struct option *options, struct error_text *text)
{
	const char *word = argv[optind - 1];	/* if it is a long option; of short ones the word may be the next, too */
	int length = (int)strcspn(word, "=");

	if (!optopt)
		error_set(text, -EINVAL, "%.*s: no such option, or more than one begins with this", length, word);
	else if (!is_long_name(word, optopt, options))
		error_set(text, -EINVAL, "-%c%s", optopt, letter == ':' ? " needs a value" : ": no such option");
	else
		error_set(text, -EINVAL, "%.*s %s", length, word, letter == ':' ? "needs a value" : "takes no value");
}

void usage_print_json(int error, const char *text)
{
	json_t *json = tapctl_failure_json(error, text);

	if (json && !json_dumpf(json, stdout, JSON_COMPACT))
		putchar('\n');
	json_decref(json);
}

bool usage_answer(const char *program, const char *word, void (*print_help)(FILE *to))
{
	if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
		print_help(stdout);
	else if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		printf("%s (tapsnap) " VERSION "\n", program);
	else
		return false;
	return true;
}

void usage_no_command(const char *program, char *const *argv)
{
	struct error_text text = { "" };

	error_set(&text, -EINVAL, "there is no command '%s'; '%s --help' lists them", argv[1], program);
	fprintf(stderr, "%s: %s\n", program, text.text);
	for (argv += 2; *argv; argv++) {
		if (!strcmp(*argv, "--json")) {
			usage_print_json(-EINVAL, text.text);
			return;
		}
	}
}
