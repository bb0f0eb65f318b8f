/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * frontend.h - frontends on real Xen that do what no guest's does.
 *
 *   frontend SCENARIO DISK [WITNESS...] [-- COMMAND]
 *
 * In dom0 DISK and WITNESS are PID:MINOR:IMAGE, a tapdisk's open disk, whose
 * toolstack this program is too. The scenario happens to DISK; after each blow
 * the WITNESSes, one of them in DISK's own tapdisk, have to be served as before.
 * Everything written is known and read back, through the ring and in the image.
 * What fails ends the program with one line.
 *
 * In a guest DISK is the path in xenstore of a disk of the guest's own, which no
 * driver has: device/vbd/51712. That is for `siege`, which looks only at what a
 * guest can see.
 *
 * main.c           arguments, witnesses
 * disk.c           a disk's nodes, as a toolstack writes them; what its tapdisk holds
 * load.c           verified requests, also across a new ring
 * life.c           scenarios: frontends that come, go and come again
 * hostile_nodes.c  scenarios: nonsense in xenstore
 * hostile_ring.c   scenarios: nonsense in the ring
 * siege.c          scenario: all of that at once, until it is told to end
 */
#ifndef XEN_FRONTEND_H
#define XEN_FRONTEND_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "blkfront_xen.h"

#define PAGE_SIZE	4096u
#define BLOCK_SECTORS	8		/* a block of the model is a page */
#define EXTENT_BLOCKS	16u		/* each request of a load is within one area of this size */
#define MAX_EXTENTS	128u
#define SLOTS		8u		/* requests in flight */
#define TIMEOUT_MS	30000

/* ---- main.c ---- */

void fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void step(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the program if @result is an error. */
void must(int result, const char *what);
/* Runs the COMMAND of our arguments. */
void run_command(void);
/* All witnesses still get correct data. */
void check_witnesses(void);

extern struct xs_handle *store;		/* written by the toolstack */

/* ---- disk.c ---- */

struct disk {
	unsigned devid;
	int pid, minor;			/* pid 0: a guest's own disk, which has no image here either */
	const char *image;
	char frontend[64], backend[64];
	unsigned extents;
	uint32_t versions[MAX_EXTENTS * EXTENT_BLOCKS];	/* of each block, as last written; 0: zeros */
};

void disk_parse(struct disk *disk, unsigned number, const char *argument);
/* A guest's own disk, by its frontend's path. */
void disk_find(struct disk *disk, const char *frontend);
/* Write both ends' nodes, state Initialising, as xl and its hotplug script do. */
void disk_add(struct disk *disk);
/* Only the frontend's, after they were removed. */
void disk_add_frontend(struct disk *disk);
void disk_remove_frontend(struct disk *disk);
/* Unplug, wait, remove. No frontend may be connected. */
void disk_remove(struct disk *disk);

void disk_write_node(const char *directory, const char *name, const char *value);
/* malloc'ed, NULL: there is none */
char *disk_read_node(const char *directory, const char *name);
unsigned disk_read_number(const char *directory, const char *name);
/* Wait until the backend's `error` has @text in it, and `hotplug-error` too. */
void disk_wait_error(struct disk *disk, const char *text);
void disk_no_error(struct disk *disk);
void disk_wait_backend(struct disk *disk, enum blkfront_state state);

/* The image has every block as the model has it. */
void disk_verify_image(const struct disk *disk);
void block_fill(const struct disk *disk, unsigned block, uint32_t version, void *page);

/* The Xen resources of the disk's tapdisk: descriptors and mapped grants. */
struct resources {
	unsigned descriptors, mappings;
};
struct resources disk_resources(const struct disk *disk);
/* Wait until they are the same as @before. */
void disk_same_resources(const struct disk *disk, struct resources before);

/* A frontend with these options, connected; or only prepared. */
struct blkfront *disk_connect(struct disk *disk, struct blkfront_options shape);
struct blkfront *disk_prepare(struct disk *disk, struct blkfront_options shape);
/* Close it, and prepare for the next one. */
void disk_disconnect(struct disk *disk, struct blkfront *front);

/* ---- load.c ---- */

struct load_slot {
	bool busy, write, indirect;
	unsigned queue, block, count;	/* blocks */
};

struct load {
	struct disk *disk;
	struct blkfront *front;
	unsigned queues;
	bool indirect;			/* use indirect requests too */
	uint64_t random;
	struct load_slot slots[SLOTS];
};

void load_init(struct load *load, struct disk *disk, struct blkfront *front, unsigned queues);
/* Put requests into all free slots, without waiting. */
void load_fill(struct load *load);
/* Wait for at least @requests more correct answers; other requests stay in flight. */
void load_run(struct load *load, unsigned requests);
void load_drain(struct load *load);
/* Put the unanswered requests into the rings of @front, as after a resume. */
void load_move(struct load *load, struct blkfront *front, unsigned queues);

/* ---- hostile_ring.c ---- */

struct blkif_request;

/* From $SEED, or different each time. */
void fuzz_seed(void);
uint32_t fuzz_random(void);
/* A request (x86_64) that is nonsense, or almost right. */
void fuzz_request(const struct blkfront *front, struct blkif_request *request);

/* ---- scenarios ---- */

void scenario_shapes(struct disk *disk);
void scenario_restart(struct disk *disk);
void scenario_closing(struct disk *disk);
void scenario_vanish(struct disk *disk);
void scenario_quiet(struct disk *disk);
void scenario_resize(struct disk *disk);
void scenario_nodes(struct disk *disk);
void scenario_requests(struct disk *disk);
void scenario_revoke(struct disk *disk);
void scenario_indices(struct disk *disk);
void scenario_storm(struct disk *disk);
void scenario_fuzz(struct disk *disk);
void scenario_siege(struct disk *disk);

#endif
