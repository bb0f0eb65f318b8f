/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * options.h - the options of a program's commands, as a table that says
 * which member of the program's `struct arguments` each of them sets.
 *
 * FLAG(), TEXT(), NUMBER() and BYTES() end a row: they check the member's
 * type and say what is accepted. Options that need more have a function
 * set(), which gets the argument unparsed.
 */
#ifndef TAPSNAP_OPTIONS_H
#define TAPSNAP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_MAX 31

struct arguments;
struct options;

struct known_option {
	char letter;
	const char *name;
	const char *argument;		/* NULL: takes none */
	const char *help;		/* NULL: not listed */
	enum option_kind { OPTION_IGNORED, OPTION_FLAG, OPTION_TEXT, OPTION_NUMBER, OPTION_BYTES } kind;
	size_t offset;			/* of a bool, const char *, int or int64_t in struct arguments */
	int64_t min, max;
	int unit;			/* factor of a number; 0: 1 */
	bool long_only;
	/* Replaces option_set(). */
	void (*set)(const struct options *options, const struct known_option *option, struct arguments *args, char *argument);
	const char *refused;		/* for such a function: the feature that is refused */
};

/* Checks the member's type: comparing pointers of different types does not compile. */
#define OPTION_MEMBER(type, member) \
	.offset = offsetof(struct arguments, member) + 0 * sizeof(&((struct arguments *)NULL)->member == (type *)NULL)
#define FLAG(member) .kind = OPTION_FLAG, OPTION_MEMBER(bool, member)
#define TEXT(member) .kind = OPTION_TEXT, OPTION_MEMBER(const char *, member)
#define NUMBER(member, from, to) .kind = OPTION_NUMBER, OPTION_MEMBER(int, member), .min = (from), .max = (to)
#define BYTES(member, from, to) .kind = OPTION_BYTES, OPTION_MEMBER(int64_t, member), .min = (from), .max = (to)
#define LONG_ONLY .long_only = true	/* --name, no letter */

/* The options of one command. */
struct options {
	const char *program, *command;
	const struct known_option *known[OPTIONS_MAX + 1];	/* in the order of the help; ends with NULL */
	bool given[128];		/* by letter; set by options_read() */
	bool json;			/* --json was given, anywhere; set by options_read() */
};

/* Parses @argv into @args. Returns the index of the first word that is not an option. */
int options_read(struct options *options, struct arguments *args, int argc, char **argv);
/* The default for a row without set(). */
void option_set(const struct options *options, const struct known_option *option, struct arguments *args, const char *argument);
/* Prints a line per option; @width: of the column "--name ARGUMENT". */
void options_print_help(const struct options *options, int width);
/* Prints an error, with --json also as JSON, and ends the program with that errno. */
void options_refuse(const struct options *options, int error, const char *text) __attribute__((noreturn));
/* The same for a usage error, EINVAL: adds where to find help. */
void options_fail(const struct options *options, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

#endif
