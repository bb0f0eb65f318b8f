/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * mapped_file.h - a private file that outlives its process, mapped into
 * memory: mode 0600, locked while it is open, and accepted only when no other
 * user could have written to it. The caller must still check the contents.
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

/* Make a new file, all zero; replaces an existing one. @allocated: how many of its @size bytes get space, from the first;
 * a store to a page without space kills the process. 0 or -errno. */
int mapped_file_create(struct mapped_file *file, const char *path, size_t size, size_t allocated);
/* Open an existing file. -ENOENT: there is none; -EBUSY: another process has it; -EUCLEAN: others may have access to it;
 * -ERANGE: wrong size; other -errno. */
int mapped_file_open(struct mapped_file *file, const char *path, size_t size);
/* The file stays. */
void mapped_file_close(struct mapped_file *file);

#endif
