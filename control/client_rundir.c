/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_rundir.c - the run directory: creates it, and lists the numbered
 * names in it (sockets by pid, markers by minor).
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_internal.h"
#include "path.h"

int client_make_run_dir(struct error_text *text)
{
	int error = path_make_run_dir(text);
	char *markers;

	if (error)
		return error;
	if (asprintf(&markers, MINOR_DIR_FORMAT, tapctl_run_dir()) < 0)
		return error_set(text, -ENOMEM, "out of memory");
	if (path_mkdir(markers, 0755) && errno != EEXIST)
		error = error_set(text, -errno, "%s: cannot create the directory: %s", markers, strerror(errno));
	free(markers);
	return error;
}

int client_parse_number(const char *digits, int max)
{
	long number = 0;

	/* reject leading zeros: "07" and "7" must not mean the same */
	if (!*digits || (digits[0] == '0' && digits[1]))
		return -1;
	for (; *digits; digits++) {
		if (*digits < '0' || *digits > '9')
			return -1;
		number = number * 10 + (*digits - '0');
		if (number > max)
			return -1;
	}
	return (int)number;
}

static int compare_numbers(const void *a, const void *b)
{
	int left = *(const int *)a, right = *(const int *)b;

	return (left > right) - (left < right);
}

static int append_number(int **numbers, size_t *count, int number)
{
	int *grown;

	/* grow at powers of two */
	if (!(*count & (*count - 1))) {
		grown = realloc(*numbers, (*count ? *count * 2 : 1) * sizeof(int));
		if (!grown)
			return -ENOMEM;
		*numbers = grown;
	}
	(*numbers)[(*count)++] = number;
	return 0;
}

int client_list_numbers(const char *directory, const char *prefix, int max, int **numbers, size_t *count)
{
	size_t length = strlen(prefix);
	struct dirent *entry;
	int number, error = 0;
	DIR *dir;

	*numbers = NULL;
	*count = 0;
	dir = opendir(directory);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;	/* no tapdisk was ever started */
	while (!error && (errno = 0, entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, length))
			continue;
		number = client_parse_number(entry->d_name + length, max);
		if (number >= 0)
			error = append_number(numbers, count, number);
	}
	if (!error && errno)
		error = -errno;
	closedir(dir);
	if (error) {
		free(*numbers);
		*numbers = NULL;
		*count = 0;
	} else if (*count) {
		qsort(*numbers, *count, sizeof(int), compare_numbers);
	}
	return error;
}
