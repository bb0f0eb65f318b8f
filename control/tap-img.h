/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img.h - shared by the commands of tap-img.
 */
#ifndef CONTROL_TAP_IMG_H
#define CONTROL_TAP_IMG_H

#include <getopt.h>
#include <jansson.h>

#include "client_interrupt.h"
#include "cow_base.h"

/* Exit codes of `check` besides 0 (no error found) and 1 (failed), as qemu-img's. */
#define EXIT_CORRUPT 2
#define EXIT_LEAKS 3

struct image_command {
	const char *name;
	const char *usage;		/* follows "tap-img NAME " */
	const char *help;		/* one line */
	const char *options;		/* one line each; may be NULL */
	int (*run)(const struct image_command *command, int argc, char **argv);	/* the exit code */
	int failed;			/* the exit code when the output could not be written; 0: 1 */
	int misused;			/* the exit code for a usage error; 0: 1 */
};

extern const struct image_command command_create, command_info, command_check, command_snapshot, command_resize,
	command_map, command_convert, command_measure, command_compare, command_commit, command_rebase;

/* An open store with its base. */
struct image {
	struct cow_device *device;
	struct cow_base base;
	struct cow_store *store;
	unsigned prepared;		/* snapshots that were prepared when it was opened */
};

/* The path of "cow:PATH" or PATH. */
const char *image_path(const char *target);
/* How the base of a store is opened; UNREAD: not at all. */
enum image_base { BASE_READ, BASE_WRITE, BASE_UNREAD };
int image_open_on(struct image *image, const char *target, bool read_only, enum image_base how, struct error_text *error);
int image_open(struct image *image, const char *target, bool read_only, struct error_text *error);
/* Writes changes as a checkpoint. */
int image_close(struct image *image, struct error_text *error);

/* Parses a command's options with getopt_long, and handles --help and wrong options. Returns the option, -1 at
 * the end, or exits. */
int image_getopt(const struct image_command *command, int argc, char **argv, const char *letters,
		 const struct option *options);
/* Prints a line that says what was wrong, with --json also as JSON, and exits. */
void image_misused(const struct image_command *command, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));
/* Exits in the same way unless exactly @count arguments are left, the last @count words of the usage. */
void image_arguments(const struct image_command *command, int argc, int count);

/* Prints the error, with --json also as JSON; returns 1. @error: -errno. */
int image_fail(int error, const struct error_text *text);
int image_print_json(json_t *json);			/* prints and frees @json; returns 0 */
void image_list_json(json_t *json);			/* prints and frees one element of an array */
void image_list_end(void);				/* prints the end of it */

/* tap-img-format.c: a disk of any format, opened for reading and locked against writers. */
struct source {
	char *path;
	struct cow_base disk;		/* to read it with */
	unsigned sector_size;		/* bytes, as its guest sees it */
	struct image image;		/* of a cow source */
	struct cow_view view;
	struct cow_device *lock;	/* of a disk that QEMU's tools read */
	bool is_nbd;
};
/*
 * The name of a format: "raw", "cow", or one of QEMU's, from @given or from
 * an aio: or cow: at the beginning of @target; *@path is what follows that.
 * NULL with a text: no such format, or none given; it is never guessed.
 */
const char *image_format(const char *target, const char *given, char given_by, const char **path, struct error_text *error);
/* @snapshot: a name, or NULL; "cow:PATH@NAME" also selects one. */
int source_open(struct source *source, const char *target, const char *format, char format_letter, const char *snapshot,
		struct error_text *error);
void source_close(struct source *source);
/*
 * Sets *@nr_sectors, at most its old value, to the length from @sector on that is zeros
 * or may be data: at most DISK_SKIP of zeros, or DISK_CHUNK of data (read in one piece).
 */
int disk_zero_from(const struct cow_base *disk, uint64_t sector, uint64_t *nr_sectors, bool *zero);
/* Map changes between two checkpoints. More than in tapdisk: no requests wait for a checkpoint, and there is one disk. */
#define LAYER_ENTRIES 131072u
#define DISK_CHUNK 2048u		/* sectors: 1 MiB */
#define DISK_SKIP (1u << 21)		/* sectors: 1 GiB */

/* tap-img-base.c: what create and rebase record of a base: a raw image, or a snapshot in a store. */
int image_base_describe(const char *base, const char *format, enum cow_base_kind *kind, struct cow_base_fields *fields,
			struct error_text *error);

/* tap-img-nbd.c. @format: QEMU's name of it. */
int nbd_image_create(const char *path, const char *format, uint64_t sectors, struct error_text *error);
int nbd_image_open(struct cow_base *disk, const char *path, const char *format, bool read_only, struct error_text *error);
int nbd_image_write(const struct cow_base *disk, const void *data, uint64_t sector, uint64_t nr_sectors);
int nbd_image_close(struct cow_base *disk, const char *path, bool written, struct error_text *error);

/* tap-img-target.c: an image to create. Its file appears only when it is complete. */
struct target {
	char *path;			/* the image; a device is written in place */
	char *part;			/* the temporary file beside it that replaces it; NULL: a device, or @is_new */
	bool is_new;			/* it gets its name at the end (cow_file_new()) */
	const char *format;
	struct cow_device *device, *lock;	/* lock: of a file that will be replaced */
	struct cow_store *store;
	bool made;			/* a store was created, which is incomplete until the end */
	struct cow_base nbd, base;	/* base: of a cow target with a base */
	bool is_zero;			/* unwritten sectors read as zeros */
};
struct target_options {
	const char *format;
	struct cow_create_options cow;	/* sectors count for all formats */
};
int target_begin(struct target *target, const char *path, const struct target_options *options, struct error_text *error);
int target_write(struct target *target, const void *data, uint64_t sector, uint64_t nr_sectors);
int target_zero(struct target *target, uint64_t sector, uint64_t nr_sectors);
/* @ret: 0, or the error of the writes: then the image is removed. Returns @ret, or the error that kept it from completion. */
int target_end(struct target *target, int ret, struct error_text *error);

/* tap-img-progress.c */
struct progress {
	const char *what;
	bool terminal, always, drawn;
	double started, shown;
};
/* @always: also without a terminal. Catches signals. */
void progress_begin(struct progress *progress, const char *what, bool always);
/* Bytes. -EINTR: a signal has come, stop the work. */
int progress_step(struct progress *progress, uint64_t done, uint64_t total);
void progress_end(struct progress *progress);
void progress_line(const struct progress *progress, double seconds, uint64_t done, uint64_t total, char *line, size_t size);

static inline uint64_t smaller(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

#define JSON_LETTER 'J'
#define COMMON_OPTIONS { "json", no_argument, NULL, JSON_LETTER }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }

#endif
