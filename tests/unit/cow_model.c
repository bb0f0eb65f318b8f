/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_model.c - see cow_model.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"
#include "cow_model.h"

#define MAX_RUN 40
#define CHUNK 512u			/* sectors read at a time */

uint64_t model_seed, model_cut;

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
	const char *text = getenv(variable);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

uint64_t model_first_seed(uint64_t otherwise)
{
	return number_from("TAPSNAP_SEED", otherwise);
}

unsigned model_seeds(unsigned otherwise)
{
	return number_from("TAPSNAP_SEEDS", getenv("TAPSNAP_SEED") ? 1 : otherwise);
}

uint64_t model_base_tag(uint64_t sector)
{
	return sector % 5 ? 1ull << 48 | sector : 0;
}

static int base_read(void *owner, void *data, uint64_t sector, uint64_t nr_sectors)
{
	int ret = sim_read_beside(owner);
	uint64_t i;

	assert_true(sector + nr_sectors <= MODEL_BASE_SECTORS);
	for (i = 0; i < nr_sectors; i++)
		sim_fill_sector((uint8_t *)data + i * 512, model_base_tag(sector + i));
	return ret;
}

static void __attribute__((noreturn, format(printf, 2, 3))) model_fail(struct model *model, const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fail_msg("TAPSNAP_SEED=%llu cut %llu operation %llu: %s", (unsigned long long)model_seed,
		 (unsigned long long)model_cut, (unsigned long long)model->operations, text);
	abort();
}

static uint64_t pick(struct model *model, uint64_t below)
{
	return sim_random(&model->random) % below;
}

void model_init(struct model *model, struct sim *sim, uint64_t seed, uint64_t sectors, bool with_base)
{
	static const struct cow_base_fields base = { .sectors = MODEL_BASE_SECTORS, .target = "aio:/base" };
	struct cow_create_options options = { .sectors = sectors, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	uint64_t i;

	memset(model, 0, sizeof(*model));
	model->sim = sim;
	model->random = seed * 2654435761u | 1;
	model->next_tag = 1;
	model->active.sectors = sectors;
	if (with_base) {
		options.base_kind = COW_BASE_RAW;
		options.base = &base;
		model->base = (struct cow_base){ base_read, sim, MODEL_BASE_SECTORS };
		for (i = 0; i < MODEL_BASE_SECTORS && i < sectors; i++)
			model->active.tag[i] = model_base_tag(i);
	}
	model->stable = model->active;
	if (cow_create(&sim->device, &options, &error))
		model_fail(model, "%s", error.text);
}

void model_free(struct model *model)
{
	if (model->store)
		cow_abandon(model->store);
	free(model->later);
}

struct model *model_new(struct sim *sim, uint64_t seed, uint64_t sectors, bool with_base)
{
	struct model *model = malloc(sizeof(*model));

	assert_non_null(model);
	model_init(model, sim, seed, sectors, with_base);
	return model;
}

void model_end(struct model *model)
{
	struct sim *sim = model->sim;

	model_free(model);
	free(model);
	sim_free(sim);
}

int model_open(struct model *model)
{
	struct cow_open_options options = { .layer_entries = 600, .cache_bytes = model->small_cache ? 1 : 0,
		.base = model->base, .journal = model->journal };
	struct error_text error = { "" };
	int ret;

	ret = cow_open(&model->store, &model->sim->device, &options, &error);
	if (ret && !model->sim->off && !model->sim->fail_at)
		model_fail(model, "open: %s", error.text);
	if (ret)
		model->store = NULL;
	return ret;
}

static void later_add(struct model *model, uint64_t sector, uint64_t tag)
{
	if (model->nr_later == model->later_room) {
		model->later_room = model->later_room ? model->later_room * 2 : 1024;
		model->later = reallocarray(model->later, model->later_room, sizeof(*model->later));
		assert_non_null(model->later);
	}
	model->later[model->nr_later++] = (struct model_later){ sector, tag };
	model->active.tag[sector] = tag;
}

static void all_durable(struct model *model)
{
	model->stable = model->active;
	model->nr_later = 0;
}

/* The model records a write before the store gets it: after a crash in the middle it may be there. */
int model_write(struct model *model, uint64_t sector, uint64_t count)
{
	uint8_t data[MAX_RUN * 512];
	uint64_t i;

	assert_true(count <= MAX_RUN);
	for (i = 0; i < count; i++) {
		sim_fill_sector(data + i * 512, model->next_tag);
		later_add(model, sector + i, model->next_tag++);
	}
	return cow_write(model->store, data, sector, count);
}

int model_discard(struct model *model, uint64_t sector, uint64_t count, bool zeroes)
{
	uint64_t i, first = sector, end = sector + count;

	if (!zeroes) {		/* whole blocks only; the last one of the disk may be short */
		first = (sector + 7) / 8 * 8;
		end = end == model->active.sectors ? end : end / 8 * 8;
	}
	for (i = first; i < end; i++)
		later_add(model, i, 0);
	return zeroes ? cow_write_zeroes(model->store, sector, count) : cow_discard(model->store, sector, count);
}

int model_flush(struct model *model)
{
	int ret = cow_flush(model->store);

	if (!ret)
		all_durable(model);
	return ret;
}

static struct model_snapshot *find(struct model *model, const char *name)
{
	int i;

	for (i = 0; i < MODEL_SNAPSHOTS; i++) {
		if (!strcmp(model->snapshots[i].name, name))
			return &model->snapshots[i];
	}
	return NULL;
}

static struct model_snapshot *random_snapshot(struct model *model)
{
	int first = pick(model, MODEL_SNAPSHOTS), i;

	for (i = 0; i < MODEL_SNAPSHOTS; i++) {
		if (model->snapshots[(first + i) % MODEL_SNAPSHOTS].name[0])
			return &model->snapshots[(first + i) % MODEL_SNAPSHOTS];
	}
	return NULL;
}

int model_snapshot(struct model *model, const char *name)
{
	struct model_snapshot *slot = find(model, "");
	struct error_text error = { "" };
	int ret;

	assert_non_null(slot);
	strcpy(model->target.name, name);
	model->target.image = model->active;
	model->pending = CREATING;
	ret = cow_snapshot_create(model->store, name, "made by the model", &error);
	if (ret)
		return ret;
	model->pending = NOTHING;
	*slot = model->target;
	all_durable(model);
	return 0;
}

int model_delete(struct model *model, const char *name)
{
	struct model_snapshot *slot = find(model, name);
	struct error_text error = { "" };
	int ret;

	model->target = *slot;
	model->pending = DELETING;
	slot->name[0] = 0;
	ret = cow_snapshot_delete(model->store, name, &error);
	if (!ret) {
		model->pending = NOTHING;
		all_durable(model);
	}
	return ret;
}

int model_revert(struct model *model, const char *name)
{
	struct error_text error = { "" };
	int ret;

	model->target = *find(model, name);
	model->pending = REVERTING;
	ret = cow_snapshot_revert(model->store, name, &error);
	if (!ret) {
		model->pending = NOTHING;
		model->active = model->target.image;
		all_durable(model);
	}
	return ret;
}

static int model_resize(struct model *model, uint64_t sectors)
{
	struct error_text error = { "" };
	uint64_t i;
	int ret;

	model->target.image = model->active;
	for (i = sectors; i < model->active.sectors; i++) {
		later_add(model, i, 0);
		model->target.image.tag[i] = 0;
	}
	for (i = model->active.sectors; i < sectors; i++)
		model->target.image.tag[i] = 0;
	model->target.image.sectors = sectors;
	model->pending = RESIZING;
	ret = cow_resize(model->store, sectors, &error);
	if (!ret) {
		model->pending = NOTHING;
		model->active = model->target.image;
		all_durable(model);
	}
	return ret;
}

static int model_reopen(struct model *model)
{
	int ret = cow_close(model->store);

	model->store = NULL;
	if (ret)
		return ret;
	all_durable(model);
	return model_open(model);
}

static int random_io(struct model *model, uint64_t what)
{
	uint64_t sector, count, hot = pick(model, 3) ? 800 : model->active.sectors;

	hot = hot < model->active.sectors ? hot : model->active.sectors;
	count = pick(model, 4) ? pick(model, MAX_RUN) + 1 : 8 * (pick(model, 4) + 1);
	sector = pick(model, hot);
	if (pick(model, 2))
		sector -= sector % 8;
	count = count < model->active.sectors - sector ? count : model->active.sectors - sector;
	if (what < 44)
		return model_write(model, sector, count);
	return model_discard(model, sector, count, what < 50);
}

static int random_snapshot_work(struct model *model, uint64_t what)
{
	struct model_snapshot *some = random_snapshot(model);
	char name[16];

	if (what < 78 && find(model, "")) {
		snprintf(name, sizeof(name), "s%u", model->next_name++);
		return model_snapshot(model, name);
	}
	if (!some)
		return 0;
	memcpy(name, some->name, sizeof(name));
	return what < 86 ? model_delete(model, name) : model_revert(model, name);
}

int model_step(struct model *model)
{
	uint64_t what = pick(model, 100);
	int ret;

	model->operations++;
	if (what < 58)
		return random_io(model, what);
	if (what < 68)
		return model_flush(model);
	if (what < 89)
		return random_snapshot_work(model, what);
	if (what < 95) {
		ret = cow_delete_step(model->store);
		return ret < 0 ? ret : 0;
	}
	if (what < 97)
		return cow_checkpoint(model->store);
	if (what < 98)
		return model_resize(model, 1 + pick(model, MODEL_SECTORS));
	return model_reopen(model);
}

typedef int read_fn(struct model *model, const char *name, void *data, uint64_t sector, uint64_t count);

static int read_active(struct model *model, const char *name, void *data, uint64_t sector, uint64_t count)
{
	return cow_read(model->store, data, sector, count);
}

static int read_snapshot(struct model *model, const char *name, void *data, uint64_t sector, uint64_t count)
{
	return cow_snapshot_read(model->store, name, data, sector, count);
}

/* Reads all of it. A sector that is not filled with one tag is an error. */
static void image_read(struct model *model, read_fn *reader, const char *name, struct model_image *image)
{
	static uint8_t data[CHUNK * 512];
	uint64_t sector, i, n;
	int ret;

	for (sector = 0; sector < image->sectors; sector += n) {
		n = image->sectors - sector < CHUNK ? image->sectors - sector : CHUNK;
		ret = reader(model, name, data, sector, n);
		if (ret)
			model_fail(model, "read of %s: %s", name, strerror(-ret));
		for (i = 0; i < n; i++) {
			memcpy(&image->tag[sector + i], data + i * 512, 8);
			if (memcmp(data + i * 512, data + i * 512 + 8, 504))
				model_fail(model, "%s sector %llu is torn", name, (unsigned long long)(sector + i));
		}
	}
}

static void image_compare(struct model *model, const char *name, const struct model_image *want, read_fn *reader)
{
	static struct model_image got;
	uint64_t i;

	got.sectors = want->sectors;
	image_read(model, reader, name, &got);
	for (i = 0; i < want->sectors; i++) {
		if (got.tag[i] != want->tag[i])
			model_fail(model, "%s sector %llu is %llx and should be %llx", name, (unsigned long long)i,
				   (unsigned long long)got.tag[i], (unsigned long long)want->tag[i]);
	}
}

static int snapshot_known(void *owner, const struct snapshot_info *info)
{
	struct model *model = owner;
	struct model_snapshot *snapshot = find(model, info->name);

	if (!snapshot)
		model_fail(model, "snapshot %s should not be there", info->name);
	if (snapshot->image.sectors != info->sectors)
		model_fail(model, "snapshot %s has %llu sectors and should have %llu", info->name,
			   (unsigned long long)info->sectors, (unsigned long long)snapshot->image.sectors);
	return 0;
}

static void verify_snapshots(struct model *model)
{
	int i;

	cow_snapshot_list(model->store, snapshot_known, model);
	for (i = 0; i < MODEL_SNAPSHOTS; i++) {
		if (model->snapshots[i].name[0])
			image_compare(model, model->snapshots[i].name, &model->snapshots[i].image, read_snapshot);
	}
}

void model_verify(struct model *model)
{
	image_compare(model, "active", &model->active, read_active);
	verify_snapshots(model);
}

static bool was_written(const struct model *model, uint64_t sector, uint64_t tag)
{
	size_t i;

	for (i = 0; i < model->nr_later; i++) {
		if (model->later[i].sector == sector && model->later[i].tag == tag)
			return true;
	}
	return false;
}

static bool image_equal(const struct model_image *a, const struct model_image *b)
{
	return a->sectors == b->sectors && !memcmp(a->tag, b->tag, a->sectors * sizeof(a->tag[0]));
}

static int note_target(void *owner, const struct snapshot_info *info)
{
	struct model *model = owner;

	return !strcmp(info->name, model->target.name);
}

/* An interrupted operation has happened or not: both are right, and the store says which. */
static void settle_pending(struct model *model)
{
	bool there = cow_snapshot_list(model->store, note_target, model);
	struct model_snapshot *slot = find(model, "");

	if ((model->pending == CREATING || model->pending == DELETING) && there)
		*slot = model->target;
}

void model_verify_crashed(struct model *model)
{
	static struct model_image got;
	struct cow_info info;
	uint64_t i;

	settle_pending(model);
	cow_get_info(model->store, &info);
	got.sectors = info.sectors;
	image_read(model, read_active, "active", &got);
	if ((model->pending == REVERTING || model->pending == RESIZING) && image_equal(&got, &model->target.image))
		goto settled;
	if (got.sectors != model->stable.sectors)
		model_fail(model, "the disk has %llu sectors and should have %llu", (unsigned long long)got.sectors,
			   (unsigned long long)model->stable.sectors);
	for (i = 0; i < got.sectors; i++) {
		if (got.tag[i] != model->stable.tag[i] && !was_written(model, i, got.tag[i]))
			model_fail(model, "after the crash sector %llu is %llx: neither the flushed %llx nor written since",
				   (unsigned long long)i, (unsigned long long)got.tag[i],
				   (unsigned long long)model->stable.tag[i]);
	}
settled:
	model->active = got;
	model->pending = NOTHING;
	all_durable(model);
	verify_snapshots(model);
}

static void complaint(void *owner, const char *text)
{
	print_message("# check: %s\n", text);
}

void model_check(struct model *model)
{
	struct cow_check check = { .report = complaint };
	int ret = cow_check(model->store, &check, false);

	if (ret)
		model_fail(model, "check: %s", strerror(-ret));
	if (check.errors || check.leaks || check.copies)
		model_fail(model, "check: %llu errors, %llu leaks, %u damaged superblocks", (unsigned long long)check.errors,
			   (unsigned long long)check.leaks, check.copies);
}

void model_check_copies(struct sim *sim)
{
	char text[128] = "";
	int ret = cow_superblock_compare(&sim->device, text, sizeof(text));

	if (ret)
		fail_msg("TAPSNAP_SEED=%llu cut %llu: %s (%d)", (unsigned long long)model_seed, (unsigned long long)model_cut, text,
			 ret);
}

void model_finish_deletions(struct model *model)
{
	struct cow_info info;
	int ret;

	while ((ret = cow_delete_step(model->store)) > 0)
		;
	if (ret)
		model_fail(model, "deletion: %s", strerror(-ret));
	cow_get_info(model->store, &info);
	if (info.deletions > info.snapshots)
		model_fail(model, "%u deletions are left with %u snapshots", info.deletions, info.snapshots);
}
