/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_decision.c - commit or abort a group's prepared snapshots.
 *
 * The first process that creates a file under the record's name decides, for
 * good: link() and O_EXCL either create it or fail. Only a complete file is
 * ever linked, so an incomplete file has no "commit" in it: aborted.
 *
 * The name is in the store, so the store's creator may have chosen it freely.
 * Only names that can be a record of this host are opened or created.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow_internal.h"
#include "path.h"

#define COMMIT "commit\n"
#define RANDOM_DIGITS 32

/* The rest of @path after @start; NULL: it does not start with that. */
static const char *path_behind(const char *path, const char *start)
{
	size_t length = strlen(start);

	return strncmp(path, start, length) ? NULL : path + length;
}

bool cow_decision_valid(const char *path)
{
	const char *name = *path == '/' ? path_behind(path, path_state_dir()) : NULL;

	if (name)
		name = path_behind(name, "/" COW_DECISION_DIRECTORY "/");
	return name && strspn(name, "0123456789abcdef") == RANDOM_DIGITS && strchr(".", name[RANDOM_DIGITS]) && !strchr(name, '/');
}

static int commit_file_write(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, COMMIT, strlen(COMMIT)) != (ssize_t)strlen(COMMIT) || fsync(fd))
		ret = errno ? -errno : -EIO;
	close(fd);
	return ret;
}

/* 1: commit, 0: abort, -ENOENT: undecided. */
static int decision_read(const char *path)
{
	char text[sizeof(COMMIT)] = "";
	int fd = path_open(path, O_RDONLY, 0), ret;

	if (fd < 0)
		return -errno;
	ret = read(fd, text, sizeof(text) - 1) < 0 ? -errno : !strcmp(text, COMMIT);
	close(fd);
	return ret;
}

int cow_decision_commit(const char *path, struct error_text *error)
{
	char beside[PATH_MAX];
	int ret;

	if (snprintf(beside, sizeof(beside), "%s.%d", path, (int)getpid()) >= (int)sizeof(beside))
		return error_set(error, -ENAMETOOLONG, "%s: path too long", path);
	ret = commit_file_write(beside);
	if (!ret && link(beside, path))
		ret = errno == EEXIST ? decision_read(path) : -errno;
	else if (!ret)
		ret = 1;
	unlink(beside);
	if (ret == 1)
		ret = path_sync_name(path);
	else if (!ret)
		return error_set(error, -ECANCELED, "%s: aborted: a disk of the group was reopened before the commit", path);
	return ret ? error_set(error, ret, "%s: cannot write the decision record: %s", path, strerror(-ret)) : 0;
}

int cow_decision_abort(const char *path, struct error_text *error)
{
	int fd, ret;

	if (!cow_decision_valid(path))
		return 0;	/* the record of another host, as below */
	fd = path_open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd >= 0)
		close(fd);
	else if (errno == ENOENT)
		return 0;	/* a coordinator makes the directory before it prepares anything, so it runs on another host */
	else if (errno != EEXIST)
		return error_set(error, -errno, "%s: cannot create the decision record: %s", path, strerror(errno));
	ret = decision_read(path);
	if (ret >= 0 && path_sync_name(path))
		ret = -EIO;
	return ret < 0 ? error_set(error, ret, "%s: cannot be read: %s", path, strerror(-ret)) : ret;
}

/* One that is settled, but not durably, counts until it is. */
unsigned cow_prepared_count(const struct cow_store *store)
{
	const struct cow_version *version;
	unsigned count = 0;

	for (version = store->versions; version; version = version->next)
		count += !version->deleted && version->decision[0];
	return count;
}

const struct cow_version *cow_prepared_next(const struct cow_store *store)
{
	const struct cow_version *version = store->versions;

	while (version && (version->deleted || !version->decision[0]))
		version = version->next;
	return version;
}

/* A snapshot whose commit is decided is valid, though its store may not know yet; the decision cannot change. */
static int prepared_show(struct cow_store *store, struct cow_version *version, struct error_text *error)
{
	int ret = cow_decision_valid(version->decision) ? decision_read(version->decision) : 0;

	if (ret < 0 && ret != -ENOENT)
		return error_set(error, ret, "%s: cannot be read: %s", version->decision, strerror(-ret));
	if (ret == 1 && !strcmp(version->name, SNAPSHOT_REVERT_INTENT))
		return cow_revert_show(store, version, error);
	if (ret == 1)
		version->decision[0] = '\0';
	return 0;
}

/* Changes memory only, and makes no record. */
static int prepared_show_all(struct cow_store *store, struct error_text *error)
{
	struct cow_version *version;
	int ret = 0;

	if (cow_prepared_count(store) > COW_PREPARED_MAX)
		return 0;
	for (version = store->versions; version && !ret; version = version->next) {
		if (!version->deleted && version->decision[0])
			ret = prepared_show(store, version, error);
	}
	return ret;
}

int cow_prepared_settle(struct cow_store *store, struct error_text *error)
{
	const struct cow_version *version;
	unsigned count = cow_prepared_count(store);
	int ret = 0;

	if (store->read_only)
		return prepared_show_all(store, error);
	if (count > COW_PREPARED_MAX)	/* each would create a file */
		return error_set(error, -EUCLEAN, "%s: damaged: %u prepared snapshots", store->device->name, count);
	while (ret >= 0 && (version = cow_prepared_next(store))) {
		ret = cow_decision_abort(version->decision, error);
		if (ret == 1)
			ret = cow_snapshot_commit(store, version->name, error);
		else if (!ret)
			ret = cow_snapshot_abort(store, version->name, error);
	}
	return ret < 0 ? ret : 0;
}
