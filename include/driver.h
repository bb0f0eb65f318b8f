/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * driver.h - what is behind a disk: raw bytes, nothing, a snapshot store.
 *
 * Each driver file ends in one struct driver_ops. Nobody calls those
 * directly: struct backend wraps an open driver, and the backend_* calls
 * check what every driver may rely on (the request is inside the disk, not a
 * write to a read-only one, each request completes exactly once).
 *
 * Threads: a backend and its engine belong to one thread.
 */
#ifndef TAPSNAP_DRIVER_H
#define TAPSNAP_DRIVER_H

#include "block.h"
#include "engine.h"

/* Why an open or another management call failed: one line that names the
 * thing and says what to do. Filled in by whoever knows most. */
struct error_text {
	char text[512];
};
/* Formats @text (when not NULL and still empty) and returns @error, so that
 * `return error_set(...)` is the idiom. @error is -errno. */
int error_set(struct error_text *text, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct driver_options {
	bool read_only;
	bool no_direct;			/* go through the page cache (tap-ctl open -D) */
	bool shared;			/* take no writer lock: somebody else keeps writers apart */
	unsigned sector_size;		/* what the guest is to see: 0 (512), 512 or 4096 bytes */
};

struct driver_geometry {
	uint64_t sectors;		/* size in 512-byte sectors */
	unsigned sector_size;		/* smallest unit the guest may use: 512 or 4096 bytes */
	unsigned physical_sector_size;	/* bytes; what the device below works in; a multiple of sector_size */
	bool read_only;
	bool direct;			/* O_DIRECT; false: through the page cache, as asked for or because the
					 * filesystem has nothing else */
	bool discard;			/* BLOCK_DISCARD does something */
	unsigned discard_granularity;	/* bytes; 0 when discard is false */
	unsigned discard_alignment;	/* bytes */
	bool pages_stable;		/* the device is done with a page once its request completed, so that a guest's
					 * own pages may be handed to it (design: direct-io-safe) */
};

struct driver_ops {
	const char *name;		/* the TYPE of TYPE:PATH */
	const char *help;		/* one line */
	/*
	 * Open @path. On success *@handle is the driver's until close(). On
	 * failure -errno, @error says why, and nothing is left open.
	 */
	int (*open)(void **handle, struct engine *engine, const char *path,
		    const struct driver_options *options, struct error_text *error);
	void (*close)(void *handle);	/* no request is in flight */
	void (*geometry)(void *handle, struct driver_geometry *geometry);
	/* Start @req; calls backend_done(req, error) once, now or later. */
	void (*submit)(void *handle, struct block_request *req);
	/* Look again at how large the image is; 0 or -errno. NULL: never changes. */
	int (*refresh_size)(void *handle, struct error_text *error);
};

extern const struct driver_ops driver_aio, driver_null;

/* NULL-terminated list of all drivers. */
extern const struct driver_ops *const drivers[];

struct backend {
	const struct driver_ops *ops;
	void *handle;
	struct engine *engine;
	struct driver_geometry geometry;	/* as of open or the last backend_refresh_size() */
	unsigned in_flight;
	char *path;
};

/*
 * backend_open() - open @target, "TYPE:PATH". The type is never guessed and
 * the path never probed. The caller closes with backend_close().
 */
int backend_open(struct backend **backend, struct engine *engine, const char *target,
		 const struct driver_options *options, struct error_text *error);
void backend_close(struct backend *backend);	/* in_flight must be 0 */

/*
 * backend_submit() - start @req. Out of range, misaligned to the sector size
 * or a write to a read-only disk is completed with -EINVAL, -EINVAL, -EROFS.
 * @req->owner and @req->done are the caller's. Whoever submits must see to
 * engine_commit() afterwards.
 */
void backend_submit(struct backend *backend, struct block_request *req);

/* backend_done() - for drivers: @req is over. */
void backend_done(struct block_request *req, int error);

int backend_refresh_size(struct backend *backend, struct error_text *error);

/* Split "TYPE:PATH" at the first colon. -EINVAL with a text when there is
 * none, no such type, or an empty path. *@path points into @target. */
int backend_parse_target(const char *target, const struct driver_ops **ops, const char **path,
			 struct error_text *error);

#endif
