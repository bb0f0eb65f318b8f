/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xl-snapshot-options.c - the options of each command, and their help.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "options.h"
#include "xl-snapshot.h"

static void set_after(const struct options *options, const struct known_option *option, struct arguments *args, char *argument)
{
	enum domain_snapshot_after after = option->letter == 'r' ? DOMAIN_SNAPSHOT_RUNNING :
					   option->letter == 'p' ? DOMAIN_SNAPSHOT_PAUSED : DOMAIN_SNAPSHOT_SHUTDOWN;

	if (args->request.after != DOMAIN_SNAPSHOT_AS_SAVED && args->request.after != after)
		options_fail(options, "only one of --running, --paused and --shutdown");
	args->request.after = after;
}

/* "xvda,snapshot=no", or "=yes", which is the default. */
static void add_diskspec(const struct options *options, const struct known_option *option, struct arguments *args, char *spec)
{
	char *comma = strchr(spec, ',');

	if (!comma || comma == spec || (strcmp(comma, ",snapshot=no") != 0 && strcmp(comma, ",snapshot=yes") != 0))
		options_fail(options, "--diskspec %s: must be VDEV,snapshot=no", spec);
	if (!strcmp(comma, ",snapshot=yes"))
		return;
	if (args->nr_left_out == MAX_LEFT_OUT)
		options_fail(options, "--diskspec: more than %d", MAX_LEFT_OUT);
	*comma = '\0';
	args->left_out[args->nr_left_out++] = spec;
}

static void print_usage(const struct options *options, const struct known_option *option, struct arguments *args, char *argument)
{
	printf("Usage: xl-snapshot %s [OPTION]... %s\n%s.\n\n", args->command->name, args->command->words, args->command->summary);
	options_print_help(options, 28);
	exit(0);
}

static const struct known_option known[] = {
	{ 'n', "name", "NAME", "the snapshot (create: the epoch second; otherwise the current one)", TEXT(request.name) },
	{ 'd', "description", "TEXT", "a description of it", TEXT(request.description) },
	{ 'L', "live", NULL, "copy the memory while the domain runs, and suspend it only for the rest",
	  FLAG(request.live), LONG_ONLY },
	{ 'D', "disk-only", NULL, "disks only, as a power cut would leave them", FLAG(request.disk_only), LONG_ONLY },
	{ 'r', "running", NULL, "the domain runs afterwards", .set = set_after, LONG_ONLY },
	{ 'p', "paused", NULL, "the domain is paused afterwards", .set = set_after, LONG_ONLY },
	{ 's', "shutdown", NULL, "the domain is gone afterwards, as with xl save", .set = set_after, LONG_ONLY },
	{ 'x', "diskspec", "VDEV,snapshot=no", "leave this disk out; may be given several times",
	  .set = add_diskspec, LONG_ONLY },
	{ 'S', "store", "DIRECTORY", "move raw disks into stores that are created there", TEXT(request.store), LONG_ONLY },
	{ 'k', "hook", "PROGRAM", "run it with 'freeze DOMAIN' before and 'thaw DOMAIN' after", TEXT(request.hook), LONG_ONLY },
	{ 'l', "long", NULL, "show everything about each", FLAG(longer) },
	{ 't', "tree", NULL, "as a tree: each below its parent", FLAG(tree), LONG_ONLY },
	{ 'f', "force", NULL, "revert: even if disks were attached or detached since; recover: without disks that are gone",
	  FLAG(request.force), LONG_ONLY },
	{ 'c', "children", NULL, "also its children and theirs", FLAG(request.children), LONG_ONLY },
	{ 'K', "keep-disks", NULL, "delete only memory and information", FLAG(request.keep_disks), LONG_ONLY },
	{ 'F', "folder", "PATH", "where the new domain's files go (default: each disk's beside its store)",
	  TEXT(request.folder), LONG_ONLY },
	{ 'J', "json", NULL, "print the result as JSON", FLAG(json), LONG_ONLY },
	{ 'h', "help", NULL, "this text", .set = print_usage },
};

void options_parse(const struct command *command, struct arguments *args, int argc, char **argv)
{
	struct options options = { .program = "xl-snapshot", .command = command->name };
	const struct known_option **next = options.known;
	int first;

	*args = (struct arguments){ .command = command, .request = { .command = command->does } };
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (strchr(command->options, known[i].letter) || strchr("Jh", known[i].letter))
			*next++ = &known[i];
	}
	first = options_read(&options, args, argc, argv);
	if (argc - first != command->nr_words)
		options_fail(&options, "it needs %s", command->words);
	if (command->does == DOMAIN_SNAPSHOT_EDIT && !args->request.description)
		options_fail(&options, "it needs -d TEXT");
	args->request.domain = argv[first];
	args->request.new_name = command->nr_words > 1 ? argv[first + 1] : NULL;
	args->request.leave_out = args->left_out;
}
