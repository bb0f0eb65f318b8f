/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img.h - what the commands of tap-img share.
 */
#ifndef CONTROL_TAP_IMG_H
#define CONTROL_TAP_IMG_H

#include <getopt.h>
#include <jansson.h>

#include "client_interrupt.h"
#include "cow_base.h"

/* What `check` exits with besides 0 (nothing found) and 1 (failed), as qemu-img does. */
#define EXIT_CORRUPT 2
#define EXIT_LEAKS 3

struct image_command {
	const char *name;
	const char *usage;		/* behind "tap-img NAME " */
	const char *help;		/* one line */
	const char *options;		/* a line for each; may be NULL */
	int (*run)(const struct image_command *command, int argc, char **argv);	/* the exit code */
	int failed;			/* the exit code when the output could not be written; 0: 1 */
	int misused;			/* the exit code when it was called the wrong way; 0: 1 */
};

extern const struct image_command command_create, command_info, command_check, command_snapshot, command_resize,
	command_map, command_convert, command_measure, command_compare, command_commit, command_rebase;

/* A store that is open, with what it stands on. */
struct image {
	struct cow_device *device;
	struct cow_base base;
	struct cow_store *store;
};

/* "cow:PATH" or PATH: the path. */
const char *image_path(const char *target);
/* What is opened beneath a store. */
enum image_base { BASE_READ, BASE_WRITE, BASE_UNREAD };
int image_open_on(struct image *image, const char *target, bool read_only, enum image_base how, struct error_text *error);
int image_open(struct image *image, const char *target, bool read_only, struct error_text *error);
/* What was changed becomes a checkpoint. */
int image_close(struct image *image, struct error_text *error);

/* Parses a command's options with getopt_long; what --help and a wrong option do is done. Returns the option,
 * -1 at the end, or exits. */
int image_getopt(const struct image_command *command, int argc, char **argv, const char *letters,
		 const struct option *options);
/* Exits with a line about the usage unless exactly @count arguments are left. */
void image_arguments(const struct image_command *command, int argc, int count);

int image_fail(const struct error_text *error);		/* prints, returns 1 */
int image_print_json(json_t *json);			/* prints, frees, returns 0 */

/* tap-img-format.c: a disk to be read, of whatever format, held against writers. */
struct source {
	char *path;
	struct cow_base disk;		/* what to read it with */
	unsigned sector_size;		/* what its guest sees */
	struct image image;		/* of a cow source */
	struct cow_view view;
	struct cow_device *lock;	/* of one that QEMU's tools read */
	bool is_nbd;
};
/*
 * The name of a format as it is used here: "raw", "cow", or one of QEMU's.
 * @target may begin with aio: or cow: instead; *@path is what comes behind it.
 * NULL with a text: no such format, or none was said, and it is never guessed.
 */
const char *image_format(const char *target, const char *given, char given_by, const char **path, struct error_text *error);
/* @snapshot: its name, may be NULL; "cow:PATH@NAME" says it as well. */
int source_open(struct source *source, const char *target, const char *format, char format_letter, const char *snapshot,
		struct error_text *error);
void source_close(struct source *source);
/*
 * How much from @sector on, of *@nr_sectors at most, is zeros, or may be data.
 * DISK_CHUNK of data at most, which is what is read at once, and DISK_SKIP of zeros.
 */
int disk_zero_from(const struct cow_base *disk, uint64_t sector, uint64_t *nr_sectors, bool *zero);
/* Map changes between two checkpoints: with no requests to wait for one, and no other disks, more than a tapdisk has. */
#define LAYER_ENTRIES 131072u
#define DISK_CHUNK 2048u		/* sectors: 1 MiB */
#define DISK_SKIP (1u << 21)		/* sectors: 1 GiB */

/* tap-img-base.c: a raw image, or a snapshot in a store; what create and rebase record of it. */
int image_base_describe(const char *base, const char *format, enum cow_base_kind *kind, struct cow_base_fields *fields,
			struct error_text *error);

/* tap-img-nbd.c. @format: as QEMU calls it. */
int nbd_image_create(const char *path, const char *format, uint64_t sectors, struct error_text *error);
int nbd_image_open(struct cow_base *disk, const char *path, const char *format, bool read_only, struct error_text *error);
int nbd_image_write(const struct cow_base *disk, const void *data, uint64_t sector, uint64_t nr_sectors);
int nbd_image_close(struct cow_base *disk, const char *path, bool written, struct error_text *error);

/* tap-img-target.c: an image to be made. It is there when it is complete, and only then. */
struct target {
	char *path;			/* the image; a device is written where it is */
	char *part;			/* the file beside it that becomes it; NULL: a device */
	const char *format;
	struct cow_device *device, *lock;	/* lock: of a file that will be replaced */
	struct cow_store *store;
	bool made;			/* a store, which then holds only part of the copy until the end */
	struct cow_base nbd, base;	/* base: of a cow target that gets one */
	bool is_zero;			/* what is not written reads as zeros */
};
struct target_options {
	const char *format;
	struct cow_create_options cow;	/* sectors count for all formats */
};
int target_begin(struct target *target, const char *path, const struct target_options *options, struct error_text *error);
int target_write(struct target *target, const void *data, uint64_t sector, uint64_t nr_sectors);
int target_zero(struct target *target, uint64_t sector, uint64_t nr_sectors);
/* @ret: what the writing came to; an image that failed is removed. Returns @ret, or why it could not be completed. */
int target_end(struct target *target, int ret, struct error_text *error);

/* tap-img-progress.c */
struct progress {
	const char *what;
	bool terminal, always, drawn;
	double started, shown;
};
/* @always: in a pipe, too. Signals are caught. */
void progress_begin(struct progress *progress, const char *what, bool always);
/* Bytes. -EINTR: the work is to end. */
int progress_step(struct progress *progress, uint64_t done, uint64_t total);
void progress_end(struct progress *progress);
void progress_line(const struct progress *progress, double seconds, uint64_t done, uint64_t total, char *line, size_t size);

#define JSON_LETTER 'J'
#define COMMON_OPTIONS { "json", no_argument, NULL, JSON_LETTER }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }

#endif
