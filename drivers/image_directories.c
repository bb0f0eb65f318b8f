/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * image_directories.c - the list of directories that images may be in (image_directories.h).
 */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image_directories.h"
#include "path.h"

#define DIRECTORIES_MAX 64

static char *listed[DIRECTORIES_MAX + 1];
static bool is_read, is_there;
static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER;	/* for all three; a list that was read is not changed */

static const char *list_path(void)
{
	const char *path = getenv(IMAGE_DIRECTORIES_ENV);

	return path && *path ? path : IMAGE_DIRECTORIES_DEFAULT;
}

static int take_line(char *line, unsigned number, unsigned *count, struct error_text *error)
{
	line[strcspn(line, "\n")] = '\0';
	if (!*line || *line == '#')
		return 0;
	if (*line != '/')
		return error_set(error, -EINVAL, "%s: line %u: \"%.100s\" is not an absolute path", list_path(), number, line);
	if (*count == DIRECTORIES_MAX)
		return error_set(error, -E2BIG, "%s: more than %d directories", list_path(), DIRECTORIES_MAX);
	listed[*count] = realpath(line, NULL);
	if (listed[*count])
		(*count)++;
	else if (errno != ENOENT && errno != ENOTDIR)
		return error_set(error, -errno, "%s: line %u: %.200s: %s", list_path(), number, line, strerror(errno));
	return 0;
}

static int read_list(struct error_text *error)
{
	FILE *file = fopen(list_path(), "re");
	unsigned number = 0, count = 0;
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	if (!file)
		return errno == ENOENT ? 0 : error_set(error, -errno, "%s: %s", list_path(), strerror(errno));
	while (!ret && getline(&line, &size, file) >= 0)
		ret = take_line(line, ++number, &count, error);
	if (!ret && ferror(file))
		ret = error_set(error, -EIO, "%s: cannot be read", list_path());
	free(line);
	fclose(file);
	is_there = true;
	if (!ret)
		return 0;
	while (count)
		free(listed[--count]);
	memset(listed, 0, sizeof(listed));
	return ret;
}

int image_directories(char *const **directories, struct error_text *error)
{
	int ret;

	pthread_mutex_lock(&reading);
	ret = is_read ? 0 : read_list(error);
	is_read = !ret;
	*directories = ret || !is_there ? NULL : listed;
	pthread_mutex_unlock(&reading);
	return ret;
}

static bool is_in(const char *directory, const char *path)
{
	size_t length = strlen(directory);

	return !strncmp(path, directory, length) &&
	       (!path[length] || path[length] == '/' || (length && directory[length - 1] == '/'));
}

/* The real path, or that of the parent directory if the file does not exist. */
static bool resolve(const char *path, char real[PATH_MAX])
{
	char copy[PATH_MAX];

	if (path_real(path, real))
		return true;
	return errno == ENOENT && snprintf(copy, sizeof(copy), "%s", path) < (int)sizeof(copy) && path_real(dirname(copy), real);
}

int image_directories_check(const char *path, struct error_text *error)
{
	char *const *directories;
	char real[PATH_MAX];
	int ret = image_directories(&directories, error);

	if (ret || !directories)
		return ret;
	if (resolve(path, real)) {
		for (; *directories; directories++) {
			if (is_in(*directories, real))
				return 0;
		}
	}
	return error_set(error, -EPERM, "%s: is in none of the directories that %s allows images in", path, list_path());
}
