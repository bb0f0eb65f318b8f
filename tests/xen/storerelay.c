/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * storerelay.c - in dom0: a socket that leads to xenstored. Who comes by way of it loses xenstored when this
 * and its processes, one for each connection, are killed; the host keeps running.
 *
 *   storerelay PATH
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int open_socket(const char *path, int (*use)(int fd, const struct sockaddr *address, socklen_t size))
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (use(fd, (struct sockaddr *)&address, sizeof(address))) {
		perror(path);
		_exit(1);
	}
	return fd;
}

/* False: the connection has ended. */
static int pass_on(int from, int to)
{
	char buffer[4096];
	ssize_t got = read(from, buffer, sizeof(buffer));

	return got > 0 && write(to, buffer, got) == got;
}

static void relay(int client)
{
	int server = open_socket("/run/xenstored/socket", connect);
	struct pollfd ends[] = { { .fd = client, .events = POLLIN }, { .fd = server, .events = POLLIN } };

	while (poll(ends, 2, -1) > 0) {
		if ((ends[0].revents && !pass_on(client, server)) || (ends[1].revents && !pass_on(server, client)))
			_exit(0);
	}
}

int main(int argc, char **argv)
{
	int listener, client;

	if (argc != 2)
		return 125;
	signal(SIGCHLD, SIG_IGN);
	listener = open_socket(argv[1], bind);
	if (listen(listener, 16))
		return 1;
	while ((client = accept(listener, NULL, NULL)) >= 0) {
		if (!fork())
			relay(client);
		close(client);
	}
	return 1;
}
