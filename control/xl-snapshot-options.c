/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xl-snapshot-options.c - the options of each command, and their help.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "xl-snapshot.h"

static const struct known {
	char letter;
	bool is_short;			/* -n; others have long names only */
	const char *name, *argument, *help;
} known[] = {
	{ 'n', true, "name", "NAME", "the snapshot (create: the epoch second; otherwise the current one)" },
	{ 'd', true, "description", "TEXT", "what to remember about it" },
	{ 'L', false, "live", NULL, "copy the memory while the domain runs, and stop it for the rest only" },
	{ 'D', false, "disk-only", NULL, "leave the memory out: what a power cut would leave" },
	{ 'r', false, "running", NULL, "the domain runs afterwards" },
	{ 'p', false, "paused", NULL, "the domain is paused afterwards" },
	{ 's', false, "shutdown", NULL, "the domain is gone afterwards, as with xl save" },
	{ 'x', false, "diskspec", "VDEV,snapshot=no", "leave this disk out; may be given several times" },
	{ 'S', false, "store", "DIRECTORY", "raw disks move onto stores that are made there" },
	{ 'k', false, "hook", "PROGRAM", "run it with 'freeze DOMAIN' before and 'thaw DOMAIN' after" },
	{ 'l', true, "long", NULL, "all about each" },
	{ 't', false, "tree", NULL, "what goes back to what" },
	{ 'f', false, "force", NULL, "revert: though disks were attached or detached since; recover: without disks that are gone" },
	{ 'c', false, "children", NULL, "those that go back to it, too" },
	{ 'K', false, "keep-disks", NULL, "delete memory and information only" },
	{ 'F', false, "folder", "PATH", "where the new domain's files go (default: each disk's beside its store)" },
	{ 'J', false, "json", NULL, "print the result as JSON" },
	{ 'h', true, "help", NULL, "this text" },
};

#define NR_KNOWN (sizeof(known) / sizeof(known[0]))

static bool knows(const struct command *command, const struct known *option)
{
	return strchr(command->options, option->letter) || strchr("Jh", option->letter);
}

static void print_usage(const struct command *command)
{
	printf("Usage: xl-snapshot %s [OPTION]... %s\n%s.\n\n", command->name, command->words, command->summary);
	for (size_t i = 0; i < NR_KNOWN; i++) {
		char name[64];

		if (!knows(command, &known[i]))
			continue;
		snprintf(name, sizeof(name), "--%s%s%s", known[i].name, known[i].argument ? " " : "",
			 known[i].argument ? known[i].argument : "");
		if (known[i].is_short)
			printf("  -%c, %-28s %s\n", known[i].letter, name, known[i].help);
		else
			printf("      %-28s %s\n", name, known[i].help);
	}
}

static void __attribute__((noreturn, format(printf, 2, 3)))
fail_usage(const struct command *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "xl-snapshot: %s: ", command->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "; see 'xl-snapshot %s --help' (%s)\n", command->name, strerror(EINVAL));
	exit(EINVAL);
}

static void set_after(struct arguments *args, enum domain_snapshot_after after)
{
	if (args->request.after != DOMAIN_SNAPSHOT_AS_SAVED && args->request.after != after)
		fail_usage(args->command, "only one of --running, --paused and --shutdown");
	args->request.after = after;
}

/* "xvda,snapshot=no", or "=yes", which is what it would be anyway. */
static void add_diskspec(struct arguments *args, char *spec)
{
	char *comma = strchr(spec, ',');

	if (!comma || comma == spec || (strcmp(comma, ",snapshot=no") != 0 && strcmp(comma, ",snapshot=yes") != 0))
		fail_usage(args->command, "--diskspec %s: it is VDEV,snapshot=no", spec);
	if (!strcmp(comma, ",snapshot=yes"))
		return;
	if (args->nr_left_out == MAX_LEFT_OUT)
		fail_usage(args->command, "--diskspec: more than %d", MAX_LEFT_OUT);
	*comma = '\0';
	args->left_out[args->nr_left_out++] = spec;
}

static void set_option(struct arguments *args, int letter)
{
	struct domain_snapshot_request *request = &args->request;

	switch (letter) {
	case 'n':
		request->name = optarg;
		break;
	case 'd':
		request->description = optarg;
		break;
	case 'L':
		request->live = true;
		break;
	case 'D':
		request->disk_only = true;
		break;
	case 'r':
		set_after(args, DOMAIN_SNAPSHOT_RUNNING);
		break;
	case 'p':
		set_after(args, DOMAIN_SNAPSHOT_PAUSED);
		break;
	case 's':
		set_after(args, DOMAIN_SNAPSHOT_SHUTDOWN);
		break;
	case 'x':
		add_diskspec(args, optarg);
		break;
	case 'k':
		request->hook = optarg;
		break;
	case 'S':
		request->store = optarg;
		break;
	case 'l':
		args->longer = true;
		break;
	case 't':
		args->tree = true;
		break;
	case 'f':
		request->force = true;
		break;
	case 'c':
		request->children = true;
		break;
	case 'K':
		request->keep_disks = true;
		break;
	case 'F':
		request->folder = optarg;
		break;
	case 'J':
		args->json = true;
		break;
	case 'h':
		print_usage(args->command);
		exit(0);
	default:	/* getopt has said what is wrong */
		exit(EINVAL);
	}
}

void options_parse(const struct command *command, struct arguments *args, int argc, char **argv)
{
	struct option options[NR_KNOWN + 1], *next = options;
	char letters[2 * NR_KNOWN + 1], *letter = letters;
	int got;

	*args = (struct arguments){ .command = command, .request = { .command = command->does } };
	for (size_t i = 0; i < NR_KNOWN; i++) {
		if (!knows(command, &known[i]))
			continue;
		*next++ = (struct option){ known[i].name, known[i].argument ? required_argument : no_argument, NULL,
					   known[i].letter };
		if (known[i].is_short)
			*letter++ = known[i].letter;
		if (known[i].is_short && known[i].argument)
			*letter++ = ':';
	}
	*next = (struct option){ 0 };
	*letter = '\0';
	while ((got = getopt_long(argc, argv, letters, options, NULL)) != -1)
		set_option(args, got);
	if (argc - optind != command->nr_words)
		fail_usage(command, "it needs %s", command->words);
	if (command->does == DOMAIN_SNAPSHOT_EDIT && !args->request.description)
		fail_usage(command, "it needs -d TEXT");
	args->request.domain = argv[optind];
	args->request.new_name = command->nr_words > 1 ? argv[optind + 1] : NULL;
	args->request.leave_out = args->left_out;
}
