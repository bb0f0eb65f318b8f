/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped_file.h - a private file that outlives its process, in memory: 0600,
 * locked for as long as it is open, and believed only when nobody else could
 * have written to it. What is in it has to be checked all the same.
 */
#ifndef TAPSNAP_MAPPED_FILE_H
#define TAPSNAP_MAPPED_FILE_H

#include <stddef.h>
#include <stdint.h>

struct mapped_file {
	uint8_t *map;			/* NULL: not open */
	size_t size;
	int fd;
};

/* A fresh one, all zero, instead of what is there. @allocated: of its @size bytes, from the first; a store to what has no
 * space kills. 0 or -errno. */
int mapped_file_create(struct mapped_file *file, const char *path, size_t size, size_t allocated);
/* One that was left there. -ENOENT: there is none; -EBUSY: another process has it; -EUCLEAN: it is not ours alone;
 * -ERANGE: it has another size; other -errno. */
int mapped_file_open(struct mapped_file *file, const char *path, size_t size);
/* Leaves it there. */
void mapped_file_close(struct mapped_file *file);

#endif
