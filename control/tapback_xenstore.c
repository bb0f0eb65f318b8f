/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_xenstore.c - the store behind libxenstore.
 *
 * libxenstore reads events in a thread of its own and shows them through a
 * pipe, which stays silent when xenstored ends. So a lost connection shows
 * by the error of the next call, or of the next look for events, which
 * tapback takes now and then even if there is nothing to read.
 */
#include "tapback_store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

struct xenstore {
	struct store store;
	struct xs_handle *xs;
	xs_transaction_t transaction;		/* XBT_NULL outside */
};

/* errno of a call that failed, and whether that was the end of the connection. */
static int xenstore_error(struct store *store)
{
	int error = errno ? errno : EIO;

	if (error == EBADF || error == EIO || error == EPIPE || error == ECONNRESET || error == ENOTCONN)
		store->lost = true;
	return -error;
}

static struct xenstore *to_xenstore(struct store *store)
{
	return (struct xenstore *)store;
}

static void xenstore_close(struct store *store)
{
	xs_close(to_xenstore(store)->xs);
	free(store);
}

static int xenstore_read(struct store *store, const char *path, char **value, size_t *length)
{
	struct xenstore *x = to_xenstore(store);
	unsigned int len;
	char *data = xs_read(x->xs, x->transaction, path, &len);

	if (!data)
		return xenstore_error(store);
	*value = data;		/* the library puts a NUL behind it */
	*length = len;
	return 0;
}

static int xenstore_write(struct store *store, const char *path, const char *value, size_t length)
{
	struct xenstore *x = to_xenstore(store);

	return xs_write(x->xs, x->transaction, path, value, (unsigned)length) ? 0 : xenstore_error(store);
}

static int xenstore_remove(struct store *store, const char *path)
{
	struct xenstore *x = to_xenstore(store);

	return xs_rm(x->xs, x->transaction, path) ? 0 : xenstore_error(store);
}

static int xenstore_list(struct store *store, const char *path, char ***names, unsigned *count)
{
	struct xenstore *x = to_xenstore(store);

	*names = xs_directory(x->xs, x->transaction, path, count);
	return *names ? 0 : xenstore_error(store);
}

static int xenstore_watch(struct store *store, const char *path, const char *token)
{
	return xs_watch(to_xenstore(store)->xs, path, token) ? 0 : xenstore_error(store);
}

static int xenstore_unwatch(struct store *store, const char *path, const char *token)
{
	return xs_unwatch(to_xenstore(store)->xs, path, token) ? 0 : xenstore_error(store);
}

static int xenstore_next_event(struct store *store, char **path, char **token)
{
	char **event = xs_check_watch(to_xenstore(store)->xs);
	int error = 0;

	if (!event) {
		if (errno == EAGAIN)
			return -EAGAIN;
		/* EINVAL: no event and no connection that could bring one */
		store->lost = true;
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

static int xenstore_begin(struct store *store)
{
	struct xenstore *x = to_xenstore(store);

	x->transaction = xs_transaction_start(x->xs);
	return x->transaction != XBT_NULL ? 0 : xenstore_error(store);
}

static int xenstore_end(struct store *store, bool abort)
{
	struct xenstore *x = to_xenstore(store);
	xs_transaction_t transaction = x->transaction;

	x->transaction = XBT_NULL;
	return xs_transaction_end(x->xs, transaction, abort) ? 0 : xenstore_error(store);
}

static int xenstore_commit(struct store *store)
{
	return xenstore_end(store, false);
}

static void xenstore_abort(struct store *store)
{
	/* a connection lost here is noticed by store->lost; there is nothing else to undo */
	xenstore_end(store, true);
}

static int xenstore_fd(struct store *store)
{
	return xs_fileno(to_xenstore(store)->xs);
}

static const struct store_ops xenstore_ops = {
	.close = xenstore_close,
	.read = xenstore_read,
	.write = xenstore_write,
	.remove = xenstore_remove,
	.list = xenstore_list,
	.watch = xenstore_watch,
	.unwatch = xenstore_unwatch,
	.next_event = xenstore_next_event,
	.begin = xenstore_begin,
	.commit = xenstore_commit,
	.abort = xenstore_abort,
	.fd = xenstore_fd,
};

int store_xenstore_open(struct store **store)
{
	struct xenstore *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->store.ops = &xenstore_ops;
	x->transaction = XBT_NULL;
	x->xs = xs_open(0);
	if (!x->xs) {
		int error = errno ? errno : ENOENT;

		free(x);
		return -error;
	}
	*store = &x->store;
	return 0;
}
