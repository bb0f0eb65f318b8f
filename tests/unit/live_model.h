/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_model.h - what a disk may hold while many requests are in flight: for
 * each 512-byte sector all values that can be there, and when they could.
 *
 * Time is a count of events. A write takes effect at some time between its
 * submission and its end; from its end on nothing is there any more that had
 * ended before it was submitted. A flush that has ended makes sure of all
 * that had ended when it was submitted: after a crash nothing is there that
 * such a write had replaced.
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
	uint64_t replaced;		/* it cannot be there from then on; LIVE_EVER: it can */
	bool replaced_durably;		/* nor after a crash */
	bool failed;			/* it may never have been there */
};

struct live_cell {
	struct live_value *value;
	unsigned count, room;
};

/* What a snapshot can hold: cell i has choice[first[i]] to choice[first[i + 1] - 1]. */
struct live_image {
	bool known;			/* one choice each */
	uint64_t sectors;
	struct live_value *choice;
	unsigned first[LIVE_CELLS + 1];
};

struct live_model {
	uint64_t now;
	uint64_t watched;		/* since then everything is remembered: somebody is reading */
	uint64_t sectors;		/* of the disk: LIVE_DISK or less */
	struct live_cell cell[LIVE_CELLS];
	uint64_t next_write;
};

uint64_t live_sector(unsigned cell);
/* The first cell at @sector or behind it. */
unsigned live_cell_from(uint64_t sector);
uint64_t live_base_tag(unsigned cell);

void live_model_init(struct live_model *model, bool with_base);
void live_model_free(struct live_model *model);

/* A tag that nothing else has: a number of the write, and the cell. */
uint64_t live_tag(uint64_t write, unsigned cell);
void live_write_begin(struct live_model *model, unsigned cell, uint64_t tag);
/* @submitted: the time of live_write_begin(). One that failed may have been done, or not. */
void live_write_end(struct live_model *model, unsigned cell, uint64_t submitted, bool failed);
void live_flush_end(struct live_model *model, uint64_t submitted);
/* Whether a read that was submitted then, and ends now, may find this; it is the only value then if nobody writes. */
bool live_read(struct live_model *model, unsigned cell, uint64_t submitted, uint64_t tag);
bool live_after_crash(const struct live_model *model, unsigned cell, uint64_t tag);
/* That is what is there, for good. */
void live_settle(struct live_model *model, unsigned cell, uint64_t tag);

/*
 * What a snapshot holds that was taken at one time between @from and now: nothing that is in flight. Unless @part: a
 * write that has met the end of the store's room waits until there is more, and a part of it has been done.
 */
void live_image_take(const struct live_model *model, uint64_t from, bool part, struct live_image *image);
/* The disk is what the snapshot is, durably. */
void live_image_restore(const struct live_image *image, struct live_model *model);
void live_image_free(struct live_image *image);
bool live_image_may(const struct live_image *image, unsigned cell, uint64_t tag);
/* Whether all of it was there at one time; then that is what it holds. @bad: a cell that does not fit. */
bool live_image_settle(struct live_image *image, const uint64_t *tags, unsigned *bad);
/* The same, without any change. */
bool live_image_fits(const struct live_image *image, const uint64_t *tags, unsigned *bad);

#endif
