/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xl-snapshot.c - the command line of domain snapshots: runs one operation of
 * the library, shows its progress on a terminal, and prints its result.
 *
 * The first interrupt cancels the operation, which is undone. The exit status
 * is an errno value, as tap-ctl's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "domain.h"
#include "inherited.h"
#include "point.h"
#include "usage.h"
#include "xl-snapshot.h"

static const struct command commands[] = {
	{ "create", DOMAIN_SNAPSHOT_CREATE, "ndLDrpsxSk", "DOMAIN", 1, "take a snapshot: memory and all disks at one instant",
	  print_created },
	{ "list", DOMAIN_SNAPSHOT_QUERY, "nlt", "DOMAIN", 1, "list the domain's snapshots, oldest first", print_list },
	{ "show", DOMAIN_SNAPSHOT_QUERY, "n", "DOMAIN", 1, "show everything about one snapshot", print_show },
	{ "current", DOMAIN_SNAPSHOT_QUERY, "", "DOMAIN", 1, "name the snapshot that the domain was last at", print_current },
	{ "parent", DOMAIN_SNAPSHOT_QUERY, "n", "DOMAIN", 1, "name a snapshot's parent", print_parent },
	{ "edit", DOMAIN_SNAPSHOT_EDIT, "nd", "DOMAIN", 1, "change a snapshot's description", print_nothing },
	{ "revert", DOMAIN_SNAPSHOT_REVERT, "nrpf", "DOMAIN", 1, "revert the domain to a snapshot", print_reverted },
	{ "delete", DOMAIN_SNAPSHOT_DELETE, "ncK", "DOMAIN", 1, "delete a snapshot", print_deleted },
	{ "clone", DOMAIN_SNAPSHOT_CLONE, "nF", "DOMAIN NEWNAME", 2, "create a new domain from a snapshot", print_cloned },
	{ "recover", DOMAIN_SNAPSHOT_RECOVER, "f", "DOMAIN", 1, "clean up after a killed command, as every command does first",
	  print_nothing },
};

#define NR_COMMANDS ARRAY_SIZE(commands)

static int interrupted[2];		/* a pipe */

struct run {
	const struct arguments *args;
	bool over, on_terminal;
	int status;
};

static void print_help(FILE *to)
{
	fprintf(to, "Usage: xl-snapshot COMMAND [OPTION]... DOMAIN\n"
		"Take snapshots of Xen domains, memory and disks, and revert to them.\n\n");
	for (size_t i = 0; i < NR_COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
	fprintf(to, "\nDOMAIN is a name, a number, a uuid, or the path of a config file (with a / in it).\n"
		"'xl-snapshot COMMAND --help' lists its options. Every command takes --json.\n"
		"The exit status is 0 or an errno value. See xl-snapshot(8).\n");
}

/* Also accepts the names of the proposal: snapshot-create and so on. */
static const struct command *find_command(const char *name)
{
	if (!strncmp(name, "snapshot-", 9))
		name += 9;
	for (size_t i = 0; i < NR_COMMANDS; i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static void report(const struct arguments *args, const struct domain_snapshot_result *result)
{
	const char *standard = strerror(-result->error), *text = result->text;

	if (result->error && !*text)
		fprintf(stderr, "xl-snapshot: %s: %s\n", args->command->name, standard);
	else if (result->error && !strstr(text, standard))
		fprintf(stderr, "xl-snapshot: %s: %s (%s)\n", args->command->name, text, standard);
	else if (*text)
		fprintf(stderr, "xl-snapshot: %s: %s\n", args->command->name, text);
}

static void on_done(void *owner, const struct domain_snapshot_result *result)
{
	struct run *run = owner;

	if (run->on_terminal)
		fprintf(stderr, "\r\033[K");
	run->over = true;
	run->status = -result->error;
	report(run->args, result);
	if (run->args->json)
		print_json(run->args, result);
	else if (!result->error || result->count)		/* print partial results, too */
		run->args->command->print(run->args, result);
	if ((fflush(stdout) || ferror(stdout)) && !run->status) {
		fprintf(stderr, "xl-snapshot: %s: it was done, but the output cannot be written\n", run->args->command->name);
		run->status = EIO;
	}
}

static void on_progress(void *owner, const char *step, int percent)
{
	const struct run *run = owner;

	if (!run->on_terminal)
		return;
	if (percent >= 0)
		fprintf(stderr, "\r\033[K%s %d%%", step, percent);
	else
		fprintf(stderr, "\r\033[K%s", step);
}

static void on_signal(int signal)
{
	int error = errno;

	/* if the pipe is full, a signal is pending anyway */
	if (write(interrupted[1], "", 1) < 0)
		errno = error;
	errno = error;
}

static int wait_for_end(struct domain_snapshots *session, struct domain_snapshot_operation *operation, struct run *run)
{
	struct pollfd poll_fds[] = { { .fd = domain_snapshots_fd(session), .events = POLLIN },
				     { .fd = interrupted[0], .events = POLLIN } };
	char byte;

	while (!run->over) {
		if (poll(poll_fds, 2, -1) < 0 && errno != EINTR)
			return errno;
		if (poll_fds[1].revents && read(interrupted[0], &byte, 1) == 1)
			domain_snapshots_cancel(operation);
		domain_snapshots_dispatch(session);
	}
	return run->status;
}

static int run_command(const struct arguments *args)
{
	struct run run = { .args = args, .on_terminal = isatty(STDERR_FILENO) };
	const struct domain_snapshot_callbacks callbacks = { on_done, on_progress, &run };
	struct domain_snapshot_operation *operation;
	struct domain_snapshots *session;
	struct error_text text = { "" };
	int error = domain_snapshots_open_with(&session, xen_host_open, "/proc/self/exe", &text), status;

	if (error) {
		on_done(&run, &(struct domain_snapshot_result){ .error = error, .text = text.text });
		return run.status;
	}
	error = domain_snapshots_start(session, &args->request, &callbacks, &operation, &text);
	if (error)
		on_done(&run, &(struct domain_snapshot_result){ .error = error, .text = text.text });
	status = error ? run.status : wait_for_end(session, operation, &run);
	domain_snapshots_close(session);
	return status;
}

static int prepare(void)
{
	struct sigaction action = { .sa_handler = on_signal };

	signal(SIGPIPE, SIG_IGN);
	test_point("command");		/* not in a guard, which recovers what a test has interrupted */
	if (pipe2(interrupted, O_CLOEXEC | O_NONBLOCK))
		return errno;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	const struct command *command;
	struct arguments args;
	int error;

	process_sanitize_fds();
	if (argc < 2) {
		print_help(stderr);
		return EINVAL;
	}
	if (usage_answer("xl-snapshot", argv[1], print_help))
		return 0;
	xenstored_by_socket_only();
	if (!strcmp(argv[1], "guard") && argc == 3)
		return guard_run(argv[2]);
	command = find_command(argv[1]);
	if (!command) {
		usage_no_command("xl-snapshot", argv);
		return EINVAL;
	}
	options_parse(command, &args, argc - 1, argv + 1);
	error = prepare();
	if (error) {
		fprintf(stderr, "xl-snapshot: %s\n", strerror(error));
		return error;
	}
	return run_command(&args);
}
