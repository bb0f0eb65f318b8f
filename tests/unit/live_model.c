/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_model.c - see live_model.h.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "live_model.h"

uint64_t live_sector(unsigned cell)
{
	return (uint64_t)(cell / LIVE_ISLAND) * LIVE_STRIDE + cell % LIVE_ISLAND;
}

unsigned live_cell_from(uint64_t sector)
{
	unsigned island = sector / LIVE_STRIDE, at = sector % LIVE_STRIDE;

	return at < LIVE_ISLAND ? island * LIVE_ISLAND + at : (island + 1) * LIVE_ISLAND;
}

uint64_t live_base_tag(unsigned cell)
{
	return cell % 5 ? 1ull << 62 | cell : 0;
}

uint64_t live_tag(uint64_t write, unsigned cell)
{
	return write << 16 | cell;
}

static struct live_value *value_add(struct live_cell *cell)
{
	if (cell->count == cell->room) {
		cell->room = cell->room * 2 + 4;
		cell->value = reallocarray(cell->value, cell->room, sizeof(*cell->value));
		assert(cell->value);
	}
	return &cell->value[cell->count++];
}

void live_settle(struct live_model *model, unsigned cell, uint64_t tag)
{
	model->cell[cell].count = 0;
	*value_add(&model->cell[cell]) = (struct live_value){ .tag = tag, .submitted = model->now, .ended = model->now,
		.replaced = LIVE_EVER };
}

void live_model_init(struct live_model *model, bool with_base)
{
	unsigned i;

	memset(model, 0, sizeof(*model));
	model->now = 1;
	model->watched = LIVE_EVER;
	model->next_write = 1;
	model->sectors = LIVE_DISK;
	for (i = 0; i < LIVE_CELLS; i++)
		live_settle(model, i, with_base ? live_base_tag(i) : 0);
}

void live_model_free(struct live_model *model)
{
	unsigned i;

	for (i = 0; i < LIVE_CELLS; i++)
		free(model->cell[i].value);
}

void live_write_begin(struct live_model *model, unsigned cell, uint64_t tag)
{
	*value_add(&model->cell[cell]) = (struct live_value){ .tag = tag, .submitted = model->now, .replaced = LIVE_EVER };
}

/* Values that can no longer be read are forgotten. */
static void cell_purge(struct live_model *model, struct live_cell *cell)
{
	unsigned i, kept = 0;

	for (i = 0; i < cell->count; i++) {
		if (cell->value[i].replaced_durably && cell->value[i].replaced < model->watched)
			continue;
		cell->value[kept++] = cell->value[i];
	}
	cell->count = kept;
}

static struct live_value *value_of(struct live_cell *cell, uint64_t submitted)
{
	unsigned i;

	for (i = 0; cell->value[i].submitted != submitted || cell->value[i].ended; i++)
		assert(i + 1 < cell->count);
	return &cell->value[i];
}

void live_write_end(struct live_model *model, unsigned number, uint64_t submitted, bool failed)
{
	struct live_cell *cell = &model->cell[number];
	struct live_value *ended, *old;

	ended = value_of(cell, submitted);
	ended->ended = model->now;
	ended->failed = failed;
	for (old = cell->value; !failed && old < cell->value + cell->count; old++) {
		if (old->ended && old->ended < submitted && old->replaced == LIVE_EVER)
			old->replaced = model->now;
	}
}

static bool is_durable(const struct live_value *value, uint64_t flushed)
{
	return value->ended && value->ended < flushed && !value->failed;
}

void live_flush_end(struct live_model *model, uint64_t submitted)
{
	struct live_value *durable, *old;
	struct live_cell *cell;

	for (cell = model->cell; cell < model->cell + LIVE_CELLS; cell++) {
		if (cell->count == 1)
			continue;
		for (durable = cell->value; durable < cell->value + cell->count; durable++) {
			for (old = cell->value; is_durable(durable, submitted) &&
			     old < cell->value + cell->count; old++)
				old->replaced_durably |= old->ended && old->ended < durable->submitted;
		}
		cell_purge(model, cell);
	}
}

bool live_read(struct live_model *model, unsigned number, uint64_t submitted, uint64_t tag)
{
	struct live_cell *cell = &model->cell[number];
	struct live_value *value;
	bool found = false, quiet = true;

	for (value = cell->value; value < cell->value + cell->count; value++) {
		found |= value->tag == tag && value->replaced > submitted;
		quiet &= value->ended && value->ended < submitted;
	}
	for (value = cell->value; quiet && found && value < cell->value + cell->count; value++) {
		if (value->tag != tag && value->replaced == LIVE_EVER)
			value->replaced = submitted;
	}
	return found;
}

bool live_after_crash(const struct live_model *model, unsigned number, uint64_t tag)
{
	const struct live_cell *cell = &model->cell[number];
	unsigned i;

	for (i = 0; i < cell->count; i++) {
		if (cell->value[i].tag == tag && !cell->value[i].replaced_durably)
			return true;
	}
	return false;
}

void live_image_take(const struct live_model *model, uint64_t from, bool part, struct live_image *image)
{
	const struct live_value *value;
	unsigned i, j, n = 0;

	live_image_free(image);
	for (i = 0; i < LIVE_CELLS; i++)
		n += model->cell[i].count;
	image->choice = malloc(n * sizeof(*image->choice));
	assert(image->choice);
	image->known = false;
	image->sectors = model->sectors;
	for (i = 0, n = 0; i < LIVE_CELLS; i++) {
		image->first[i] = n;
		for (j = 0; j < model->cell[i].count; j++) {
			value = &model->cell[i].value[j];
			if ((!value->ended && !part) || value->replaced <= from)
				continue;
			image->choice[n] = *value;
			if (part || value->failed)
				image->choice[n].ended = value->submitted;
			n++;
		}
	}
	image->first[LIVE_CELLS] = n;
}

void live_image_restore(const struct live_image *image, struct live_model *model)
{
	struct live_cell *cell = model->cell;
	unsigned i, j;

	model->sectors = image->sectors;
	for (i = 0; i < LIVE_CELLS; i++, cell++) {
		cell->count = 0;
		for (j = image->first[i]; j < image->first[i + 1]; j++)
			*value_add(cell) = (struct live_value){ .tag = image->choice[j].tag, .submitted = model->now,
				.ended = model->now, .replaced = LIVE_EVER };
	}
}

void live_image_free(struct live_image *image)
{
	free(image->choice);
	image->choice = NULL;
}

bool live_image_may(const struct live_image *image, unsigned cell, uint64_t tag)
{
	unsigned i;

	for (i = image->first[cell]; i < image->first[cell + 1]; i++) {
		if (image->choice[i].tag == tag)
			return true;
	}
	return false;
}

/* A cell whose value was written twice tells nothing about the time. */
bool live_image_fits(const struct live_image *image, const uint64_t *tags, unsigned *bad)
{
	uint64_t from = 0, to = LIVE_EVER;
	const struct live_value *found;
	unsigned i, j, n;

	for (*bad = 0; *bad < LIVE_CELLS; ++*bad) {
		i = *bad;
		for (n = 0, j = image->first[i]; j < image->first[i + 1]; j++) {
			if (image->choice[j].tag != tags[i])
				continue;
			found = &image->choice[j];
			n++;
		}
		if (!n)
			return false;
		if (n > 1 || image->known)
			continue;
		from = found->ended > from ? found->ended : from;
		to = found->replaced < to ? found->replaced : to;
		if (from >= to)
			return false;
	}
	return true;
}

bool live_image_settle(struct live_image *image, const uint64_t *tags, unsigned *bad)
{
	unsigned i;

	if (!live_image_fits(image, tags, bad))
		return false;
	for (i = 0; i < LIVE_CELLS && !image->known; i++) {
		image->choice[i] = (struct live_value){ .tag = tags[i] };
		image->first[i] = i;
	}
	image->first[LIVE_CELLS] = LIVE_CELLS;
	image->known = true;
	return true;
}
