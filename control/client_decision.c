/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_decision.c - the decision record of an operation that several disks
 * commit or abort together: its name, and the decision itself.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "client_internal.h"
#include "client_many.h"
#include "cow.h"
#include "hex.h"
#include "path.h"

#define RANDOM_BYTES 16		/* in the record's name */

void (*client_group_step)(const char *step);

void client_step(const char *name)
{
	if (client_group_step)
		client_group_step(name);
}

/* @directory, of SNAPSHOT_TEXT_MAX + 1 bytes: the directory of the records. */
static int name_directory(char *directory, const char *owner, struct error_text *text)
{
	const char *state = path_state_dir();
	int length;

	if (*state != '/')
		return error_set(text, -EINVAL, "%s: not an absolute path", state);
	length = snprintf(directory, SNAPSHOT_TEXT_MAX + 1, "%s/" COW_DECISION_DIRECTORY, state);
	if (length < 0 || (size_t)length + 1 + 2 * RANDOM_BYTES + 1 + strlen(owner) > SNAPSHOT_TEXT_MAX)
		return error_set(text, -ENAMETOOLONG, "%s: too long for the path of a decision record", state);
	return 0;
}

int client_decision_name(char *path, const char *owner, struct error_text *text)
{
	char directory[SNAPSHOT_TEXT_MAX + 1], name[2 * RANDOM_BYTES + 1];
	uint8_t random[RANDOM_BYTES];
	int error;

	error = name_directory(directory, owner ? owner : "", text);
	if (!error)
		error = path_make_state_dir(COW_DECISION_DIRECTORY, text);
	if (error)
		return error;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return error_set(text, -EIO, "cannot get a random number");
	hex_print(name, random, sizeof(random));
	snprintf(path, PATH_MAX, "%s/%s%s%s", directory, name, owner ? "." : "", owner ? owner : "");
	return 0;
}

/* "RANDOM.OWNER", or its temporary file "RANDOM.OWNER.PID". */
static bool is_owners(const char *file, const char *owner)
{
	size_t length = strlen(owner);

	return strlen(file) > 2 * RANDOM_BYTES && file[2 * RANDOM_BYTES] == '.' &&
	       !strncmp(file + 2 * RANDOM_BYTES + 1, owner, length) && strchr(".", file[2 * RANDOM_BYTES + 1 + length]);
}

int tapctl_records_forget(const char *owner, struct error_text *text)
{
	char directory[SNAPSHOT_TEXT_MAX + 1];
	struct dirent *entry;
	DIR *dir;
	int error = name_directory(directory, owner, text);

	if (error)
		return error;
	dir = opendir(directory);
	if (!dir)
		return errno == ENOENT ? 0 : error_set(text, -errno, "%s: %s", directory, strerror(errno));
	while (!error && (entry = readdir(dir))) {
		if (is_owners(entry->d_name, owner) && unlinkat(dirfd(dir), entry->d_name, 0) && errno != ENOENT)
			error = -errno;
	}
	if (!error && fsync(dirfd(dir)))
		error = -errno;
	closedir(dir);
	return error ? error_set(text, error, "%s: %s", directory, strerror(-error)) : 0;
}

int client_decision_make(const char *path, struct error_text *text)
{
	int error = cow_decision_commit(path, text), decided;

	client_step("decided");
	if (!error || error == -ECANCELED)
		return error;
	if (access(path, F_OK) && errno == ENOENT)
		return error;	/* only we decide for commit, so it is not committed */
	/* the record exists, so its content is final: read it */
	decided = cow_decision_abort(path, NULL);
	return decided == 1 ? 0 : decided ? -EINPROGRESS : error;
}

/* Mark the disks that answered without error as told. @again: -ENOENT, too: the disk has read the record itself. */
static bool note_told(struct many *many, bool again)
{
	bool all = true;

	for (unsigned i = 0; i < many->count; i++) {
		struct many_disk *disk = &many->disks[i];

		disk->told |= !disk->error || (again && disk->error == -ENOENT);
		all &= disk->told;
	}
	return all;
}

static json_t *commit_request(struct many_disk *disk, void *arg)
{
	const char *name = arg;

	disk->skip = disk->told;
	return disk->skip ? NULL : json_pack("{s:s, s:i, s:s}", "command", "snapshot-commit", "minor", disk->disk.minor,
					     "name", name);
}

/*
 * A disk that was cut off reads the record itself. Its tapdisk answers the
 * second command only after that, with -ENOENT: nothing is prepared any more.
 */
int client_decision_tell(struct many *many, const char *name, int timeout_ms, struct error_text *text)
{
	int error = many_call(many, commit_request, (void *)name, false, timeout_ms, text);
	struct error_text ignored = { "" };

	if (note_told(many, false) || error == -ETIMEDOUT)
		return error;
	many_reconnect(many);
	many_call(many, commit_request, (void *)name, false, timeout_ms, &ignored);
	return note_told(many, true) ? 0 : error;
}
