/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-listen.c - creates the listening socket of an export: "unix:PATH" or
 * "tcp:[HOST]:PORT". tap-ctl does this because tapdisk's sandbox does not allow
 * it.
 */
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tap-ctl.h"

#define BACKLOG 16

/* Is it the socket of a killed process, on which nothing listens? */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	bool refused;
	int fd;

	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_unix(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	int error = bind(fd, (const struct sockaddr *)address, sizeof(*address)) ? -errno : 0;

	umask(mask);
	return error;
}

/* Only this user may connect, as to tapdisk's own sockets. */
static int listen_unix(const char *path, int *result, struct error_text *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, error;

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(text, -ENAMETOOLONG, "%s: too long for a socket's path", path);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_set(text, -errno, "socket: %s", strerror(errno));
	error = bind_unix(fd, &address);
	if (error == -EADDRINUSE && is_stale(&address) && !unlink(path))
		error = bind_unix(fd, &address);
	if (!error && listen(fd, BACKLOG)) {
		error = -errno;
		unlink(path);
	}
	if (error) {
		close(fd);
		return error_set(text, error, "%s: %s", path, strerror(-error));
	}
	*result = fd;
	return 0;
}

static int listen_one(const struct addrinfo *info, int *result)
{
	int on = 1, error = 0;
	int fd = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) || bind(fd, info->ai_addr, info->ai_addrlen) ||
	    listen(fd, BACKLOG))
		error = -errno;
	if (error)
		close(fd);
	else
		*result = fd;
	return error;
}

/* "HOST:PORT"; the host may be left out, or be in brackets. */
static int split_host(const char *where, char *host, size_t size, const char **port)
{
	const char *colon = strrchr(where, ':');
	size_t length = colon ? (size_t)(colon - where) : 0;

	if (!colon || !colon[1] || length >= size)
		return -EINVAL;
	if (length >= 2 && where[0] == '[' && where[length - 1] == ']') {
		where++;
		length -= 2;
	}
	memcpy(host, where, length);
	host[length] = '\0';
	*port = colon + 1;
	return 0;
}

/* getaddrinfo() accepts larger numbers and truncates them to another port. */
static bool is_port(const char *port)
{
	return strspn(port, "0123456789") == strlen(port) && strtoul(port, NULL, 10) <= UINT16_MAX;
}

static int listen_family(const char *host, const char *port, int family, int *result, struct error_text *text)
{
	const struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_family = family, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *info;
	int error = getaddrinfo(*host ? host : NULL, port, &hints, &list);

	if (error)
		return error_set(text, -EINVAL, "tcp:%s:%s: %s", host, port, gai_strerror(error));
	error = -EADDRNOTAVAIL;
	for (info = list; info && error; info = info->ai_next)
		error = listen_one(info, result);
	freeaddrinfo(list);
	return error ? error_set(text, error, "tcp:%s:%s: %s", host, port, strerror(-error)) : 0;
}

/* Without a host listen on all addresses: IPv6's, which includes IPv4; without IPv6, IPv4's. */
static int listen_tcp(const char *where, int *result, struct error_text *text)
{
	char host[NI_MAXHOST];
	const char *port;

	if (split_host(where, host, sizeof(host), &port))
		return error_set(text, -EINVAL, "tcp:%s: not tcp:[HOST]:PORT", where);
	if (!is_port(port))
		return error_set(text, -EINVAL, "tcp:%s: the port must be a number from 0 to %d", where, UINT16_MAX);
	if (!*host && !listen_family(host, port, AF_INET6, result, NULL))
		return 0;
	return listen_family(host, port, AF_UNSPEC, result, text);
}

/* The address with the real port: for port 0 the kernel chooses one. */
static int tcp_name(int fd, const char *where, char **name)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char port[NI_MAXSERV];

	if (getsockname(fd, (struct sockaddr *)&address, &length) ||
	    getnameinfo((struct sockaddr *)&address, length, NULL, 0, port, sizeof(port), NI_NUMERICSERV))
		return -EINVAL;
	return asprintf(name, "tcp:%.*s:%s", (int)(strrchr(where, ':') - where), where, port) < 0 ? -ENOMEM : 0;
}

static int unix_name(const char *path, char **name)
{
	char *directory = *path == '/' ? strdup("") : getcwd(NULL, 0);
	int error = !directory || asprintf(name, "unix:%s%s%s", directory, *directory ? "/" : "", path) < 0 ? -ENOMEM : 0;

	free(directory);
	return error;
}

int listen_at(const char *address, int *fd, char **name, struct error_text *text)
{
	int error;

	*fd = -1;
	*name = NULL;
	if (!strncmp(address, "unix:", 5) && address[5]) {
		error = unix_name(address + 5, name);
		return error ? error : listen_unix(*name + 5, fd, text);
	}
	if (strncmp(address, "tcp:", 4))
		return error_set(text, -EINVAL, "%s: neither unix:PATH nor tcp:[HOST]:PORT", address);
	error = listen_tcp(address + 4, fd, text);
	return error ? error : tcp_name(*fd, address + 4, name);
}

void listen_undo(int fd, const char *name)
{
	if (fd >= 0)
		close(fd);
	if (fd >= 0 && name && !strncmp(name, "unix:", 5))
		unlink(name + 5);
}
