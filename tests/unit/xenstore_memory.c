/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xenstore_memory.c - nodes in a list sorted by path, watches that fire as
 * xenstored's do: once when made, then for every change at or below their
 * path, and for a node that goes because one above it goes.
 *
 * A transaction collects its changes and applies them at the commit. That is
 * enough here: no user reads back its own writes in the same transaction. Its
 * commit fails if a node that it has read was changed by another client since;
 * as in xenstored, its reads are not isolated from such changes.
 */
#include "xenstore_memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct node {
	char *path, *value;
	size_t length;
	struct node *next;
};

struct watch {
	char *path, *token;
	struct watch *next;
};

struct change {
	char *path, *value;		/* value NULL: remove */
	size_t length;
	struct change *next;
};

struct read {
	char *path;
	struct read *next;
};

struct memory {
	struct xenstore xenstore;
	struct node *nodes;
	struct watch *watches;
	struct watch *events, **events_end;
	struct change *changes, **changes_end;
	struct read *reads;		/* of the transaction */
	void (*on_read)(struct xenstore *xenstore, const char *path);
	bool transaction, overtaken;
	unsigned nr_changes, conflicts, failures;
	int failure;
	char removed[XENSTORE_PATH_MAX];
	int fd;
};

static struct memory *to_memory(struct xenstore *xenstore)
{
	return (struct memory *)xenstore;
}

static bool below(const char *path, const char *top)
{
	size_t length = strlen(top);

	return !strncmp(path, top, length) && (path[length] == '/' || !path[length]);
}

static void add_event(struct memory *m, const char *path, const char *token)
{
	struct watch *event = calloc(1, sizeof(*event));

	event->path = strdup(path);
	event->token = strdup(token);
	*m->events_end = event;
	m->events_end = &event->next;
	eventfd_write(m->fd, 1);
}

static void fire(struct memory *m, const char *path)
{
	for (struct read *read = m->reads; read; read = read->next)
		m->overtaken |= m->transaction && !strcmp(read->path, path);
	for (struct watch *watch = m->watches; watch; watch = watch->next)
		if (below(path, watch->path))
			add_event(m, path, watch->token);
}

static struct node **find(struct memory *m, const char *path)
{
	struct node **link = &m->nodes;

	while (*link && strcmp((*link)->path, path) < 0)
		link = &(*link)->next;
	return link;
}

static struct node *get(struct memory *m, const char *path)
{
	struct node *node = *find(m, path);

	return node && !strcmp(node->path, path) ? node : NULL;
}

/* A node, or only nodes below it. */
static bool exists(struct memory *m, const char *path)
{
	for (struct node *node = m->nodes; node; node = node->next)
		if (below(node->path, path))
			return true;
	return false;
}

static void put(struct memory *m, const char *path, const char *value, size_t length)
{
	struct node *node = get(m, path), **link;

	if (!node) {
		link = find(m, path);
		node = calloc(1, sizeof(*node));
		node->path = strdup(path);
		node->next = *link;
		*link = node;
	}
	free(node->value);
	node->value = calloc(1, length + 1);
	memcpy(node->value, value, length);
	node->length = length;
	fire(m, path);
}

static bool delete(struct memory *m, const char *path)
{
	bool found = false;

	for (struct node **link = &m->nodes; *link;) {
		struct node *node = *link;

		if (!below(node->path, path)) {
			link = &node->next;
			continue;
		}
		*link = node->next;
		fire(m, node->path);
		free(node->path);
		free(node->value);
		free(node);
		found = true;
	}
	return found;
}

static void add_change(struct memory *m, const char *path, const char *value, size_t length)
{
	struct change *change = calloc(1, sizeof(*change));

	change->path = strdup(path);
	if (value) {
		change->value = calloc(1, length + 1);
		memcpy(change->value, value, length);
	}
	change->length = length;
	*m->changes_end = change;
	m->changes_end = &change->next;
}

static void end_reads(struct memory *m)
{
	struct read *read;

	while ((read = m->reads)) {
		m->reads = read->next;
		free(read->path);
		free(read);
	}
	m->transaction = m->overtaken = false;
}

static void end_changes(struct memory *m, bool apply)
{
	struct change *change;

	end_reads(m);
	while ((change = m->changes)) {
		m->changes = change->next;
		if (apply && change->value)
			put(m, change->path, change->value, change->length);
		else if (apply && delete(m, change->path))
			snprintf(m->removed, sizeof(m->removed), "%s", change->path);
		m->nr_changes += apply;
		free(change->path);
		free(change->value);
		free(change);
	}
	m->changes_end = &m->changes;
}

static void note_read(struct memory *m, const char *path)
{
	struct read *read = calloc(1, sizeof(*read));

	read->path = strdup(path);
	read->next = m->reads;
	m->reads = read;
}

static int memory_read(struct xenstore *xenstore, const char *path, char **value, size_t *length)
{
	struct memory *m = to_memory(xenstore);
	struct node *node;

	if (xenstore->lost)
		return -EPIPE;
	if (m->on_read)
		m->on_read(xenstore, path);
	if (m->transaction)
		note_read(m, path);
	node = get(m, path);
	if (!node)
		return -ENOENT;
	*value = calloc(1, node->length + 1);
	memcpy(*value, node->value, node->length);
	*length = node->length;
	return 0;
}

static int memory_change(struct xenstore *xenstore, const char *path, const char *value, size_t length)
{
	struct memory *m = to_memory(xenstore);

	if (xenstore->lost)
		return -EPIPE;
	if (m->failures) {
		m->failures--;
		return m->failure;
	}
	if (!value && !exists(m, path))
		return -ENOENT;
	add_change(m, path, value, length);
	if (!m->transaction)
		end_changes(m, true);
	return 0;
}

static int memory_write(struct xenstore *xenstore, const char *path, const char *value, size_t length)
{
	return memory_change(xenstore, path, value, length);
}

static int memory_remove(struct xenstore *xenstore, const char *path)
{
	return memory_change(xenstore, path, NULL, 0);
}

/* Directory entries, in one block as libxenstore gives them. */
static int memory_list(struct xenstore *xenstore, const char *path, char ***names, unsigned *count)
{
	struct memory *m = to_memory(xenstore);
	size_t top = strlen(path), bytes = 0, used = 0;
	char *text, last[256] = "";

	*count = 0;
	for (struct node *node = m->nodes; node; node = node->next)
		if (below(node->path, path)) {
			(*count)++;
			bytes += strlen(node->path) + 1;
		}
	if (!*count)
		return -ENOENT;
	*names = calloc(1, *count * sizeof(char *) + bytes);
	text = (char *)(*names + *count);
	*count = 0;
	for (struct node *node = m->nodes; node; node = node->next) {
		char name[256];

		if (!below(node->path, path) || !node->path[top])
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(node->path + top + 1, "/"), node->path + top + 1);
		if (!strcmp(name, last))
			continue;
		strcpy(last, name);
		(*names)[(*count)++] = strcpy(text + used, name);
		used += strlen(name) + 1;
	}
	return 0;
}

static int memory_watch(struct xenstore *xenstore, const char *path, const char *token)
{
	struct memory *m = to_memory(xenstore);
	struct watch *watch = calloc(1, sizeof(*watch));

	watch->path = strdup(path);
	watch->token = strdup(token);
	watch->next = m->watches;
	m->watches = watch;
	add_event(m, path, token);
	return 0;
}

static void free_watch(struct watch *watch)
{
	free(watch->path);
	free(watch->token);
	free(watch);
}

static int memory_unwatch(struct xenstore *xenstore, const char *path, const char *token)
{
	struct memory *m = to_memory(xenstore);

	for (struct watch **link = &m->watches; *link; link = &(*link)->next) {
		struct watch *watch = *link;

		if (strcmp(watch->path, path) || strcmp(watch->token, token))
			continue;
		*link = watch->next;
		free_watch(watch);
		return 0;
	}
	return -ENOENT;
}

static int memory_next_event(struct xenstore *xenstore, char **path, char **token)
{
	struct memory *m = to_memory(xenstore);
	struct watch *event = m->events;
	eventfd_t count;

	if (xenstore->lost)
		return -EPIPE;
	if (!event)
		return -EAGAIN;
	m->events = event->next;
	if (!m->events) {
		m->events_end = &m->events;
		eventfd_read(m->fd, &count);
	}
	*path = event->path;
	*token = event->token;
	free(event);
	return 0;
}

static int memory_begin(struct xenstore *xenstore)
{
	to_memory(xenstore)->transaction = true;
	return 0;
}

static int memory_commit(struct xenstore *xenstore)
{
	struct memory *m = to_memory(xenstore);
	bool conflict = m->overtaken;

	if (!conflict && m->conflicts) {
		m->conflicts--;
		conflict = true;
	}
	end_changes(m, !conflict);
	return conflict ? -EAGAIN : 0;
}

static void memory_abort(struct xenstore *xenstore)
{
	end_changes(to_memory(xenstore), false);
}

static int memory_fd(struct xenstore *xenstore)
{
	return to_memory(xenstore)->fd;
}

static void memory_close(struct xenstore *xenstore)
{
	struct memory *m = to_memory(xenstore);
	struct watch *watch;
	struct node *node;

	while ((watch = m->events)) {
		m->events = watch->next;
		free_watch(watch);
	}
	while ((watch = m->watches)) {
		m->watches = watch->next;
		free_watch(watch);
	}
	while ((node = m->nodes)) {
		m->nodes = node->next;
		free(node->path);
		free(node->value);
		free(node);
	}
	close(m->fd);
	free(m);
}

static const struct xenstore_ops memory_ops = {
	.close = memory_close,
	.read = memory_read,
	.write = memory_write,
	.remove = memory_remove,
	.list = memory_list,
	.watch = memory_watch,
	.unwatch = memory_unwatch,
	.next_event = memory_next_event,
	.begin = memory_begin,
	.commit = memory_commit,
	.abort = memory_abort,
	.fd = memory_fd,
};

struct xenstore *xenstore_memory_open(void)
{
	struct memory *m = calloc(1, sizeof(*m));

	m->xenstore.ops = &memory_ops;
	m->events_end = &m->events;
	m->changes_end = &m->changes;
	m->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return &m->xenstore;
}

void xenstore_memory_put(struct xenstore *xenstore, const char *path, const char *value)
{
	put(to_memory(xenstore), path, value, strlen(value));
}

void xenstore_memory_put_bytes(struct xenstore *xenstore, const char *path, const char *value, size_t length)
{
	put(to_memory(xenstore), path, value, length);
}

void xenstore_memory_delete(struct xenstore *xenstore, const char *path)
{
	delete(to_memory(xenstore), path);
}

const char *xenstore_memory_get(struct xenstore *xenstore, const char *path)
{
	struct node *node = get(to_memory(xenstore), path);

	return node ? node->value : NULL;
}

unsigned xenstore_memory_changes(struct xenstore *xenstore)
{
	return to_memory(xenstore)->nr_changes;
}

const char *xenstore_memory_removed(struct xenstore *xenstore)
{
	return *to_memory(xenstore)->removed ? to_memory(xenstore)->removed : NULL;
}

void xenstore_memory_conflict(struct xenstore *xenstore, unsigned count)
{
	to_memory(xenstore)->conflicts = count;
}

void xenstore_memory_on_read(struct xenstore *xenstore, void (*on_read)(struct xenstore *xenstore, const char *path))
{
	to_memory(xenstore)->on_read = on_read;
}

void xenstore_memory_fail_writes(struct xenstore *xenstore, unsigned count, int error)
{
	to_memory(xenstore)->failures = count;
	to_memory(xenstore)->failure = error;
}

unsigned xenstore_memory_watches(struct xenstore *xenstore)
{
	unsigned count = 0;

	for (struct watch *watch = to_memory(xenstore)->watches; watch; watch = watch->next)
		count++;
	return count;
}

void xenstore_memory_lose(struct xenstore *xenstore)
{
	xenstore->lost = true;
	eventfd_write(to_memory(xenstore)->fd, 1);
}
