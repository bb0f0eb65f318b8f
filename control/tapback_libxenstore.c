/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_libxenstore.c - xenstore by libxenstore.
 *
 * libxenstore reads events in its own thread and signals them through a pipe,
 * which stays silent when xenstored ends. So a lost connection is detected by
 * the error of the next call, or of the next check for events, which tapback
 * makes periodically.
 */
#include "tapback_xenstore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

struct libxenstore {
	struct xenstore xenstore;
	struct xs_handle *xs;
	xs_transaction_t transaction;		/* XBT_NULL outside */
};

/* The error of a failed call; sets lost if the connection has ended. */
static int libxenstore_error(struct xenstore *xenstore)
{
	int error = errno ? errno : EIO;

	if (error == EBADF || error == EIO || error == EPIPE || error == ECONNRESET || error == ENOTCONN)
		xenstore->lost = true;
	return -error;
}

static struct libxenstore *to_libxenstore(struct xenstore *xenstore)
{
	return (struct libxenstore *)xenstore;
}

static void libxenstore_close(struct xenstore *xenstore)
{
	xs_close(to_libxenstore(xenstore)->xs);
	free(xenstore);
}

static int libxenstore_read(struct xenstore *xenstore, const char *path, char **value, size_t *length)
{
	struct libxenstore *x = to_libxenstore(xenstore);
	unsigned int len;
	char *data = xs_read(x->xs, x->transaction, path, &len);

	if (!data)
		return libxenstore_error(xenstore);
	*value = data;		/* the library puts a NUL behind it */
	*length = len;
	return 0;
}

static int libxenstore_write(struct xenstore *xenstore, const char *path, const char *value, size_t length)
{
	struct libxenstore *x = to_libxenstore(xenstore);

	return xs_write(x->xs, x->transaction, path, value, (unsigned)length) ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_remove(struct xenstore *xenstore, const char *path)
{
	struct libxenstore *x = to_libxenstore(xenstore);

	return xs_rm(x->xs, x->transaction, path) ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_list(struct xenstore *xenstore, const char *path, char ***names, unsigned *count)
{
	struct libxenstore *x = to_libxenstore(xenstore);

	*names = xs_directory(x->xs, x->transaction, path, count);
	return *names ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_watch(struct xenstore *xenstore, const char *path, const char *token)
{
	return xs_watch(to_libxenstore(xenstore)->xs, path, token) ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_unwatch(struct xenstore *xenstore, const char *path, const char *token)
{
	return xs_unwatch(to_libxenstore(xenstore)->xs, path, token) ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_next_event(struct xenstore *xenstore, char **path, char **token)
{
	char **event = xs_check_watch(to_libxenstore(xenstore)->xs);
	int error = 0;

	if (!event) {
		if (errno == EAGAIN)
			return -EAGAIN;
		/* EINVAL: no event and no connection that could bring one */
		xenstore->lost = true;
		return -EPIPE;
	}
	*path = strdup(event[XS_WATCH_PATH]);
	*token = strdup(event[XS_WATCH_TOKEN]);
	if (!*path || !*token) {
		free(*path);
		free(*token);
		error = -ENOMEM;
	}
	free(event);
	return error;
}

static int libxenstore_begin(struct xenstore *xenstore)
{
	struct libxenstore *x = to_libxenstore(xenstore);

	x->transaction = xs_transaction_start(x->xs);
	return x->transaction != XBT_NULL ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_end(struct xenstore *xenstore, bool abort)
{
	struct libxenstore *x = to_libxenstore(xenstore);
	xs_transaction_t transaction = x->transaction;

	x->transaction = XBT_NULL;
	return xs_transaction_end(x->xs, transaction, abort) ? 0 : libxenstore_error(xenstore);
}

static int libxenstore_commit(struct xenstore *xenstore)
{
	return libxenstore_end(xenstore, false);
}

static void libxenstore_abort(struct xenstore *xenstore)
{
	/* sets xenstore->lost if the connection has ended; nothing else to undo */
	libxenstore_end(xenstore, true);
}

static int libxenstore_fd(struct xenstore *xenstore)
{
	return xs_fileno(to_libxenstore(xenstore)->xs);
}

static const struct xenstore_ops libxenstore_ops = {
	.close = libxenstore_close,
	.read = libxenstore_read,
	.write = libxenstore_write,
	.remove = libxenstore_remove,
	.list = libxenstore_list,
	.watch = libxenstore_watch,
	.unwatch = libxenstore_unwatch,
	.next_event = libxenstore_next_event,
	.begin = libxenstore_begin,
	.commit = libxenstore_commit,
	.abort = libxenstore_abort,
	.fd = libxenstore_fd,
};

int xenstore_open(struct xenstore **xenstore)
{
	struct libxenstore *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->xenstore.ops = &libxenstore_ops;
	x->transaction = XBT_NULL;
	x->xs = xs_open(0);
	if (!x->xs) {
		int error = errno ? errno : ENOENT;

		free(x);
		return -error;
	}
	*xenstore = &x->xenstore;
	return 0;
}
