/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * options.c - the options of a program's commands (options.h).
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "size.h"
#include "usage.h"

void options_refuse(const struct options *options, int error, const char *text)
{
	fprintf(stderr, "%s: %s: %s (%s)\n", options->program, options->command, text, strerror(-error));
	if (options->json)
		usage_print_json(error, text);
	exit(-error);
}

void options_fail(const struct options *options, const char *format, ...)
{
	char what[400], text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(text, sizeof(text), "%s; see '%s %s --help'", what, options->program, options->command);
	options_refuse(options, -EINVAL, text);
}

static int parse_number(const struct options *options, const struct known_option *option, const char *argument)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(argument, &end, 10);
	if (errno || end == argument || *end || number < option->min || number > option->max)
		options_fail(options, "-%c %s: out of range, must be a number from %" PRId64 " to %" PRId64, option->letter,
			     argument, option->min, option->max);
	return (int)number * (option->unit ? option->unit : 1);
}

static int64_t parse_bytes(const struct options *options, const struct known_option *option, const char *argument)
{
	struct error_text text = { "" };
	uint64_t bytes;

	if (size_parse(argument, &bytes, &text))
		options_fail(options, "%s", text.text);
	if ((int64_t)bytes < option->min)
		options_fail(options, "-%c %s: too small, must be at least %" PRId64, option->letter, argument, option->min);
	if ((int64_t)bytes > option->max)
		options_fail(options, "-%c %s: too large, must be at most %" PRId64, option->letter, argument, option->max);
	return (int64_t)bytes;
}

void option_set(const struct options *options, const struct known_option *option, struct arguments *args, const char *argument)
{
	void *member = (char *)args + option->offset;

	switch (option->kind) {
	case OPTION_IGNORED:
		break;
	case OPTION_FLAG:
		*(bool *)member = true;
		break;
	case OPTION_TEXT:
		*(const char **)member = argument;
		break;
	case OPTION_NUMBER:
		*(int *)member = parse_number(options, option, argument);
		break;
	case OPTION_BYTES:
		*(int64_t *)member = parse_bytes(options, option, argument);
		break;
	}
}

static const struct known_option *find_letter(const struct options *options, int letter)
{
	const struct known_option *const *known = options->known;

	while (*known && (*known)->letter != letter)
		known++;
	return *known;
}

/* Build getopt's two tables. The ':' is for usage_describe(). */
static void build_tables(const struct options *options, char *letters, struct option *table)
{
	*letters++ = ':';
	for (const struct known_option *const *known = options->known; *known; known++) {
		if (!(*known)->long_only) {
			*letters++ = (*known)->letter;
			if ((*known)->argument)
				*letters++ = ':';
		}
		*table++ = (struct option){ (*known)->name, (*known)->argument ? required_argument : no_argument, NULL,
					    (*known)->letter };
	}
	*letters = '\0';
	*table = (struct option){ 0 };
}

static bool is_json(const struct known_option *option)
{
	return option && !strcmp(option->name, "json");
}

int options_read(struct options *options, struct arguments *args, int argc, char **argv)
{
	struct option table[OPTIONS_MAX + 1];
	char letters[2 * OPTIONS_MAX + 2];
	struct error_text text = { "" };
	int letter;

	build_tables(options, letters, table);
	/* an error may stand before --json */
	while ((letter = getopt_long(argc, argv, letters, table, NULL)) != -1)
		options->json |= is_json(find_letter(options, letter));
	optind = 0;		/* again, from the first */
	while ((letter = getopt_long(argc, argv, letters, table, NULL)) != -1) {
		const struct known_option *option = find_letter(options, letter);

		if (!option) {
			usage_describe(letter, argv, table, &text);
			options_fail(options, "%s", text.text);
		}
		options->given[letter] = true;
		if (option->set)
			option->set(options, option, args, optarg);
		else
			option_set(options, option, args, optarg);
	}
	return optind;
}

void options_print_help(const struct options *options, int width)
{
	for (const struct known_option *const *known = options->known; *known; known++) {
		const struct known_option *option = *known;
		char name[64], letter[] = { '-', option->letter, ',', '\0' };

		if (!option->help)
			continue;
		snprintf(name, sizeof(name), "--%s%s%s", option->name, option->argument ? " " : "",
			 option->argument ? option->argument : "");
		printf("  %3s %-*s %s\n", option->long_only ? "" : letter, width, name, option->help);
	}
}
