/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-options.c - options, one table for all commands, so that a letter
 * means the same thing everywhere.
 *
 * Those of blktap that stand for what tapdisk does not do are known and
 * refused by name: ignoring one would leave a guest without what its
 * administrator asked for.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"
#include "size.h"
#include "tap-ctl.h"

#define MAX_TIMEOUT_S 86400
#define MAX_RATE_MIB (1 << 20)
#define MAX_LEASE_MS 60000
#define MAX_CACHE_MIB 65536
#define JSON_LETTER 'J'
#define DEBUG_LETTER 'X'
#define ALWAYS "hJX"		/* what every command knows */

static const struct known_option {
	char letter;
	const char *name;
	const char *argument;		/* NULL: takes none */
	const char *help;
} known_options[] = {
	{ 'p', "pid", "PID", "the tapdisk process" },
	{ 'm', "minor", "MINOR", "the disk's minor" },
	{ 'a', "args", "TYPE:PATH", "the image" },
	{ 'R', "read-only", NULL, "refuse the guest's writes" },
	{ 'D', "no-direct", NULL, "go through the page cache (no O_DIRECT)" },
	{ 'q', "beside-qemu", NULL, "the guest's QEMU opens the image, too: do not lock it against QEMU" },
	{ 'b', "sector-size", "BYTES", "the sector size the guest sees: 512 (default) or 4096" },
	{ 'M', "cache", "MIB", "memory for the map of a snapshot store, in MiB: 1 to 65536 (default: 32)" },
	{ 'P', "on-error", "POLICY", "what becomes of requests that the disk fails: report, enospc (default) or stop" },
	{ 'o', "domain", "DOMAIN", "all disks of this domain, by number or name, instead of -p and -m" },
	{ 'n', "name", "NAME", "the snapshot" },
	{ 'i', "iops", "N", "requests a second at most; 0: no limit" },
	{ 'B', "bytes", "SIZE", "bytes a second at most, or with k M G T; 0: no limit" },
	{ 'u', "burst", "MS", "so many milliseconds' worth may come at once (100)" },
	{ 'O', "overlay", "DIR", "let clients write to a file in DIR, which is gone with the export; the snapshot stays" },
	{ 'x', "tls-x509", "DIR", "TLS, with the certificates in DIR: server-cert.pem, server-key.pem, ca-cert.pem" },
	{ 'V', "tls-verify", NULL, "clients need a certificate that ca-cert.pem has signed" },
	{ 'k', "tls-psk", "DIR", "TLS, with pre-shared keys: DIR/keys.psk" },
	{ 'l', "lease", "MS", "how long a disk stands still at most when something goes wrong (5000)" },
	{ 't', "timeout", "SECONDS", "give up waiting after this time; the command itself goes on" },
	{ 'f', "force", NULL, "also when a frontend is connected" },
	{ 'J', "json", NULL, "print the result as JSON" },
	{ 'h', "help", NULL, "this text" },
	{ 'X', "debug", NULL, NULL },
	{ '2', "secondary", "PATH", NULL },
	{ 'e', "existing-parent", "MINOR", NULL },
	{ 'r', "read-cache", NULL, NULL },
	{ 's', "standby", NULL, NULL },
	{ 'C', "log", "PATH", NULL },
	{ 'c', "log", "PATH", NULL },
	{ 'E', "encryption-key", NULL, NULL },
	{ 'd', "device", "NAME", NULL },
};

/* What some letters mean in one command only. */
static const struct {
	const struct command *command;
	struct known_option option;
} special_options[] = {
	{ &command_list, { 't', "type", "TYPE", "only disks of this type" } },
	{ &command_list, { 'f', "file", "PATH", "only disks with exactly this path" } },
	{ &command_snapshot_create, { 's', "store", "PATH", "of a raw disk: the store to be made for it, or a directory for it" } },
	{ &command_snapshot_create, { 'd', "description", "TEXT", "what to remember about it" } },
	{ &command_resize, { 's', "size", "SIZE", "the new size of a disk in a snapshot store: bytes, or with k M G T P" } },
	{ &command_commit, { 'r', "rate", "MIB", "copy at most so many MiB in a second; 0: no limit (default)" } },
	{ &command_commit, { 'c', "cancel", NULL, "end a commit that is going on: the disk stays in the store" } },
	{ &command_commit, { 'w', "no-wait", NULL, "do not wait for its end: 'tap-ctl info' tells how it goes" } },
	{ &command_events, { 'm', "minor", "MINOR", "of this disk only" } },
	{ &command_events, { 'w', "wait", "EVENT", "end with the first event of that name, and print no other" } },
	{ &command_events, { 't', "timeout", "SECONDS", "end after this time; with -w that is an error" } },
	{ &command_on_error, { 'P', "policy", "POLICY", "from now on: report, enospc or stop" } },
	{ &command_export, { 'R', "read-only", NULL, "refuse the clients' writes" } },
	{ &command_export, { 'n', "name", "NAME", "the snapshot of that name, not the disk" } },
	{ &command_pause, { 'f', "force", NULL, "also when the image cannot be flushed: unflushed writes are lost" } },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct known_option *find_option(const struct command *command, char letter)
{
	size_t i;

	for (i = 0; i < COUNT(special_options); i++) {
		if (special_options[i].command == command && special_options[i].option.letter == letter)
			return &special_options[i].option;
	}
	for (i = 0; i < COUNT(known_options); i++) {
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

static void print_usage(const struct command *command)
{
	const struct known_option *option;
	const char *letter;
	char name[64];

	printf("Usage: tap-ctl %s%s%s", command->name, *command->words ? " " : "", command->words);
	for (letter = command->options; *letter; letter++)
		print_option(command, *letter);
	printf(" [--json]\n");
	printf("%c%s.\n\n", command->summary[0] & ~0x20, command->summary + 1);
	for (letter = command->options; *letter; letter++) {
		option = find_option(command, *letter);
		if (!option->help)
			continue;
		snprintf(name, sizeof(name), "-%c, --%s%s%s", *letter, option->name, option->argument ? " " : "",
			 option->argument ? option->argument : "");
		printf("  %-26s %s\n", name, option->help);
	}
	printf("      --json                 print the result as JSON\n"
	       "  -h, --help                 this text\n");
	if (command->many)
		printf("\n-p and -m may be given several times, one of each for every disk.\n");
	print_types(command);
}

static void __attribute__((noreturn, format(printf, 2, 3)))
fail_usage(const struct command *command, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "tap-ctl: %s: ", command->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "; see 'tap-ctl %s --help' (%s)\n", command->name, strerror(EINVAL));
	exit(EINVAL);
}

static void __attribute__((noreturn)) refuse_option(const struct command *command, char letter)
{
	static const struct { char letter; const char *what; } refused[] = {
		{ '2', "a secondary image" }, { 's', "a standby image" }, { 'e', "sharing another tapdisk's parent image" },
		{ 'r', "a read cache" }, { 'C', "a log layer" }, { 'c', "a log layer" }, { 'E', "encryption" },
		{ 'd', "choosing the device's name" },
	};
	const char *what = "this";
	size_t i;

	for (i = 0; i < COUNT(refused); i++) {
		if (refused[i].letter == letter)
			what = refused[i].what;
	}
	fprintf(stderr, "tap-ctl: %s: -%c (%s) is something of blktap's that tapdisk does not do; leave it out (%s)\n",
		command->name, letter, what, strerror(EOPNOTSUPP));
	exit(EOPNOTSUPP);
}

static int parse_number(const struct command *command, char letter, int min, int max)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(optarg, &end, 10);
	if (errno || end == optarg || *end || number < min || number > max)
		fail_usage(command, "-%c %s: out of range, it has to be a number from %d to %d", letter, optarg, min, max);
	return (int)number;
}

/* "aio:" or "cow:", whose path is a file's; 0 for others. */
static size_t file_type_length(const char *target)
{
	return !strncmp(target, "aio:", 4) || !strncmp(target, "cow:", 4) ? 4 : 0;
}

/* tapdisk runs in another directory, so a path has to be whole. */
static void set_target(const struct command *command, struct arguments *args, const char *target)
{
	size_t type = file_type_length(target);
	char *directory;

	free(args->made_target);	/* the last one given counts */
	args->made_target = NULL;
	args->target = target;
	args->read_only |= tapctl_store_is_snapshot(target);
	if (!type || target[type] == '/' || !target[type])
		return;
	directory = getcwd(NULL, 0);
	if (!directory || asprintf(&args->made_target, "%.*s%s/%s", (int)type, target, directory, target + type) < 0)
		fail_usage(command, "%s: cannot tell the current directory, give the whole path", target);
	free(directory);
	args->target = args->made_target;
}

void options_free(struct arguments *args)
{
	free(args->made_target);
	free(args->disks);
}

/* Of a command that takes many: both numbers of a disk are there, in either order. */
static void complete_disk(const struct command *command, struct arguments *args)
{
	if (!command->many || args->pid == -1 || args->minor == -1)
		return;
	args->disks = reallocarray(args->disks, args->nr_disks + 1, sizeof(*args->disks));
	if (!args->disks)
		fail_usage(command, "out of memory");
	args->disks[args->nr_disks++] = (struct tapctl_disk){ args->pid, args->minor, NULL };
	args->pid = args->minor = -1;
}

static void check_disks(const struct command *command, const struct arguments *args)
{
	if (args->pid != -1 || args->minor != -1)
		fail_usage(command, "-p and -m go together, one of each for every disk");
	if (!args->nr_disks == !args->domain)
		fail_usage(command, args->domain ? "either -o or -p and -m" : "-p PID -m MINOR or -o DOMAIN is missing");
}

static void set_bytes(const struct command *command, struct arguments *args, const char *size)
{
	struct error_text text = { "" };
	uint64_t bytes;

	if (size_parse(size, &bytes, &text))
		fail_usage(command, "%s", text.text);
	if (bytes > THROTTLE_MAX_BYTES)
		fail_usage(command, "-B %s: more than can be limited to", size);
	args->bytes = (int64_t)bytes;
}

static void set_size(const struct command *command, struct arguments *args, const char *size)
{
	struct error_text text = { "" };

	if (size_parse(size, &args->size, &text))
		fail_usage(command, "%s", text.text);
	if (!args->size)
		fail_usage(command, "%s: a disk has a sector at least", size);
}

/* Before the first disk it is for all, after a disk for that one. */
static void set_store(const struct command *command, struct arguments *args, const char *path)
{
	if (args->pid != -1 || args->minor != -1)
		fail_usage(command, "--store goes behind both -p and -m of its disk, or before the first");
	if (args->nr_disks)
		args->disks[args->nr_disks - 1].store = path;
	else
		args->store = path;
}

static void set_option(const struct command *command, struct arguments *args, int letter)
{
	switch (letter) {
	case 'p':
		if (command->many && args->pid != -1)
			fail_usage(command, "-p and -m go together, one of each for every disk");
		args->pid = parse_number(command, 'p', 1, INT_MAX - 1);
		complete_disk(command, args);
		break;
	case 'm':
		if (command->many && args->minor != -1)
			fail_usage(command, "-p and -m go together, one of each for every disk");
		args->minor = parse_number(command, 'm', 0, MINOR_MAX);
		complete_disk(command, args);
		break;
	case 'a':
		set_target(command, args, optarg);
		break;
	case 'o':
		args->domain = optarg;
		break;
	case 'n':
		args->name = optarg;
		break;
	case 'i':
		args->iops = parse_number(command, 'i', 0, THROTTLE_MAX_IOPS);
		break;
	case 'B':
		set_bytes(command, args, optarg);
		break;
	case 'u':
		args->burst_ms = parse_number(command, 'u', 1, THROTTLE_MAX_BURST_MS);
		break;
	case 'l':
		args->lease_ms = (unsigned)parse_number(command, 'l', 1, MAX_LEASE_MS);
		break;
	case 'd':
		if (command != &command_snapshot_create)
			refuse_option(command, (char)letter);
		args->description = optarg;
		break;
	case 's':
		if (command == &command_resize)
			set_size(command, args, optarg);
		else if (command == &command_snapshot_create)
			set_store(command, args, optarg);
		else
			refuse_option(command, (char)letter);
		break;
	case 'r':
		if (command != &command_commit)
			refuse_option(command, (char)letter);
		args->rate = (int64_t)parse_number(command, 'r', 0, MAX_RATE_MIB) << 20;
		break;
	case 'c':
		if (command != &command_commit)
			refuse_option(command, (char)letter);
		args->cancel = true;
		break;
	case 'w':
		if (command == &command_events)
			args->wait_for = optarg;
		else
			args->no_wait = true;
		break;
	case 'P':
		args->on_error = optarg;
		break;
	case 'R':
		args->read_only = true;
		break;
	case 'O':
		args->overlay = optarg;
		break;
	case 'x':
		args->tls_x509 = optarg;
		break;
	case 'V':
		args->tls_verify = true;
		break;
	case 'k':
		args->tls_psk = optarg;
		break;
	case 'D':
		args->no_direct = true;
		break;
	case 'q':
		args->beside_qemu = true;
		break;
	case 'b':
		args->sector_size = parse_number(command, 'b', 512, 4096);
		break;
	case 'M':
		args->cache_mib = parse_number(command, 'M', 1, MAX_CACHE_MIB);
		break;
	case 't':
		if (command == &command_list)
			args->type = optarg;
		else
			args->timeout_ms = parse_number(command, 't', 1, MAX_TIMEOUT_S) * 1000;
		break;
	case 'f':
		args->file = optarg;
		args->force = true;
		break;
	case JSON_LETTER:
		args->json = true;
		break;
	case DEBUG_LETTER:	/* blktap's; all there is to say is said anyway */
		break;
	case 'h':
		print_usage(command);
		exit(0);
	case '?':	/* getopt has said what is wrong */
		exit(EINVAL);
	default:
		refuse_option(command, (char)letter);
	}
}

/* getopt's two tables, of what @command knows. */
static void build_tables(const struct command *command, char *letters, struct option *options)
{
	char all[64];
	const struct known_option *option;
	const char *letter;

	snprintf(all, sizeof(all), "%s" ALWAYS, command->options);
	for (letter = all; *letter; letter++) {
		option = find_option(command, *letter);
		if (*letter != JSON_LETTER && *letter != DEBUG_LETTER) {	/* these have long names only */
			*letters++ = *letter;
			if (option->argument)
				*letters++ = ':';
		}
		*options++ = (struct option){ option->name, option->argument ? required_argument : no_argument, NULL, *letter };
	}
	*letters = '\0';
	*options = (struct option){ 0 };
}

static bool is_given(const struct arguments *args, char letter)
{
	switch (letter) {
	case 'p':
		return args->pid != -1;
	case 'm':
		return args->minor != -1;
	case 'n':
		return args->name;
	default:
		return args->target;
	}
}

void options_parse(const struct command *command, struct arguments *args, int argc, char **argv)
{
	struct option options[64];
	const char *required;
	char letters[128];
	int letter;

	*args = (struct arguments){ .pid = -1, .minor = -1, .timeout_ms = -1, .rate = -1, .iops = -1, .bytes = -1 };
	build_tables(command, letters, options);
	while ((letter = getopt_long(argc, argv, letters, options, NULL)) != -1)
		set_option(command, args, letter);
	for (required = command->required; *required; required++) {
		if (!is_given(args, *required))
			fail_usage(command, "-%c %s is missing", *required, find_option(command, *required)->argument);
	}
	if (command->many)
		check_disks(command, args);
	args->words = argv + optind;
	args->nr_words = argc - optind;
	if (args->nr_words > command->nr_words)
		fail_usage(command, "%s: not expected here", args->words[command->nr_words]);
	if (args->nr_words < command->nr_words)
		fail_usage(command, "it needs %s", command->words);
	if (command == &command_xen_attach)
		set_target(command, args, args->words[2]);
}
