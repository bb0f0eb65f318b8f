/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls.c - tapdisk-tls: TLS in front of an NBD export, for clients from other
 * machines. tap-ctl export starts it.
 *
 * It is a separate program to keep an X.509 library and network input out of
 * the process that serves guests, and has separate processes for each client,
 * so that a client that stalls, or authenticates slowly, delays no other:
 *
 *   listener --> connector, root: waits for one byte, says so, connects to the NBD server
 *                    |
 *                 session, nobody: all that comes from the client (tls_process.c, tls_session.c)
 *
 * Clients that have not shown their credentials keep nobody else out (tls_clients.h).
 *
 * It ends when the socket behind is removed, which tapdisk does at the end of
 * the export, and when tapdisk itself has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "descriptors.h"
#include "inherited.h"
#include "sandbox.h"
#include "tls.h"
#include "tls_clients.h"

#define LINES_A_SECOND 10

struct options {
	const char *x509, *psk, *server;
	bool verify;
	int pid, listener, ready;
};

static void print_help(void)
{
	printf("Usage: tapdisk-tls OPTION...\n"
	       "TLS in front of an NBD export. Started by 'tap-ctl export' (tap-ctl(8)).\n"
	       "\n"
	       "      --server PATH      the NBD server's Unix socket; its removal ends this program\n"
	       "      --pid N            the NBD server's process; its end also ends this program\n"
	       "      --listen-fd N      the socket that clients connect to\n"
	       "      --tls-x509 DIR     with server-cert.pem, server-key.pem and, for --tls-verify, ca-cert.pem\n"
	       "      --tls-verify       clients need a certificate that the CA has signed\n"
	       "      --tls-psk DIR      with keys.psk: NAME:KEY lines\n"
	       "      --ready-fd N       write \"ready\" or \"error ERRNO TEXT\" to descriptor N\n"
	       "      --help             this text\n"
	       "      --version          the version\n");
}

static int parse_number(const char *text, const char *what)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (*text && !*end && number >= 0 && number <= INT_MAX)
		return (int)number;
	fprintf(stderr, "tapdisk-tls: %s: not a %s\n", text, what);
	exit(EINVAL);
}

static void parse_options(struct options *options, int argc, char **argv)
{
	static const struct option table[] = {
		{ "server", required_argument, NULL, 's' }, { "listen-fd", required_argument, NULL, 'l' },
		{ "pid", required_argument, NULL, 'p' },
		{ "tls-x509", required_argument, NULL, 'x' }, { "tls-psk", required_argument, NULL, 'k' },
		{ "tls-verify", no_argument, NULL, 'v' }, { "ready-fd", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case 's':
			options->server = optarg;
			break;
		case 'l':
			options->listener = parse_number(optarg, "descriptor");
			break;
		case 'p':
			options->pid = parse_number(optarg, "process");
			break;
		case 'x':
			options->x509 = optarg;
			break;
		case 'k':
			options->psk = optarg;
			break;
		case 'v':
			options->verify = true;
			break;
		case 'r':
			options->ready = parse_number(optarg, "descriptor");
			break;
		case 'h':
			print_help();
			exit(0);
		case 'V':
			printf("tapdisk-tls (tapsnap) " VERSION "\n");
			exit(0);
		default:
			exit(EINVAL);
		}
	}
	if (optind < argc || !options->server || !options->pid || options->listener < 0 || !options->x509 == !options->psk) {
		fprintf(stderr, "tapdisk-tls: --server, --pid, --listen-fd and one of --tls-x509 and --tls-psk are needed\n");
		exit(EINVAL);
	}
}

struct server {
	struct tls_credentials credentials;
	struct sock_fprog filter;	/* of sessions */
	const char *path;
	int listener, watch, signals;
	int tapdisk;			/* a pidfd */
	int reports[2];			/* a pipe: a line for each session that failed */
	int arrivals[2];		/* a pipe: the connector's pid for each client that has shown its credentials */
	struct tls_clients clients;
};

/* Limits the rate: unauthenticated clients must not fill the log. */
static void log_reports(struct server *server)
{
	static time_t second;
	static unsigned lines;
	char text[512];
	ssize_t got = read(server->reports[0], text, sizeof(text) - 1);
	time_t now = time(NULL);

	if (got <= 0)
		return;
	text[got] = '\0';
	if (now != second)
		lines = 0;
	second = now;
	for (const char *line = text; *line && lines < LINES_A_SECOND; lines++) {
		syslog(LOG_WARNING, "a client is refused: %.*s", (int)strcspn(line, "\n"), line);
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
}

/* Wait for the session's byte, then connect it to the NBD server. */
static void connect_session(const struct server *server, int session_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const pid_t self = getpid();
	char byte;
	int fd;

	if (recv(session_fd, &byte, 1, 0) != 1 || write(server->arrivals[1], &self, sizeof(self)) != sizeof(self))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, server->path);		/* setup() has checked the length */
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&address, sizeof(address)))
		descriptor_send(session_fd, fd, MSG_NOSIGNAL);
	if (fd >= 0)
		close(fd);
}

/* Close the listener's descriptors: a session must not read the other sessions' reports. */
static void leave_files(const struct server *server)
{
	close(server->listener);
	close(server->watch);
	close(server->signals);
	close(server->tapdisk);
	close(server->reports[0]);
	close(server->arrivals[0]);
}

static void __attribute__((noreturn)) connector(const struct server *server, int client)
{
	int pair[2];
	sigset_t none;
	pid_t child;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	leave_files(server);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		_exit(1);
	child = fork();
	if (!child) {
		close(pair[0]);
		close(server->arrivals[1]);
		tls_process_run(&server->credentials, &server->filter, client, pair[1], server->reports[1]);
	}
	close(pair[1]);
	close(client);
	if (child > 0)
		connect_session(server, pair[0]);
	close(pair[0]);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

static void accept_client(struct server *server)
{
	int client = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
	const int on = 1;
	pid_t child;

	if (client < 0)
		return;
	if (tls_clients_make_room(&server->clients))
		tls_report(server->reports[1], "it had shown no credentials when others came");
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(client, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	child = fork();
	if (!child)
		connector(server, client);
	if (child < 0) {
		tls_report(server->reports[1], strerror(errno));
	} else {
		setpgid(child, child);	/* as it does itself; who is first does not matter */
		tls_clients_add(&server->clients, child);
	}
	close(client);
}

static void let_in_clients(struct server *server)
{
	pid_t pid;

	while (read(server->arrivals[0], &pid, sizeof(pid)) == sizeof(pid))
		tls_clients_let_in(&server->clients, pid);
}

static void reap_children(struct server *server)
{
	struct signalfd_siginfo info;
	pid_t pid;

	if (read(server->signals, &info, sizeof(info)) != sizeof(info))
		return;
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		tls_clients_remove(&server->clients, pid);
}

static bool server_is_gone(struct server *server)
{
	char events[sizeof(struct inotify_event) + NAME_MAX + 1];

	if (read(server->watch, events, sizeof(events)) < 0 && errno == EAGAIN)
		return false;
	return access(server->path, F_OK) != 0;
}

/* Returns when the export has ended. Sessions end with this process, and tapdisk closes their connections. */
static void run(struct server *server)
{
	for (;;) {
		struct pollfd fds[6] = {
			{ server->watch, POLLIN, 0 }, { server->signals, POLLIN, 0 }, { server->reports[0], POLLIN, 0 },
			{ tls_clients_have_room(&server->clients) ? server->listener : -1, POLLIN, 0 },
			{ server->tapdisk, POLLIN, 0 }, { server->arrivals[0], POLLIN, 0 },
		};

		if (poll(fds, 6, -1) < 0 && errno != EINTR)
			return;
		if (fds[0].revents && server_is_gone(server))
			return;
		if (fds[4].revents) {
			unlink(server->path);	/* a killed tapdisk has not removed it */
			return;
		}
		if (fds[5].revents)
			let_in_clients(server);
		if (fds[1].revents)
			reap_children(server);
		if (fds[2].revents)
			log_reports(server);
		if (fds[3].revents)
			accept_client(server);
	}
}

static int setup(struct server *server, const struct options *options, struct error_text *text)
{
	sigset_t children;
	int ret;

	if (strlen(options->server) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return error_set(text, -ENAMETOOLONG, "%s: too long for a socket's path", options->server);
	if (options->x509)
		ret = tls_credentials_x509(&server->credentials, options->x509, options->verify, text);
	else
		ret = tls_credentials_psk(&server->credentials, options->psk, text);
	if (!ret)
		ret = sandbox_prepare(&server->filter, SANDBOX_TLS, text);
	if (ret)
		return ret;
	server->tapdisk = (int)syscall(SYS_pidfd_open, options->pid, 0);
	if (server->tapdisk < 0)
		return error_set(text, -errno, "process %d: cannot be watched: %s", options->pid, strerror(errno));
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	server->signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	server->watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (server->signals < 0 || server->watch < 0 || pipe2(server->reports, O_CLOEXEC | O_NONBLOCK) ||
	    pipe2(server->arrivals, O_CLOEXEC | O_NONBLOCK) ||
	    fcntl(options->listener, F_SETFL, O_NONBLOCK) ||
	    inotify_add_watch(server->watch, options->server, IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF) < 0)
		return error_set(text, -errno, "%s: cannot be watched: %s", options->server, strerror(errno));
	server->path = options->server;
	server->listener = options->listener;
	return 0;
}

static void report_ready(int fd, int error, const struct error_text *text)
{
	if (error)
		fprintf(stderr, "tapdisk-tls: %s\n", text->text);
	if (fd < 0)
		return;
	if (error)
		dprintf(fd, "error %d %s\n", -error, text->text);
	else
		dprintf(fd, "ready\n");
	close(fd);
}

int main(int argc, char **argv)
{
	struct options options = { .listener = -1, .ready = -1 };
	struct server server = { .listener = -1 };
	struct error_text text = { "" };
	int error;

	process_sanitize_fds();
	parse_options(&options, argc, argv);
	openlog("tapdisk-tls", LOG_PID, LOG_DAEMON);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, SIG_DFL);	/* it ends a session that does not begin; our parent may have ignored it */
	umask(077);
	error = setup(&server, &options, &text);
	report_ready(options.ready, error, &text);
	if (!error)
		run(&server);
	tls_credentials_free(&server.credentials);
	free(server.filter.filter);
	return error ? 1 : 0;
}
