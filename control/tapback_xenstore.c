/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_xenstore.c - reads and writes typed values in xenstore.
 *
 * Invariants: a value is validated before it is used; a failed read does not
 * change the caller's variable.
 */
#include "tapback_xenstore.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A guest that keeps writing causes conflicts, but must not make us retry for ever. */
#define TRANSACTION_TRIES 100

void xenstore_close(struct xenstore *xenstore)
{
	if (xenstore)
		xenstore->ops->close(xenstore);
}

static int xenstore_path(char path[XENSTORE_PATH_MAX], const char *dir, const char *node)
{
	int length = node ? snprintf(path, XENSTORE_PATH_MAX, "%s/%s", dir, node)
			  : snprintf(path, XENSTORE_PATH_MAX, "%s", dir);

	return length < XENSTORE_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int xenstore_read(struct xenstore *xenstore, const char *dir, const char *node, char **value)
{
	char path[XENSTORE_PATH_MAX], *text;
	size_t length;
	int error = xenstore_path(path, dir, node);

	if (!error)
		error = xenstore->ops->read(xenstore, path, &text, &length);
	if (error)
		return error;
	if (strlen(text) != length) {
		free(text);
		return -EINVAL;
	}
	*value = text;
	return 0;
}

int xenstore_parse_number(const char *text, uint64_t max, uint64_t *value)
{
	uint64_t number = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(number, 10u, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
			return -ERANGE;
	}
	if (number > max)
		return -ERANGE;
	*value = number;
	return 0;
}

int xenstore_read_number(struct xenstore *xenstore, const char *dir, const char *node, uint64_t max, uint64_t *value)
{
	char *text;
	int error = xenstore_read(xenstore, dir, node, &text);

	if (error)
		return error;
	error = xenstore_parse_number(text, max, value);
	free(text);
	return error;
}

int xenstore_read_bool(struct xenstore *xenstore, const char *dir, const char *node, bool *value)
{
	uint64_t number;
	int error = xenstore_read_number(xenstore, dir, node, 1, &number);

	if (error)
		return error == -ERANGE ? -EINVAL : error;
	*value = number;
	return 0;
}

int xenstore_write(struct xenstore *xenstore, const char *dir, const char *node, const char *format, ...)
{
	char path[XENSTORE_PATH_MAX], value[1024];
	va_list args;
	int length, error;

	va_start(args, format);
	length = vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(value))
		return -EMSGSIZE;
	error = xenstore_path(path, dir, node);
	return error ? error : xenstore->ops->write(xenstore, path, value, length);
}

int xenstore_remove(struct xenstore *xenstore, const char *dir, const char *node)
{
	char path[XENSTORE_PATH_MAX];
	int error = xenstore_path(path, dir, node);

	if (!error)
		error = xenstore->ops->remove(xenstore, path);
	return error == -ENOENT ? 0 : error;
}

int xenstore_transact(struct xenstore *xenstore, int (*body)(struct xenstore *xenstore, void *arg), void *arg)
{
	int error = -EAGAIN;

	for (int try = 0; error == -EAGAIN && try < TRANSACTION_TRIES; try++) {
		error = xenstore->ops->begin(xenstore);
		if (error)
			return error;
		error = body(xenstore, arg);
		if (error) {
			xenstore->ops->abort(xenstore);
			return error;
		}
		error = xenstore->ops->commit(xenstore);
	}
	return error;
}
