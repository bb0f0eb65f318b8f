/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * usage.h - what the tools have in common on their command line: --help and
 * --version, and what is wrong with an option or a command that does not exist.
 */
#ifndef TAPSNAP_USAGE_H
#define TAPSNAP_USAGE_H

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>

#include "error.h"

/* After getopt_long() has returned @letter, '?' or ':'. Its string of letters must begin with ':', so that it prints nothing. */
void usage_describe(int letter, char *const *argv, const struct option *options, struct error_text *text);
/* Prints a failed command's JSON object in one line (tapctl_failure_json()). */
void usage_print_json(int error, const char *text);
/* @word is --help or --version, in any of their forms: prints what it asks for. False: it is another word. */
bool usage_answer(const char *program, const char *word, void (*print_help)(FILE *to));
/* argv[1] is not a command of @program: prints that, and as JSON if one of the words is --json. */
void usage_no_command(const char *program, char *const *argv);

#endif
