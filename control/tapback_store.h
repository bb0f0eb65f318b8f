/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_store.h - xenstore as tapback sees it: a tree of small values with
 * watches and transactions, behind a struct of functions, so that tests can
 * put a tree in memory in its place.
 *
 * Paths are absolute, or relative to our own domain's directory
 * ("backend/vbd3" works in a driver domain too). Values may come from a
 * guest: they are read with a length and parsed strictly.
 *
 * Errors are -errno. Threads: one.
 */
#ifndef TAPBACK_STORE_H
#define TAPBACK_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_PATH_MAX 3072		/* XENSTORE_ABS_PATH_MAX */

struct store {
	const struct store_ops *ops;
	bool lost;			/* the connection has ended; nothing works any more */
};

struct store_ops {
	void (*close)(struct store *store);
	/* *@value is malloc()ed, with a NUL of ours behind its @length bytes. */
	int (*read)(struct store *store, const char *path, char **value, size_t *length);
	int (*write)(struct store *store, const char *path, const char *value, size_t length);
	int (*remove)(struct store *store, const char *path);
	/* *@names: one malloc()ed block, freed by one free(). */
	int (*list)(struct store *store, const char *path, char ***names, unsigned *count);
	int (*watch)(struct store *store, const char *path, const char *token);
	int (*unwatch)(struct store *store, const char *path, const char *token);
	/* 0: an event, both strings malloc()ed; -EAGAIN: none now. */
	int (*next_event)(struct store *store, char **path, char **token);
	/* One transaction at a time; every read, write and remove in between belongs to it. */
	int (*begin)(struct store *store);
	int (*commit)(struct store *store);	/* -EAGAIN: somebody else changed what we read, do it again */
	void (*abort)(struct store *store);
	int (*fd)(struct store *store);		/* readable when next_event() may have one */
};

/* The real one: xenstored by its socket, or by /dev/xen/xenbus in a driver domain. */
int store_xenstore_open(struct store **store);
void store_close(struct store *store);

/* The calls below work on the node "@dir/@node", or @dir when @node is NULL. */

/* A string without NUL inside. *@value is the caller's to free(). -ENOENT, -EINVAL. */
int store_read(struct store *store, const char *dir, const char *node, char **value);
/* Decimal digits only, at most @max. -ENOENT, -EINVAL, -ERANGE; *@value is untouched on failure. */
int store_read_number(struct store *store, const char *dir, const char *node, uint64_t max, uint64_t *value);
/* 0 or 1. -ENOENT, -EINVAL. */
int store_read_bool(struct store *store, const char *dir, const char *node, bool *value);
int store_write(struct store *store, const char *dir, const char *node, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* A node that is not there is fine. */
int store_remove(struct store *store, const char *dir, const char *node);

/* Run @body in a transaction, again as long as it conflicts with others'. What @body returns, or the commit's error. */
int store_transact(struct store *store, int (*body)(struct store *store, void *arg), void *arg);

/* Strict number: only digits, no sign, no space, no empty string, at most @max. -EINVAL, -ERANGE. */
int store_parse_number(const char *text, uint64_t max, uint64_t *value);

#endif
