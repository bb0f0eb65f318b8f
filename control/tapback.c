/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback.c - the daemon that connects Xen guests' disks to tapdisks: the
 * xenbus handshake for backend/vbd3.
 *
 * It carries no data and may be stopped and started under running guests.
 * Only one may run in a run directory: it holds a lock on a file there.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "inherited.h"
#include "json_memory.h"
#include "path.h"
#include "protocol.h"
#include "tapback_bus.h"
#include "tapback_log.h"

/* How long xenstored may take for its first answers. */
#define XENSTORE_TIMEOUT_S 10

struct options {
	bool foreground;
	enum tapback_log_detail detail;
	char pidfile[PATH_MAX];		/* absolute; "": none */
	unsigned queues;		/* offered to each frontend */
};

static const char help[] =
	"Usage: tapback [OPTION]...\n"
	"Connect the disks of Xen guests (backendtype=tap) to their tapdisks.\n\n"
	"  -f, --foreground    do not become a daemon; log to stderr instead of syslog\n"
	"  -v, --verbose       log every state change of every disk\n"
	"  -d, --debug         log every xenstore event too\n"
	"  -p, --pidfile FILE  write the process id to FILE\n"
	"  -q, --queues N      offer each frontend N queues (default: one per processor, at most 4)\n"
	"  -h, --help          this text\n"
	"  -V, --version       the version\n";

static int report_error(const char *what, int error)
{
	fprintf(stderr, "tapback: %s: %s\n", what, strerror(-error));
	return error;
}

/* Returns an open descriptor that keeps the lock, or -errno after saying why. */
static int take_lock(void)
{
	struct error_text text = { "" };
	char path[XENSTORE_PATH_MAX];
	int fd = path_make_run_dir(&text);

	if (fd) {
		fprintf(stderr, "tapback: %s\n", text.text);
		return fd;
	}
	if (snprintf(path, sizeof(path), TAPBACK_LOCK_FORMAT, path_run_dir()) >= (int)sizeof(path))
		return report_error(path_run_dir(), -ENAMETOOLONG);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return report_error(path, -errno);
	if (!flock(fd, LOCK_EX | LOCK_NB))
		return fd;
	if (errno == EWOULDBLOCK)
		fprintf(stderr, "tapback: another tapback is running (it holds %s)\n", path);
	else
		report_error(path, -errno);
	close(fd);
	return -EBUSY;
}

/* Make the path absolute, because the daemon changes to another directory. */
static int name_pidfile(char *absolute, const char *path)
{
	bool relative = *path != '/';

	if (relative && !getcwd(absolute, PATH_MAX))
		return report_error(path, -errno);
	if (relative)
		strncat(absolute, "/", PATH_MAX - 1 - strlen(absolute));
	if (strlen(absolute) + strlen(path) >= PATH_MAX)
		return report_error(path, -ENAMETOOLONG);
	strcat(absolute, path);
	return 0;
}

static int write_pidfile(const char *path)
{
	FILE *file = fopen(path, "we");
	int error = file && fprintf(file, "%d\n", getpid()) > 0 ? 0 : -errno;

	if (file && fclose(file) && !error)
		error = -errno;
	return error ? report_error(path, error) : 0;
}

/*
 * Go into the background. The parent waits until the child reports by
 * *@ready_fd that it is ready, and exits 0, or until the child has failed, and
 * exits 1. Call this before libxenstore starts its thread.
 */
static int become_daemon(int *ready_fd)
{
	int fds[2];
	char ready;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return report_error("pipe", -errno);
	pid = fork();
	if (pid < 0)
		return report_error("fork", -errno);
	if (pid) {
		close(fds[1]);
		_exit(read(fds[0], &ready, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
	}
	close(fds[0]);
	if (setsid() < 0 || chdir("/"))
		return report_error("daemon", -errno);
	*ready_fd = fds[1];
	return 0;
}

/* Tell systemd, or our parent, that we are ready, and leave the parent's terminal. */
static int report_ready(int ready_fd)
{
	int null;

	sd_notify(0, "READY=1");
	if (ready_fd < 0)
		return 0;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return report_error("/dev/null", -errno);
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return -errno;
	close(null);
	if (write(ready_fd, "", 1) != 1)
		return -EPIPE;
	close(ready_fd);
	return 0;
}

static int make_event_loop(sd_event **event)
{
	sigset_t stop;
	int error = sd_event_new(event);

	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	if (!error && sigprocmask(SIG_BLOCK, &stop, NULL))
		error = -errno;
	/* without a handler the loop exits with 0 */
	if (!error)
		error = sd_event_add_signal(*event, NULL, SIGTERM, NULL, NULL);
	if (error >= 0)
		error = sd_event_add_signal(*event, NULL, SIGINT, NULL, NULL);
	return error < 0 ? report_error("event loop", error) : 0;
}

/*
 * Without xenstored libxenstore falls back to the kernel, where in dom0 the
 * first request blocks for ever. No call has a timeout, so a signal ends it.
 */
static void xenstore_timeout(int number)
{
	static const char line[] = "tapback: xenstored does not answer (is it running?)\n";

	/* if even the message fails, the exit status shows it */
	_exit(write(STDERR_FILENO, line, sizeof(line) - 1) < 0 ? 2 : EXIT_FAILURE);
}

static int attach_to_xenstore(struct tapback *tapback)
{
	char *domid;
	int error;

	signal(SIGALRM, xenstore_timeout);
	alarm(XENSTORE_TIMEOUT_S);
	error = xenstore_open(&tapback->xenstore);
	if (error)
		return report_error("cannot reach xenstored (is this a Xen host, and is it running?)", error);
	/* start with a read, which a signal can interrupt; the kernel's part of a watch cannot be */
	error = xenstore_read(tapback->xenstore, "domid", NULL, &domid);
	if (!error)
		free(domid);
	if (!error || error == -ENOENT)
		error = bus_start(tapback);
	alarm(0);
	return error ? report_error("cannot watch " BACKEND_ROOT " in xenstore", error) : 0;
}

static int run(struct tapback *tapback, const struct options *options, int ready_fd)
{
	int error = make_event_loop(&tapback->event);

	if (error)
		return error;
	error = attach_to_xenstore(tapback);
	if (error)
		return error;
	if (*options->pidfile && (error = write_pidfile(options->pidfile)))
		return error;
	tapback_log_open(options->foreground, options->detail);
	error = report_ready(ready_fd);
	if (error)
		return error;
	tapback_log(LOG_NOTICE, "version %s, serving " BACKEND_ROOT, VERSION);
	error = sd_event_loop(tapback->event);
	sd_notify(0, "STOPPING=1");
	return error;
}

static void clean_up(struct tapback *tapback, const struct options *options)
{
	bus_stop(tapback);
	xenstore_close(tapback->xenstore);
	sd_event_unref(tapback->event);
	if (*options->pidfile)
		unlink(options->pidfile);
}

static int parse_queues(const char *text, unsigned *queues)
{
	uint64_t number;

	if (xenstore_parse_number(text, MAX_QUEUES, &number) || !number) {
		fprintf(stderr, "tapback: --queues %s: it takes a number of 1 to %d\n", text, MAX_QUEUES);
		return -EINVAL;
	}
	*queues = (unsigned)number;
	return 0;
}

/* -1: continue; else the exit status. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option known[] = {
		{ "foreground", no_argument, NULL, 'f' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "debug", no_argument, NULL, 'd' },
		{ "pidfile", required_argument, NULL, 'p' },
		{ "queues", required_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "fvdp:q:hV", known, NULL)) >= 0) {
		switch (c) {
		case 'f': options->foreground = true; break;
		case 'v': options->detail = TAPBACK_LOG_VERBOSE; break;
		case 'd': options->detail = TAPBACK_LOG_DEBUG; break;
		case 'p':
			options->pidfile[0] = '\0';
			if (name_pidfile(options->pidfile, optarg))
				return EXIT_FAILURE;
			break;
		case 'q':
			if (parse_queues(optarg, &options->queues))
				return EXIT_FAILURE;
			break;
		case 'h': fputs(help, stdout); return EXIT_SUCCESS;
		case 'V': puts("tapback (tapsnap) " VERSION); return EXIT_SUCCESS;
		default: fputs("Try 'tapback --help'.\n", stderr); return EXIT_FAILURE;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "tapback: unexpected argument '%s'\nTry 'tapback --help'.\n", argv[optind]);
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct options options = { .detail = TAPBACK_LOG_QUIET, .queues = bus_default_queues() };
	struct tapback tapback = { 0 };
	int status, ready_fd = -1, lock, error;

	process_sanitize_fds();
	status = parse_options(argc, argv, &options);
	json_memory_init();
	if (status >= 0)
		return status;
	tapback.max_queues = options.queues;
	signal(SIGPIPE, SIG_IGN);
	tapback_log_open(true, options.detail);
	lock = take_lock();		/* kept until we exit, by the child too */
	if (lock < 0)
		return EXIT_FAILURE;
	if (!options.foreground && become_daemon(&ready_fd))
		return EXIT_FAILURE;
	error = run(&tapback, &options, ready_fd);
	clean_up(&tapback, &options);
	return error < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
