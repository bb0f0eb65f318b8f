/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * main.c - tapdisk: options, one engine, one loop, the control socket.
 *
 * The parent learns the result of the start through --ready-fd: one line,
 * "listening PID" or "error ERRNO TEXT".
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "confine.h"
#include "heap.h"
#include "image_directories.h"
#include "inherited.h"
#include "json_memory.h"
#include "log.h"
#include "metrics.h"
#include "number.h"
#include "opener.h"
#include "probe.h"
#include "processor.h"
#include "sandbox.h"
#include "takeover.h"
#include "transport.h"

#define ENGINE_DEPTH 1024
#define IDLE_EXIT_S 60		/* a script killed after `spawn` must not leave a process behind */
#define MAX_POLL_US 10000

struct options {
	bool log_stderr;
	const char *engine;
	int ready_fd;			/* -1: none */
	unsigned idle_exit;		/* seconds; 0: stay */
	unsigned poll;			/* microseconds; 0: do not poll */
	unsigned open_timeout;		/* seconds; 0: none */
	bool no_sandbox;
};

struct tapdisk {
	struct loop *loop;
	struct engine *engine;
	struct commands *commands;
	int signal_fd;
	struct loop_source *engine_source, *signal_source, *commit, *timer;
	uint64_t timer_due;		/* loop clock, ns: the engine timer that `timer` waits for; UINT64_MAX: none */
	int error;			/* the engine's, if it ended the loop */
};

static void print_help(void)
{
	printf("Usage: tapdisk [OPTION]...\n"
	       "Serve block devices to Xen guests. Usually started by tap-ctl(8).\n"
	       "\n"
	       "      --log-stderr     log to stderr, not to the system log\n"
	       "      --engine NAME    io_uring or libaio (default: io_uring where it is permitted)\n"
	       "      --ready-fd N     write \"listening PID\" or \"error ERRNO TEXT\" to descriptor N\n"
	       "      --idle-exit SEC  end when no disk is attached within SEC seconds (0: never;\n"
	       "                       default: %d with --ready-fd, 0 without)\n"
	       "      --poll US        before it sleeps, look for up to US microseconds for the next request or\n"
	       "                       completion, while that pays (default: TAPSNAP_POLL, or 0)\n"
	       "      --open-timeout SEC  timeout for storage that does not answer at an open or a close\n"
	       "                       (0: none; default: TAPSNAP_OPEN_TIMEOUT, or %d)\n"
	       "      --no-sandbox     keep all rights and system calls (to check whether the sandbox is at fault)\n"
	       "      --help           this text\n"
	       "      --version        the version\n", IDLE_EXIT_S, PROBE_TIMEOUT_S);
}

/* Parse all options even after an error: the error is reported to --ready-fd, which may come last. */
static int parse_options(struct options *options, int argc, char **argv, struct error_text *text)
{
	static const struct option table[] = {
		{ "log-stderr", no_argument, NULL, 'l' },
		{ "engine", required_argument, NULL, 'e' },
		{ "ready-fd", required_argument, NULL, 'r' },
		{ "idle-exit", required_argument, NULL, 'i' },
		{ "poll", required_argument, NULL, 'p' },
		{ "open-timeout", required_argument, NULL, 'o' },
		{ "no-sandbox", no_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned ready_fd = UINT_MAX, idle_exit = UINT_MAX;
	int option, at, error = 0;

	error |= number_from_environment("TAPSNAP_POLL", MAX_POLL_US, &options->poll, text);
	error |= probe_limit(&options->open_timeout, text);
	while (at = optind, (option = getopt_long(argc, argv, "+:", table, NULL)) != -1) {
		switch (option) {
		case 'l':
			options->log_stderr = true;
			break;
		case 'e':
			options->engine = optarg;
			break;
		case 'r':
			error |= number_parse(optarg, "--ready-fd", INT_MAX, &ready_fd, text);
			break;
		case 'i':
			error |= number_parse(optarg, "--idle-exit", UINT_MAX / 1000, &idle_exit, text);
			break;
		case 'p':
			error |= number_parse(optarg, "--poll", MAX_POLL_US, &options->poll, text);
			break;
		case 'o':
			error |= number_parse(optarg, "--open-timeout", PROBE_TIMEOUT_MAX_S, &options->open_timeout, text);
			break;
		case 's':
			options->no_sandbox = true;
			break;
		case 'h':
			print_help();
			exit(0);
		case 'v':
			printf("tapdisk (tapsnap) " VERSION "\n");
			exit(0);
		case ':':
			error |= error_set(text, -EINVAL, "%s needs a value", argv[at]);
			break;
		default:
			error |= error_set(text, -EINVAL, "%s: unknown option, or it takes no value", argv[at]);
		}
	}
	if (optind < argc)
		error |= error_set(text, -EINVAL, "%s: unexpected argument", argv[optind]);
	options->ready_fd = ready_fd == UINT_MAX ? -1 : (int)ready_fd;
	options->idle_exit = idle_exit != UINT_MAX ? idle_exit : options->ready_fd >= 0 ? IDLE_EXIT_S : 0;
	return error ? -EINVAL : 0;
}

/* Each queue of each frontend needs descriptors: set the limit for all of them. */
static void limit_descriptors(void)
{
	struct rlimit limit = { CONFINE_MAX_FILES, CONFINE_MAX_FILES };

	if (!setrlimit(RLIMIT_NOFILE, &limit))
		return;
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		limit.rlim_cur = limit.rlim_max;	/* we may not raise the hard limit */
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warning("cannot raise the limit of open files: %s", strerror(errno));
}

static void lift_limit(int resource, const char *name)
{
	struct rlimit limit, none = { RLIM_INFINITY, RLIM_INFINITY };

	if (getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY || !setrlimit(resource, &none))
		return;
	limit.rlim_cur = limit.rlim_max;	/* not ours to raise further */
	setrlimit(resource, &limit);
	if (limit.rlim_max != RLIM_INFINITY)
		log_warning("the limit of %s cannot be lifted", name);
}

/* What a shell limits for its user's programs would fail a guest's writes, or end its disk after some days. */
static void lift_limits(void)
{
	lift_limit(RLIMIT_FSIZE, "the size of files");
	lift_limit(RLIMIT_CPU, "processor time");
}

static void signal_ready(void *arg, uint32_t events)
{
	struct tapdisk *tapdisk = arg;
	struct signalfd_siginfo info;

	if (read(tapdisk->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	log_info("%s: closing all disks", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	commands_shutdown(tapdisk->commands);
}

/* Called before any thread starts, so that no thread takes the signals. Unblocks what the parent had blocked. */
static int setup_signals(struct tapdisk *tapdisk)
{
	sigset_t ours;
	int error;

	sigemptyset(&ours);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGINT);
	sigprocmask(SIG_SETMASK, &ours, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* the write fails */
	tapdisk->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	if (tapdisk->signal_fd < 0)
		return -errno;
	error = loop_add_fd(tapdisk->loop, &tapdisk->signal_source, tapdisk->signal_fd, EPOLLIN, signal_ready, tapdisk);
	return error;
}

static void engine_ready(void *arg, uint32_t events)
{
	struct tapdisk *tapdisk = arg;

	if (engine_reap(tapdisk->engine) > 0)
		processor_used();
}

/* An io_uring completion may interrupt the sleep. */
static void engine_interrupted(void *arg)
{
	engine_ready(arg, EPOLLIN);
}

static void timer_expired(void *arg)
{
	struct tapdisk *tapdisk = arg;

	tapdisk->timer = NULL;
	tapdisk->timer_due = UINT64_MAX;
	engine_run_timers(tapdisk->engine, loop_clock());
}

/* Wake the loop when the engine's next timer is due. Without memory, retry before a later sleep. */
static void watch_timers(struct tapdisk *tapdisk)
{
	uint64_t due = engine_next_timer(tapdisk->engine), now;

	if (due == tapdisk->timer_due)
		return;
	loop_remove(tapdisk->timer);
	tapdisk->timer = NULL;
	tapdisk->timer_due = UINT64_MAX;
	now = loop_clock();
	if (due == UINT64_MAX ||
	    loop_add_timer(tapdisk->loop, &tapdisk->timer, due > now ? (unsigned)((due - now + 999999) / 1000000) : 0,
			   timer_expired, tapdisk))
		return;
	tapdisk->timer_due = due;
}

/*
 * Runs after the hooks of all disks: one submission for all of them. Reaps what
 * has completed meanwhile, so that it is answered before the sleep.
 */
static bool commit_engine(void *arg)
{
	struct tapdisk *tapdisk = arg;
	int error = engine_commit(tapdisk->engine);

	watch_timers(tapdisk);
	processor_turn();
	if (!error)
		return engine_reap(tapdisk->engine) > 0;
	/* end the process: guests must see a dead backend, not a hanging one */
	log_error("engine %s: %s", tapdisk->engine->ops->name, strerror(-error));
	tapdisk->error = error;
	loop_quit(tapdisk->loop);
	return false;
}

static int setup_engine(struct tapdisk *tapdisk, const char *name, struct error_text *text)
{
	int error = engine_open(&tapdisk->engine, name, ENGINE_DEPTH);

	if (error == -EINVAL && name)
		return error_set(text, error, "there is no engine '%s', choose io_uring or libaio", name);
	if (error == -EDQUOT)		/* engine_libaio.c */
		return error_set(text, error, "engine libaio: the machine's limit of asynchronous I/O is used up: "
				 "raise it (sysctl fs.aio-max-nr), or permit io_uring");
	if (error && !name)
		return error_set(text, error, "no I/O engine can be opened: %s", strerror(-error));
	if (error)
		return error_set(text, error, "engine %s: %s", name, strerror(-error));
	if (tapdisk->engine->uring_error)
		log_warning("io_uring is not available (%s): using libaio", strerror(-tapdisk->engine->uring_error));
	if (engine_fd(tapdisk->engine) < 0)
		return error_set(text, -EINVAL, "the engine '%s' is for tools only, choose io_uring or libaio", name);
	loop_set_interrupted(tapdisk->loop, engine_interrupted, tapdisk);
	error = loop_add_prepare(tapdisk->loop, &tapdisk->commit, commit_engine, tapdisk);
	if (!error)
		error = loop_add_fd(tapdisk->loop, &tapdisk->engine_source, engine_fd(tapdisk->engine), EPOLLIN, engine_ready,
				    tapdisk);
	return error ? error_set(text, error, "event loop: %s", strerror(-error)) : 0;
}

static int setup(struct tapdisk *tapdisk, const struct options *options, struct error_text *text)
{
	int error = loop_create(&tapdisk->loop);

	if (!error)
		error = setup_signals(tapdisk);
	if (error)
		return error_set(text, error, "event loop: %s", strerror(-error));
	loop_set_poll(tapdisk->loop, options->poll);
	error = setup_engine(tapdisk, options->engine, text);
	if (error)
		return error;
	error = takeover_start(tapdisk->engine, text);
	if (error)
		return error;
	error = commands_start(&tapdisk->commands, tapdisk->loop, tapdisk->engine, text);
	if (error)
		return error;
	commands_limit_opens(tapdisk->commands, options->open_timeout);
	if (options->idle_exit)
		error = commands_expire(tapdisk->commands, options->idle_exit);
	return error ? error_set(text, error, "timer: %s", strerror(-error)) : 0;
}

/* Split into two processes: the opener, which opens files, and this one, which serves guests. */
static int separate(const struct confine_user *user, struct error_text *text)
{
	struct sock_fprog filter = { 0 };
	struct opener_report report;
	char *const *directories;
	int error = image_directories(&directories, text);	/* before the fork, for both processes */

	if (!error)
		error = sandbox_prepare(&filter, SANDBOX_OPENER, text);
	if (error)
		return error;
	/* gntdev belongs to the process that opens it, and only root may open it: the opener cannot pass it to us */
	transport_xen_prepare();
	error = opener_start(&filter, &report);
	free(filter.filter);
	if (report.warning.text[0])
		log_warning("%s", report.warning.text);
	return error ? error_set(text, error, "%s", report.text.text) : confine_to_user(user, report.landlocked, text);
}

static int confine_alone(struct error_text *text)
{
	struct error_text warning = { "" };
	int error;

	if (!geteuid())
		log_warning("no right to change to user " CONFINE_USER " (CAP_SETUID, CAP_SETGID): staying root");
	error = confine(&warning, text);
	if (warning.text[0])
		log_warning("%s", warning.text);
	return error;
}

static int setup_sandboxed(struct tapdisk *tapdisk, const struct options *options, struct error_text *text)
{
	struct sock_fprog filter = { 0 };
	struct confine_user user;
	bool separated = confine_has_user(&user);
	int error = sandbox_prepare(&filter, separated ? SANDBOX_SERVED : SANDBOX_ALONE, text);

	if (!error)
		error = separated ? separate(&user, text) : confine_alone(text);
	if (!error)
		error = setup(tapdisk, options, text);
	if (!error)
		error = sandbox_enter(&filter, text);
	free(filter.filter);
	return error;
}

/* With I/O in flight (the loop failed) the engine stays open: the kernel uses its buffers until the process ends. */
static void teardown(struct tapdisk *tapdisk)
{
	/* while a disk is open (left to a successor, or the loop failed), hold the lock until the process ends */
	if (!commands_have_open(tapdisk->commands))
		takeover_stop();
	commands_stop(tapdisk->commands);
	metrics_remove_directory();
	loop_remove(tapdisk->engine_source);
	loop_remove(tapdisk->commit);
	loop_remove(tapdisk->timer);
	loop_remove(tapdisk->signal_source);
	if (tapdisk->engine && !tapdisk->engine->queued)
		engine_close(tapdisk->engine);
	if (tapdisk->signal_fd >= 0)
		close(tapdisk->signal_fd);
	loop_destroy(tapdisk->loop);
}

/* Report the result to --ready-fd and the log; an error goes to stderr if neither is there. */
static void report(const struct options *options, int error, const struct error_text *text)
{
	int fd = options->ready_fd;

	if (error)
		log_error("%s", text->text);
	if (error && !options->log_stderr && fd < 0)
		fprintf(stderr, "tapdisk: %s\n", text->text);
	if (fd < 0)
		return;
	/* the reader may be gone: errors are in the log, too */
	if (error)
		dprintf(fd, "error %d %s\n", -error, text->text);
	else
		dprintf(fd, "listening %d\n", (int)getpid());
	close(fd);
}

int main(int argc, char **argv)
{
	struct options options = { 0 };
	struct tapdisk tapdisk = { .signal_fd = -1, .timer_due = UINT64_MAX };
	struct error_text text = { "" };
	int error;

	process_sanitize_fds();
	error = parse_options(&options, argc, argv, &text);
	log_open("tapdisk", options.log_stderr);
	if (error) {
		report(&options, error, &text);
		return EINVAL;
	}
	heap_init();
	json_memory_init();
	umask(077);
	limit_descriptors();
	lift_limits();
	error = (options.no_sandbox ? setup : setup_sandboxed)(&tapdisk, &options, &text);
	if (!error)
		log_info("version " VERSION ", pid %d, engine %s", (int)getpid(), tapdisk.engine->ops->name);
	report(&options, error, &text);
	if (!error) {
		error = loop_run(tapdisk.loop);
		if (!error)
			error = tapdisk.error;
	}
	teardown(&tapdisk);
	return error ? 1 : 0;
}
