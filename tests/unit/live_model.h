/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_model.h - the contents that a disk may have while many requests are in
 * flight: for each 512-byte sector all possible values, and their times.
 *
 * Time is a count of events. A write takes effect at some time between its
 * submission and its end; from its end on it has replaced all values whose
 * writes had ended before it was submitted. A flush that has ended makes
 * durable all writes that had ended when it was submitted: after a crash, values
 * that such a write had replaced are gone.
 *
 * Only the sectors of some islands are used, most of them in different
 * leaves of the map, so that a small model has a map of many nodes.
 */
#ifndef TESTS_LIVE_MODEL_H
#define TESTS_LIVE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define LIVE_ISLANDS 40u
#define LIVE_ISLAND 93u			/* sectors */
#define LIVE_STRIDE 4064u
#define LIVE_CELLS (LIVE_ISLANDS * LIVE_ISLAND)
#define LIVE_DISK ((LIVE_ISLANDS - 1) * LIVE_STRIDE + LIVE_ISLAND)	/* sectors */
#define LIVE_EVER UINT64_MAX

struct live_value {
	uint64_t tag;			/* 0: zeros */
	uint64_t submitted, ended;	/* ended 0: in flight */
	uint64_t replaced;		/* time from which it cannot be read; LIVE_EVER: not replaced */
	bool replaced_durably;		/* gone after a crash, too */
	bool failed;			/* the write failed: the value may never have been there */
};

struct live_cell {
	struct live_value *value;
	unsigned count, room;
};

/* What a snapshot can hold: cell i has choice[first[i]] to choice[first[i + 1] - 1]. */
struct live_image {
	bool known;			/* each cell has one choice */
	uint64_t sectors;
	struct live_value *choice;
	unsigned first[LIVE_CELLS + 1];
};

struct live_model {
	uint64_t now;
	uint64_t watched;		/* keep all values since this time, for reads in progress */
	uint64_t sectors;		/* size of the disk: LIVE_DISK or less */
	struct live_cell cell[LIVE_CELLS];
	uint64_t next_write;
};

uint64_t live_sector(unsigned cell);
/* The first cell at or after @sector. */
unsigned live_cell_from(uint64_t sector);
uint64_t live_base_tag(unsigned cell);

void live_model_init(struct live_model *model, bool with_base);
void live_model_free(struct live_model *model);

/* A unique tag, of the write's number and the cell. */
uint64_t live_tag(uint64_t write, unsigned cell);
void live_write_begin(struct live_model *model, unsigned cell, uint64_t tag);
/* @submitted: the time of live_write_begin(). A failed write may have taken effect or not. */
void live_write_end(struct live_model *model, unsigned cell, uint64_t submitted, bool failed);
void live_flush_end(struct live_model *model, uint64_t submitted);
/* Whether a read submitted at @submitted may now return @tag, which is then the only value if no write is in flight. */
bool live_read(struct live_model *model, unsigned cell, uint64_t submitted, uint64_t tag);
bool live_after_crash(const struct live_model *model, unsigned cell, uint64_t tag);
/* From now on @tag is the cell's only, durable value. */
void live_settle(struct live_model *model, unsigned cell, uint64_t tag);

/*
 * The contents of a snapshot taken at one time between @from and now: without writes in flight. With @part they may
 * count: a write that waits for room in the store has been done in part.
 */
void live_image_take(const struct live_model *model, uint64_t from, bool part, struct live_image *image);
/* Give the disk the snapshot's contents, durably. */
void live_image_restore(const struct live_image *image, struct live_model *model);
void live_image_free(struct live_image *image);
bool live_image_may(const struct live_image *image, unsigned cell, uint64_t tag);
/* Whether @tags were all there at one time; then they are the image's contents. @bad: a cell that does not fit. */
bool live_image_settle(struct live_image *image, const uint64_t *tags, unsigned *bad);
/* The same, but leave the image as it is. */
bool live_image_fits(const struct live_image *image, const uint64_t *tags, unsigned *bad);

#endif
