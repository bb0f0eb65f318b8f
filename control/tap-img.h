/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img.h - what the commands of tap-img share.
 */
#ifndef CONTROL_TAP_IMG_H
#define CONTROL_TAP_IMG_H

#include <getopt.h>
#include <jansson.h>

#include "cow-base.h"

/* What `check` exits with besides 0 (nothing found) and 1 (failed), as qemu-img does. */
#define EXIT_CORRUPT 2
#define EXIT_LEAKS 3

struct image_command {
	const char *name;
	const char *usage;		/* behind "tap-img NAME " */
	const char *help;		/* one line */
	const char *options;		/* a line for each; may be NULL */
	int (*run)(const struct image_command *command, int argc, char **argv);	/* the exit code */
};

extern const struct image_command command_create, command_info, command_check, command_snapshot, command_resize,
	command_map;

/* A store that is open, with what it stands on. */
struct image {
	struct cow_device *device;
	struct cow_base base;
	struct cow_store *store;
};

/* "cow:PATH" or PATH: the path. */
const char *image_path(const char *target);
int image_open(struct image *image, const char *target, bool read_only, struct error_text *error);
/* What was changed becomes a checkpoint. */
int image_close(struct image *image, struct error_text *error);

/* "10G": bytes, suffixes b k M G T P as qemu-img has them, in whole sectors. -EINVAL, -ERANGE with a text. */
int image_parse_size(const char *text, uint64_t *bytes, struct error_text *error);

/* Parses a command's options with getopt_long; what --help and a wrong option do is done. Returns the option,
 * -1 at the end, or exits. */
int image_getopt(const struct image_command *command, int argc, char **argv, const char *letters,
		 const struct option *options);
/* Exits with a line about the usage unless exactly @count arguments are left. */
void image_arguments(const struct image_command *command, int argc, int count);

int image_fail(const struct error_text *error);		/* prints, returns 1 */
int image_print_json(json_t *json);			/* prints, frees, returns 0 */

#define JSON_LETTER 'J'
#define COMMON_OPTIONS { "json", no_argument, NULL, JSON_LETTER }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }

#endif
