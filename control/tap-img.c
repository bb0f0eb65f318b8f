/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img.c - images, while no tapdisk has them: which command, and what all
 * of them share on their way in and out.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inherited.h"
#include "tap-img.h"

static const struct image_command *const commands[] = {
	&command_create, &command_info, &command_check, &command_snapshot, &command_resize, &command_map,
	&command_convert, &command_measure, &command_compare, &command_commit, &command_rebase, NULL,
};

static void print_overview(FILE *to)
{
	int i;

	fprintf(to, "usage: tap-img COMMAND ...\n\ncow images, while no tapdisk has them open\n\n");
	for (i = 0; commands[i]; i++)
		fprintf(to, "  %-10s %s\n", commands[i]->name, commands[i]->help);
	fprintf(to, "\nA path may be written as cow:PATH, too. Each command knows --json and --help.\n");
}

static void print_usage(const struct image_command *command, FILE *to)
{
	fprintf(to, "usage: tap-img %s %s\n", command->name, command->usage);
}

static void __attribute__((noreturn)) misused(const struct image_command *command)
{
	print_usage(command, stderr);
	exit(command->misused ? command->misused : 1);
}

int image_getopt(const struct image_command *command, int argc, char **argv, const char *letters,
		 const struct option *options)
{
	int letter = getopt_long(argc, argv, letters, options, NULL);

	if (letter == 'h') {
		print_usage(command, stdout);
		printf("\n%s\n\n%s  --json  print the result as JSON\n  -h, --help  this text\n", command->help,
		       command->options ? command->options : "");
		exit(0);
	}
	if (letter == '?')
		misused(command);
	return letter;
}

void image_arguments(const struct image_command *command, int argc, int count)
{
	if (argc - optind == count)
		return;
	fprintf(stderr, "tap-img %s: %s\n", command->name,
		argc - optind < count ? "something is missing" : "too many arguments");
	misused(command);
}

int image_fail(const struct error_text *error)
{
	fprintf(stderr, "tap-img: %s\n", error->text);
	return 1;
}

/* Not all of the result could be put into JSON. */
static bool no_json;

int image_print_json(json_t *json)
{
	no_json |= json_dumpf(json, stdout, JSON_INDENT(4)) && !ferror(stdout);
	putchar('\n');
	json_decref(json);
	return 0;
}

/* A script that reads us must not take a cut-off answer for the whole. */
static int output_end(const struct image_command *command, int code)
{
	const char *why = no_json ? "something in it is not UTF-8, or there is no memory" : NULL;

	if (!why && (fflush(stdout) || ferror(stdout)))
		why = strerror(errno);
	if (!why)
		return code;
	fprintf(stderr, "tap-img %s: the output cannot be written: %s\n", command->name, why);
	return code ? code : command->failed ? command->failed : 1;
}

int main(int argc, char **argv)
{
	int i, code;

	process_sanitize_fds();
	if (argc < 2) {
		print_overview(stderr);
		return 1;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		print_overview(stdout);
		return 0;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		printf("tap-img %s\n", VERSION);
		return 0;
	}
	for (i = 0; commands[i]; i++) {
		if (strcmp(argv[1], commands[i]->name))
			continue;
		code = output_end(commands[i], commands[i]->run(commands[i], argc - 1, argv + 1));
		interrupts_die();
		return code;
	}
	fprintf(stderr, "tap-img: no command \"%s\": see tap-img --help\n", argv[1]);
	return 1;
}
