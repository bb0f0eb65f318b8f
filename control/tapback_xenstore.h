/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_xenstore.h - tapback's interface to xenstore: a tree of small values
 * with watches and transactions, behind a struct of functions that tests
 * implement with a tree in memory.
 *
 * Paths are absolute, or relative to our own domain's directory
 * ("backend/vbd3" works in a driver domain too). Values may come from a
 * guest: they are read with a length and parsed strictly.
 *
 * Errors are -errno. Threads: one.
 */
#ifndef TAPBACK_XENSTORE_H
#define TAPBACK_XENSTORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XENSTORE_PATH_MAX 3072		/* XENSTORE_ABS_PATH_MAX */

struct xenstore {
	const struct xenstore_ops *ops;
	bool lost;			/* the connection has ended; nothing works any more */
};

struct xenstore_ops {
	void (*close)(struct xenstore *xenstore);
	/* *@value is malloc()ed; a NUL that is not part of it follows its @length bytes. */
	int (*read)(struct xenstore *xenstore, const char *path, char **value, size_t *length);
	int (*write)(struct xenstore *xenstore, const char *path, const char *value, size_t length);
	int (*remove)(struct xenstore *xenstore, const char *path);
	/* *@names: one malloc()ed block, freed by one free(). */
	int (*list)(struct xenstore *xenstore, const char *path, char ***names, unsigned *count);
	int (*watch)(struct xenstore *xenstore, const char *path, const char *token);
	int (*unwatch)(struct xenstore *xenstore, const char *path, const char *token);
	/* 0: an event, both strings malloc()ed; -EAGAIN: none now. */
	int (*next_event)(struct xenstore *xenstore, char **path, char **token);
	/* One transaction at a time; every read, write and remove in between belongs to it. */
	int (*begin)(struct xenstore *xenstore);
	int (*commit)(struct xenstore *xenstore);	/* -EAGAIN: a conflict, do it again */
	void (*abort)(struct xenstore *xenstore);
	int (*fd)(struct xenstore *xenstore);	/* readable when next_event() may have one */
};

/* xenstored by its socket, or by /dev/xen/xenbus in a driver domain. */
int xenstore_open(struct xenstore **xenstore);
void xenstore_close(struct xenstore *xenstore);

/* The calls below work on the node "@dir/@node", or @dir when @node is NULL. */

/* A string without a NUL inside. The caller frees *@value. -ENOENT, -EINVAL. */
int xenstore_read(struct xenstore *xenstore, const char *dir, const char *node, char **value);
/* Decimal digits only, at most @max. -ENOENT, -EINVAL, -ERANGE; *@value is untouched on failure. */
int xenstore_read_number(struct xenstore *xenstore, const char *dir, const char *node, uint64_t max, uint64_t *value);
/* 0 or 1. -ENOENT, -EINVAL. */
int xenstore_read_bool(struct xenstore *xenstore, const char *dir, const char *node, bool *value);
int xenstore_write(struct xenstore *xenstore, const char *dir, const char *node, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* A missing node is no error. */
int xenstore_remove(struct xenstore *xenstore, const char *dir, const char *node);

/* Run @body in a transaction, and again after a conflict. Returns @body's error, or the commit's. */
int xenstore_transact(struct xenstore *xenstore, int (*body)(struct xenstore *xenstore, void *arg), void *arg);

/* Strict number: only digits, no sign, no space, no empty string, at most @max. -EINVAL, -ERANGE. */
int xenstore_parse_number(const char *text, uint64_t max, uint64_t *value);

#endif
