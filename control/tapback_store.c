/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_store.c - reading and writing typed values in a store.
 *
 * Invariants: no value is used before it was checked to be what it should
 * be; a failed read leaves the caller's variable alone.
 */
#include "tapback_store.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A guest that keeps writing can make our transactions conflict, not make us spin for ever. */
#define TRANSACTION_TRIES 100

void store_close(struct store *store)
{
	if (store)
		store->ops->close(store);
}

static int store_path(char path[STORE_PATH_MAX], const char *dir, const char *node)
{
	int length = node ? snprintf(path, STORE_PATH_MAX, "%s/%s", dir, node)
			  : snprintf(path, STORE_PATH_MAX, "%s", dir);

	return length < STORE_PATH_MAX ? 0 : -ENAMETOOLONG;
}

int store_read(struct store *store, const char *dir, const char *node, char **value)
{
	char path[STORE_PATH_MAX], *text;
	size_t length;
	int error = store_path(path, dir, node);

	if (!error)
		error = store->ops->read(store, path, &text, &length);
	if (error)
		return error;
	if (strlen(text) != length) {
		free(text);
		return -EINVAL;
	}
	*value = text;
	return 0;
}

int store_parse_number(const char *text, uint64_t max, uint64_t *value)
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

int store_read_number(struct store *store, const char *dir, const char *node, uint64_t max, uint64_t *value)
{
	char *text;
	int error = store_read(store, dir, node, &text);

	if (error)
		return error;
	error = store_parse_number(text, max, value);
	free(text);
	return error;
}

int store_read_bool(struct store *store, const char *dir, const char *node, bool *value)
{
	uint64_t number;
	int error = store_read_number(store, dir, node, 1, &number);

	if (error)
		return error == -ERANGE ? -EINVAL : error;
	*value = number;
	return 0;
}

int store_write(struct store *store, const char *dir, const char *node, const char *format, ...)
{
	char path[STORE_PATH_MAX], value[1024];
	va_list args;
	int length, error;

	va_start(args, format);
	length = vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	if (length < 0 || (size_t)length >= sizeof(value))
		return -EMSGSIZE;
	error = store_path(path, dir, node);
	return error ? error : store->ops->write(store, path, value, length);
}

int store_remove(struct store *store, const char *dir, const char *node)
{
	char path[STORE_PATH_MAX];
	int error = store_path(path, dir, node);

	if (!error)
		error = store->ops->remove(store, path);
	return error == -ENOENT ? 0 : error;
}

int store_transact(struct store *store, int (*body)(struct store *store, void *arg), void *arg)
{
	int error = -EAGAIN;

	for (int try = 0; error == -EAGAIN && try < TRANSACTION_TRIES; try++) {
		error = store->ops->begin(store);
		if (error)
			return error;
		error = body(store, arg);
		if (error) {
			store->ops->abort(store);
			return error;
		}
		error = store->ops->commit(store);
	}
	return error;
}
