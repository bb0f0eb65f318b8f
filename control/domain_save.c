/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_save.c - the head of a save file, as `xl save` writes it and `xl
 * restore` reads it (Xen's tools/xl/xl.h): a fixed part, then "optional data":
 * the length of the configuration, and the configuration, libxl's JSON with a
 * NUL. libxl's stream of the memory follows.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "domain.h"

#define MAGIC "Xen saved domain, xl format\n \0 \r"
#define BYTE_ORDER_VALUE 0x01020304u
#define FLAG_JSON 1u			/* the configuration is JSON */
#define FLAG_STREAM_V2 2u
#define CONFIG_MAX (16u << 20)

struct save_head {
	char magic[32];
	uint32_t byte_order, mandatory_flags, optional_flags, optional_length;
};
_Static_assert(sizeof(struct save_head) == 48, "as xl has it");

static int write_all(int fd, const void *data, size_t length)
{
	const char *next = data;

	while (length) {
		ssize_t done = write(fd, next, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		next += done;
		length -= done;
	}
	return 0;
}

static int read_all(int fd, void *data, size_t length)
{
	char *next = data;

	while (length) {
		ssize_t done = read(fd, next, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EBADMSG;
		next += done;
		length -= done;
	}
	return 0;
}

int save_write_head(int fd, const char *config, struct error_text *text)
{
	size_t length = strlen(config) + 1;
	uint32_t length32 = (uint32_t)length;
	struct save_head head = {
		.magic = MAGIC, .byte_order = BYTE_ORDER_VALUE, .mandatory_flags = FLAG_JSON | FLAG_STREAM_V2,
		.optional_length = (uint32_t)(sizeof(length32) + length),
	};
	int error;

	if (length > CONFIG_MAX)
		return error_set(text, -EFBIG, "the domain's configuration is longer than %u bytes", CONFIG_MAX);
	error = write_all(fd, &head, sizeof(head));
	if (!error)
		error = write_all(fd, &length32, sizeof(length32));
	if (!error)
		error = write_all(fd, config, length);
	return error ? error_set(text, error, "the save file cannot be written: %s", strerror(-error)) : 0;
}

int save_read_head(int fd, char **config, struct error_text *text)
{
	struct save_head head;
	uint32_t length = 0;
	int error;

	*config = NULL;
	error = read_all(fd, &head, sizeof(head));
	if (!error && (memcmp(head.magic, MAGIC, sizeof(head.magic)) || head.byte_order != BYTE_ORDER_VALUE ||
		       !(head.mandatory_flags & FLAG_JSON)))
		error = -EBADMSG;
	if (!error)
		error = read_all(fd, &length, sizeof(length));
	if (!error && (length < 2 || length > CONFIG_MAX || head.optional_length != sizeof(length) + length))
		error = -EBADMSG;
	if (!error) {
		*config = malloc(length);
		error = *config ? read_all(fd, *config, length) : -ENOMEM;
	}
	if (!error && (*config)[length - 1])
		error = -EBADMSG;
	if (!error)
		return 0;
	free(*config);
	*config = NULL;
	return error_set(text, error, error == -EBADMSG ? "not an xl save file, or damaged" : "%s",
			 strerror(-error));
}
