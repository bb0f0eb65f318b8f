/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img.c - the command line for images that no tapdisk has open: finds the
 * command, parses common options, prints results and errors.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inherited.h"
#include "tap-img.h"
#include "tapctl.h"
#include "usage.h"

static const struct image_command *const commands[] = {
	&command_create, &command_info, &command_check, &command_snapshot, &command_resize, &command_map,
	&command_convert, &command_measure, &command_compare, &command_commit, &command_rebase, NULL,
};

static void print_help(FILE *to)
{
	int i;

	fprintf(to, "Usage: tap-img COMMAND [OPTION]... PATH...\n"
		"Work on cow images while no tapdisk has them open.\n\n");
	for (i = 0; commands[i]; i++)
		fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->help);
	fprintf(to, "\nA path may also be written as cow:PATH.\n"
		"'tap-img COMMAND --help' lists its options. Every command takes --json.\n"
		"The exit status is 0, or 1 for an error; check and compare have others. See tap-img(8).\n");
}

/* --json was given, and nothing has been printed yet. */
static bool json_wanted;

int image_getopt(const struct image_command *command, int argc, char **argv, const char *letters,
		 const struct option *options)
{
	struct error_text text = { "" };
	char quiet[32];
	int letter;

	snprintf(quiet, sizeof(quiet), ":%s", letters);		/* for usage_describe() */
	letter = getopt_long(argc, argv, quiet, options, NULL);
	if (letter == 'h') {
		printf("Usage: tap-img %s %s\n", command->name, command->usage);
		printf("\n%s\n\n%s  --json  print the result as JSON\n  -h, --help  this text\n", command->help,
		       command->options ? command->options : "");
		exit(0);
	}
	json_wanted |= letter == JSON_LETTER;
	if (letter != '?' && letter != ':')
		return letter;
	usage_describe(letter, argv, options, &text);
	/* --json may follow */
	while ((letter = getopt_long(argc, argv, quiet, options, NULL)) != -1)
		json_wanted |= letter == JSON_LETTER;
	image_misused(command, "%s", text.text);
}

void image_misused(const struct image_command *command, const char *format, ...)
{
	char what[400], text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(text, sizeof(text), "%s; see 'tap-img %s --help'", what, command->name);
	fprintf(stderr, "tap-img: %s: %s\n", command->name, text);
	if (json_wanted)
		image_print_json(tapctl_failure_json(-EINVAL, text));
	exit(command->misused ? command->misused : 1);
}

void image_arguments(const struct image_command *command, int argc, int count)
{
	const char *name = command->usage + strlen(command->usage);
	int missing = count - (argc - optind);

	if (missing < 0)
		image_misused(command, "too many arguments");
	if (!missing)
		return;
	/* the usage ends with the arguments */
	for (; missing; missing--) {
		if (*name)
			name--;
		while (name > command->usage && name[-1] != ' ')
			name--;
	}
	image_misused(command, "%.*s is missing", (int)strcspn(name, " )"), name);
}

/* A part of the result could not be converted to JSON. */
static bool no_json;

int image_fail(int error, const struct error_text *text)
{
	fprintf(stderr, "tap-img: %s\n", *text->text ? text->text : strerror(-error));
	if (json_wanted)
		image_print_json(tapctl_failure_json(error, text->text));
	return 1;
}

int image_print_json(json_t *json)
{
	json_wanted = false;
	no_json |= json_dumpf(json, stdout, JSON_INDENT(4)) && !ferror(stdout);
	putchar('\n');
	json_decref(json);
	return 0;
}

static bool list_begun;

/* An error after this is only on stderr, and leaves the array without its end. */
void image_list_json(json_t *json)
{
	json_wanted = false;
	fputs(list_begun ? ",\n    " : "[\n    ", stdout);
	list_begun = true;
	no_json |= json_dumpf(json, stdout, 0) && !ferror(stdout);
	json_decref(json);
}

void image_list_end(void)
{
	puts(list_begun ? "\n]" : "[]");
}

/* A script must not take truncated output for complete. */
static int output_end(const struct image_command *command, int code)
{
	const char *why = no_json ? "a text in it is not UTF-8, or out of memory" : NULL;

	if (!why && (fflush(stdout) || ferror(stdout)))
		why = strerror(errno);
	if (!why)
		return code;
	fprintf(stderr, "tap-img: %s: the output cannot be written: %s\n", command->name, why);
	return code ? code : command->failed ? command->failed : 1;
}

int main(int argc, char **argv)
{
	int i, code;

	process_sanitize_fds();
	if (argc < 2) {
		print_help(stderr);
		return 1;
	}
	if (usage_answer("tap-img", argv[1], print_help))
		return 0;
	for (i = 0; commands[i]; i++) {
		if (strcmp(argv[1], commands[i]->name))
			continue;
		code = output_end(commands[i], commands[i]->run(commands[i], argc - 1, argv + 1));
		if (code)		/* the signal came too late for a command that was completed */
			interrupts_die();
		return code;
	}
	usage_no_command("tap-img", argv);
	return 1;
}
