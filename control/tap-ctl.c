/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl.c - the command line: finds the command, runs it, prints the result.
 *
 * Names, options, output without a terminal and the exit status (an errno
 * value, with its text on stderr) are blktap's: hotplug scripts and storage
 * managers depend on them.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "inherited.h"
#include "json_memory.h"
#include "tap-ctl.h"
#include "usage.h"

static const struct command *const commands[] = {
	&command_list, &command_create, &command_destroy, &command_info, &command_stats, &command_pause,
	&command_unpause, &command_resize, &command_throttle, &command_on_error, &command_resume, &command_events,
	&command_xen_attach, &command_xen_detach, &command_allocate, &command_free,
	&command_spawn, &command_attach, &command_detach, &command_open, &command_close,
	&command_snapshot_create, &command_snapshot_list, &command_snapshot_delete, &command_snapshot_revert,
	&command_commit, &command_export, &command_unexport, &command_takeover, &command_upgrade, &command_doctor,
};

#define NR_COMMANDS ARRAY_SIZE(commands)

static void print_help(FILE *to)
{
	size_t i;

	fprintf(to, "Usage: tap-ctl COMMAND [OPTION]...\n"
		"Control the disks that tapdisk serves to Xen guests.\n"
		"\n");
	for (i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-15s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(to, "\n"
		"'tap-ctl COMMAND --help' lists its options. Every command takes --json.\n"
		"The exit status is 0 or an errno value. See tap-ctl(8).\n");
}

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

static int print_json(json_t *result)
{
	char *text = json_dumps(result, isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);

	if (!text || json_memory_failed())
		return -ENOMEM;
	puts(text);
	json_memory_free(text);
	return 0;
}

/* Print the message, and the errno's text, which scripts look for. */
static void report_failure(const struct command *command, const struct arguments *args, int error, const char *text)
{
	const char *standard = strerror(-error);
	json_t *result;

	if (!*text)
		fprintf(stderr, "tap-ctl: %s: %s\n", command->name, standard);
	else if (strstr(text, standard))
		fprintf(stderr, "tap-ctl: %s: %s\n", command->name, text);
	else
		fprintf(stderr, "tap-ctl: %s: %s (%s)\n", command->name, text, standard);
	if (!args->json)
		return;
	result = tapctl_failure_json(error, text);
	if (!result || print_json(result))
		fprintf(stderr, "tap-ctl: %s: no memory to print that as JSON\n", command->name);
	json_decref(result);
}

static int report_success(const struct command *command, const struct arguments *args, json_t *result)
{
	int error = 0;

	if (args->json && !command->prints_itself)
		error = print_json(result);
	else if (command->print)
		command->print(result, isatty(STDOUT_FILENO));
	/* a script must not take truncated output for complete */
	if (error || fflush(stdout) || ferror(stdout)) {
		errno = error ? -error : errno;
		fprintf(stderr, "tap-ctl: %s: the command was done, but its output cannot be written: %s\n", command->name,
			strerror(errno));
		return EIO;
	}
	return command->status ? command->status(result) : 0;
}

static int run_command(const struct command *command, int argc, char **argv)
{
	struct error_text text = { "" };
	struct arguments args;
	json_t *result;
	int error;

	options_parse(command, &args, argc, argv);
	if (strchr(command->options, 'q') && !args.beside_qemu)
		args.beside_qemu = qemu_shares_image(args.target);
	result = json_pack("{s:b}", "ok", 1);
	error = result ? command->run(&args, result, &text) : -ENOMEM;
	if (!error && json_memory_failed())
		error = -ENOMEM;
	if (error)
		report_failure(command, &args, error, text.text);
	else
		error = report_success(command, &args, result);
	json_decref(result);
	options_free(&args);
	if (error)
		interrupts_die();
	return error < 0 ? -error : error;
}

int main(int argc, char **argv)
{
	const struct command *command;

	process_sanitize_fds();
	json_memory_init();
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		print_help(stderr);
		return EINVAL;
	}
	if (usage_answer("tap-ctl", argv[1], print_help))
		return 0;
	command = find_command(argv[1]);
	if (!command) {
		usage_no_command("tap-ctl", argv);
		return EINVAL;
	}
	return run_command(command, argc - 1, argv + 1);
}
