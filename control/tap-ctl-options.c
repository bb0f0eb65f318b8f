/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-options.c - options, one table for all commands, so that a letter
 * means the same thing everywhere.
 *
 * Options of blktap for features that tapdisk does not have are refused by
 * name: if they were ignored, a guest would lack what its administrator asked
 * for.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "block.h"
#include "driver.h"
#include "options.h"
#include "tap-ctl.h"

#define MAX_TIMEOUT_S 86400
#define MAX_RATE_MIB (1 << 20)
#define ALWAYS "JhX"		/* options of every command */

static void set_disk_number(const struct options *, const struct known_option *, struct arguments *, char *);
static void set_target(const struct options *, const struct known_option *, struct arguments *, char *);
static void set_store(const struct options *, const struct known_option *, struct arguments *, char *);
static void print_usage(const struct options *, const struct known_option *, struct arguments *, char *);
static void refuse_option(const struct options *, const struct known_option *, struct arguments *, char *);

#define REFUSED(what) .set = refuse_option, .refused = what

static const struct known_option known_options[] = {
	{ 'p', "pid", "PID", "the tapdisk process", NUMBER(pid, 1, INT_MAX - 1), .set = set_disk_number },
	{ 'm', "minor", "MINOR", "the disk's minor", NUMBER(minor, 0, MINOR_MAX), .set = set_disk_number },
	{ 'a', "args", "TYPE:PATH", "the image", .set = set_target },
	{ 'R', "read-only", NULL, "refuse the guest's writes", FLAG(read_only) },
	{ 'D', "no-direct", NULL, "go through the page cache (no O_DIRECT)", FLAG(no_direct) },
	{ 'q', "beside-qemu", NULL, "the guest's QEMU also opens the image: do not lock it against QEMU", FLAG(beside_qemu) },
	{ 'b', "sector-size", "BYTES", "the sector size the guest sees: 512 (default) or 4096",
	  NUMBER(sector_size, 512, 4096) },
	{ 'M', "cache", "MIB", "memory for the map of a snapshot store, in MiB: 1 to 65536 (default: 32)",
	  NUMBER(cache_mib, 1, CACHE_MAX_MIB) },
	{ 'P', "on-error", "POLICY", "what happens to requests that fail: report, enospc (default) or stop",
	  TEXT(on_error) },
	{ 'o', "domain", "DOMAIN", "all disks of this domain, by number or name, instead of -p and -m", TEXT(domain) },
	{ 'n', "name", "NAME", "the snapshot", TEXT(name) },
	{ 'i', "iops", "N", "requests a second at most; 0: no limit", NUMBER(iops, 0, THROTTLE_MAX_IOPS) },
	{ 'B', "bytes", "SIZE", "bytes a second at most, or with k M G T; 0: no limit", BYTES(bytes, 0, THROTTLE_MAX_BYTES) },
	{ 'u', "burst", "MS", "allow bursts of this many milliseconds' worth (100)",
	  NUMBER(burst_ms, 1, THROTTLE_MAX_BURST_MS) },
	{ 'O', "overlay", "DIR", "let clients write to a file in DIR, deleted with the export; the snapshot is unchanged",
	  TEXT(overlay) },
	{ 'x', "tls-x509", "DIR", "TLS, with the certificates in DIR: server-cert.pem, server-key.pem, ca-cert.pem",
	  TEXT(tls_x509) },
	{ 'V', "tls-verify", NULL, "clients need a certificate that ca-cert.pem has signed", FLAG(tls_verify) },
	{ 'k', "tls-psk", "DIR", "TLS, with pre-shared keys: DIR/keys.psk", TEXT(tls_psk) },
	{ 'l', "lease", "MS", "how long a disk is frozen at most if something goes wrong (5000)",
	  NUMBER(lease_ms, 1, LEASE_MAX_MS) },
	{ 't', "timeout", "SECONDS", "give up waiting after this time; the command itself continues",
	  NUMBER(timeout_ms, 1, MAX_TIMEOUT_S), .unit = 1000 },
	{ 'f', "force", NULL, "even if a frontend is connected", FLAG(force) },
	{ 'A', "all", NULL, "every tapdisk that has a disk", FLAG(all) },
	{ 'J', "json", NULL, "print the result as JSON", FLAG(json), LONG_ONLY },
	{ 'h', "help", NULL, "this text", .set = print_usage },
	{ 'X', "debug", NULL, NULL, LONG_ONLY },	/* blktap's; no effect */
	{ '2', "secondary", "PATH", NULL, REFUSED("a secondary image") },
	{ 'e', "existing-parent", "MINOR", NULL, REFUSED("sharing another tapdisk's parent image") },
	{ 'r', "read-cache", NULL, NULL, REFUSED("a read cache") },
	{ 's', "standby", NULL, NULL, REFUSED("a standby image") },
	{ 'C', "log", "PATH", NULL, REFUSED("a log layer") },
	{ 'c', "log", "PATH", NULL, REFUSED("a log layer") },
	{ 'E', "encryption-key", NULL, NULL, REFUSED("encryption") },
	{ 'd', "device", "NAME", NULL, REFUSED("choosing the device's name") },
};

/* Letters whose meaning differs in one command. */
static const struct {
	const struct command *command;
	struct known_option option;
} special_options[] = {
	{ &command_list, { 't', "type", "TYPE", "only disks of this type", TEXT(type) } },
	{ &command_list, { 'f', "file", "PATH", "only disks with exactly this path", TEXT(file) } },
	{ &command_snapshot_create, { 's', "store", "PATH", "for a raw disk: the store to create, or a directory for it",
	  .set = set_store } },
	{ &command_snapshot_create, { 'd', "description", "TEXT", "a description of it", TEXT(description) } },
	{ &command_resize, { 's', "size", "SIZE", "the new size of a disk in a snapshot store: bytes, or with k M G T P",
	  BYTES(size, SECTOR_SIZE, INT64_MAX) } },
	{ &command_commit, { 'r', "rate", "MIB", "copy at most this many MiB a second; 0: no limit (default)",
	  NUMBER(rate_mib, 0, MAX_RATE_MIB) } },
	{ &command_commit, { 'c', "cancel", NULL, "cancel a running commit: the disk stays in the store",
	  FLAG(cancel) } },
	{ &command_commit, { 'w', "no-wait", NULL, "do not wait for its end: 'tap-ctl info' shows its progress",
	  FLAG(no_wait) } },
	{ &command_events, { 'm', "minor", "MINOR", "of this disk only",
	  NUMBER(minor, 0, MINOR_MAX), .set = set_disk_number } },
	{ &command_events, { 'w', "wait", "EVENT", "wait for the first event of that name, and print only that",
	  TEXT(wait_for) } },
	{ &command_events, { 't', "timeout", "SECONDS", "end after this time; with -w that is an error",
	  NUMBER(timeout_ms, 1, MAX_TIMEOUT_S), .unit = 1000 } },
	{ &command_on_error, { 'P', "policy", "POLICY", "from now on: report, enospc or stop", TEXT(on_error) } },
	{ &command_export, { 'R', "read-only", NULL, "refuse the clients' writes", FLAG(read_only) } },
	{ &command_export, { 'n', "name", "NAME", "the snapshot of that name, not the disk", TEXT(name) } },
	{ &command_pause, { 'f', "force", NULL, "even if the image cannot be flushed: unflushed writes are lost",
	  FLAG(force) } },
};

static const struct known_option *find_option(const struct command *command, char letter)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(special_options); i++) {
		if (special_options[i].command == command && special_options[i].option.letter == letter)
			return &special_options[i].option;
	}
	for (i = 0; i < ARRAY_SIZE(known_options); i++) {
		if (known_options[i].letter == letter)
			return &known_options[i];
	}
	return NULL;
}

static void print_option(const struct command *command, char letter)
{
	const struct known_option *option = find_option(command, letter);
	bool required = strchr(command->required, letter);

	if (option->help)
		printf(required ? " -%c%s%s" : " [-%c%s%s]", letter, option->argument ? " " : "",
		       option->argument ? option->argument : "");
}

/* For the commands that take an image. */
static void print_types(const struct command *command)
{
	if (!strchr(command->options, 'a') && !strstr(command->words, "TYPE:PATH"))
		return;
	printf("\nTypes of images:\n");
	for (size_t i = 0; drivers[i]; i++)
		printf("  %s:%s\n", drivers[i]->name, drivers[i]->help);
}

static void print_usage(const struct options *options, const struct known_option *option, struct arguments *args, char *argument)
{
	const struct command *command = args->command;

	printf("Usage: tap-ctl %s%s%s", command->name, *command->words ? " " : "", command->words);
	for (const char *letter = command->options; *letter; letter++)
		print_option(command, *letter);
	printf(" [--json]\n");
	printf("%c%s.\n\n", command->summary[0] & ~0x20, command->summary + 1);
	options_print_help(options, 22);
	if (command->many)
		printf("\n-p and -m may be given several times, one of each for every disk.\n");
	print_types(command);
	exit(0);
}

static void refuse_option(const struct options *options, const struct known_option *option, struct arguments *args,
			  char *argument)
{
	struct error_text text = { "" };

	error_set(&text, -EOPNOTSUPP, "-%c (%s) is an option of blktap that tapdisk does not have; leave it out", option->letter,
		  option->refused);
	options_refuse(options, -EOPNOTSUPP, text.text);
}

/* The length of "aio:" or "cow:", which take a file's path; 0 for others. */
static size_t file_type_length(const char *target)
{
	return !strncmp(target, "aio:", 4) || !strncmp(target, "cow:", 4) ? 4 : 0;
}

/* Make the path absolute: tapdisk runs in another directory. */
static void set_target(const struct options *options, const struct known_option *option, struct arguments *args, char *target)
{
	size_t type = file_type_length(target);
	char *directory;

	free(args->made_target);	/* the last option counts */
	args->made_target = NULL;
	args->target = target;
	args->read_only |= tapctl_store_is_snapshot(target);
	if (!type || target[type] == '/' || !target[type])
		return;
	directory = getcwd(NULL, 0);
	if (!directory || asprintf(&args->made_target, "%.*s%s/%s", (int)type, target, directory, target + type) < 0)
		options_fail(options, "%s: cannot determine the current directory, give an absolute path", target);
	free(directory);
	args->target = args->made_target;
}

void options_free(struct arguments *args)
{
	free(args->made_target);
	free(args->disks);
}

static void __attribute__((noreturn)) fail_pairs(const struct options *options)
{
	options_fail(options, "-p and -m go together, one of each for every disk");
}

/* In a command that takes many disks, each pair of -p and -m names one, in either order. */
static void set_disk_number(const struct options *options, const struct known_option *option, struct arguments *args,
			    char *argument)
{
	bool many = args->command->many;

	if (many && (option->letter == 'p' ? args->pid : args->minor) != -1)
		fail_pairs(options);
	option_set(options, option, args, argument);
	if (!many || args->pid == -1 || args->minor == -1)
		return;
	args->disks = reallocarray(args->disks, args->nr_disks + 1, sizeof(*args->disks));
	if (!args->disks)
		options_fail(options, "out of memory");
	args->disks[args->nr_disks++] = (struct tapctl_disk){ args->pid, args->minor, NULL };
	args->pid = args->minor = -1;
}

static void check_disks(const struct options *options, const struct arguments *args)
{
	if (args->pid != -1 || args->minor != -1)
		fail_pairs(options);
	if (!args->nr_disks == !args->domain)
		options_fail(options, args->domain ? "give either -o, or -p and -m" :
			     "-p PID -m MINOR or -o DOMAIN is missing");
}

/* Before the first disk it applies to all, after a disk to that one. */
static void set_store(const struct options *options, const struct known_option *option, struct arguments *args, char *path)
{
	if (args->pid != -1 || args->minor != -1)
		options_fail(options, "--store must follow both -p and -m of its disk, or precede the first");
	if (args->nr_disks)
		args->disks[args->nr_disks - 1].store = path;
	else
		args->store = path;
}

void options_parse(const struct command *command, struct arguments *args, int argc, char **argv)
{
	struct options options = { .program = "tap-ctl", .command = command->name };
	const struct known_option **known = options.known;
	const char *letter;
	int first;

	*args = (struct arguments){ .command = command, .pid = -1, .minor = -1, .timeout_ms = -1, .rate_mib = -1, .iops = -1,
				    .bytes = -1 };
	for (letter = command->options; *letter; letter++)
		*known++ = find_option(command, *letter);
	for (letter = ALWAYS; *letter; letter++)
		*known++ = find_option(command, *letter);
	first = options_read(&options, args, argc, argv);
	for (letter = command->required; *letter; letter++) {
		if (!options.given[(int)*letter])
			options_fail(&options, "-%c %s is missing", *letter, find_option(command, *letter)->argument);
	}
	if (command->many)
		check_disks(&options, args);
	args->words = argv + first;
	args->nr_words = argc - first;
	if (args->nr_words > command->nr_words)
		options_fail(&options, "%s: not expected here", args->words[command->nr_words]);
	if (args->nr_words < command->nr_words)
		options_fail(&options, "it needs %s", command->words);
	if (command == &command_xen_attach)
		set_target(&options, NULL, args, args->words[2]);
}
