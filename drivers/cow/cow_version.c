/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_version.c - the versions of a disk in memory, and their table on the
 * store. In the list a version comes after its parent: ids only grow.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

/* The place of the first version whose id is @id or more. */
static unsigned place_of(const struct cow_store *store, uint32_t id)
{
	unsigned from = 0, to = store->version_count, middle;

	while (from < to) {
		middle = from + (to - from) / 2;
		if (store->version_index[middle]->id < id)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

struct cow_version *cow_version_find(const struct cow_store *store, uint32_t id)
{
	unsigned place = place_of(store, id);

	return place < store->version_count && store->version_index[place]->id == id ? store->version_index[place] : NULL;
}

struct cow_version *cow_version_from(const struct cow_store *store, uint64_t id)
{
	unsigned place = id > UINT32_MAX ? store->version_count : place_of(store, (uint32_t)id);

	return place < store->version_count ? store->version_index[place] : NULL;
}

struct cow_version *cow_version_by_name(const struct cow_store *store, const char *name)
{
	struct cow_version *version = store->versions;

	while (version && (version == store->active || version->deleted || version->leaving || strcmp(version->name, name)))
		version = version->next;
	return version;
}

struct cow_version *cow_version_child(const struct cow_version *version)
{
	return version->first_child;
}

static void child_add(struct cow_version *parent, struct cow_version *child)
{
	child->parent = parent;
	if (!parent)
		return;
	parent->children++;
	child->sibling = parent->first_child;
	child->link = &parent->first_child;
	if (child->sibling)
		child->sibling->link = &child->sibling;
	parent->first_child = child;
}

static void child_remove(struct cow_version *child)
{
	if (!child->parent)
		return;
	child->parent->children--;
	*child->link = child->sibling;
	if (child->sibling)
		child->sibling->link = child->link;
}

/*
 * A deleted version still counts while it has two or more children: the
 * blocks of it that a child uses, the other children may use too.
 */
bool cow_version_gone(const struct cow_version *version)
{
	return version->deleted && version->children < 2;
}

/* Call when @version may just have become gone. */
static void gone_note(struct cow_store *store, struct cow_version *version)
{
	if (version && cow_version_gone(version) && (!store->gone_from || version->id < store->gone_from->id))
		store->gone_from = version;
}

void cow_version_delete(struct cow_store *store, struct cow_version *version)
{
	version->deleted = true;
	gone_note(store, version);
}

void cow_version_set_cursor(struct cow_store *store, struct cow_version *version, uint64_t cursor)
{
	version->cursor = cursor;
	if (cursor)
		store->begun = version;
}

static void version_free(struct cow_version *version)
{
	cow_layer_free(&version->layer);
	free(version->name);
	free(version->description);
	free(version->decision);
	free(version);
}

int cow_version_set_text(struct cow_version *version, const char *text, size_t name, size_t description, size_t decision)
{
	char *copy[3] = { strndup(text, name), strndup(text + name, description),
			  strndup(text + name + description, decision) };
	char **place[3] = { &version->name, &version->description, &version->decision };
	bool all = copy[0] && copy[1] && copy[2];
	int i;

	for (i = 0; i < 3; i++) {
		free(all ? *place[i] : copy[i]);
		if (all)
			*place[i] = copy[i];
	}
	return all ? 0 : -ENOMEM;
}

static int index_reserve(struct cow_store *store)
{
	unsigned room = store->version_room ? store->version_room * 2 : 16;
	struct cow_version **grown;

	if (store->version_count < store->version_room)
		return 0;
	grown = reallocarray(store->version_index, room, sizeof(struct cow_version *));
	if (!grown)
		return -ENOMEM;
	store->version_index = grown;
	store->version_room = room;
	return 0;
}

struct cow_version *cow_version_new(struct cow_store *store, uint32_t id, struct cow_version *parent)
{
	struct cow_version *version = calloc(1, sizeof(*version));
	unsigned count = store->version_count;

	if (!version)
		return NULL;
	version->id = id;
	if (index_reserve(store) || cow_version_set_text(version, "", 0, 0, 0)) {
		version_free(version);
		return NULL;
	}
	child_add(parent, version);
	*(count ? &store->version_index[count - 1]->next : &store->versions) = version;
	store->version_index[store->version_count++] = version;
	return version;
}

/* The version's children become its parent's. */
void cow_version_remove(struct cow_store *store, struct cow_version *version)
{
	struct cow_version *parent = version->parent, *child;
	unsigned place = place_of(store, version->id);

	child_remove(version);
	while ((child = version->first_child)) {
		child_remove(child);
		child_add(parent, child);
	}
	if (store->begun == version)
		store->begun = NULL;
	if (store->gone_from == version)
		store->gone_from = version->next;
	gone_note(store, parent);
	*(place ? &store->version_index[place - 1]->next : &store->versions) = version->next;
	memmove(store->version_index + place, store->version_index + place + 1,
		(--store->version_count - place) * sizeof(struct cow_version *));
	store->others_valid = false;
	version_free(version);
}

void cow_version_free_all(struct cow_store *store)
{
	struct cow_version *version;

	while ((version = store->versions)) {
		store->versions = version->next;
		version_free(version);
	}
	free(store->version_index);
	store->version_index = NULL;
	store->begun = store->gone_from = NULL;
	store->version_count = store->version_room = 0;
}

static size_t record_bytes(const struct cow_version *version)
{
	return sizeof(struct cow_version_record) +
		((strlen(version->name) + strlen(version->description) + strlen(version->decision) + 7) & ~(size_t)7);
}

/* An upper bound: each block has room for two of the largest records. */
size_t cow_version_table_blocks(const struct cow_store *store)
{
	return store->version_count / 2 + 1;
}

static void record_put(const struct cow_version *version, uint8_t *at)
{
	struct cow_version_record record = {
		.id = version->id, .parent = version->parent ? version->parent->id : 0,
		.generation = version->generation, .flags = version->deleted ? COW_VERSION_DELETED : 0,
		.time = version->time, .sectors = version->sectors, .base_shows = version->base_shows,
		.map = version->new_root, .map_levels = version->new_levels,
		.name_length = (uint16_t)strlen(version->name), .description_length = (uint16_t)strlen(version->description),
		.cursor = version->cursor, .decision_length = (uint16_t)strlen(version->decision),
	};

	memcpy(at, &record, sizeof(record));
	memcpy(at + sizeof(record), version->name, record.name_length);
	at += sizeof(record) + record.name_length;
	memcpy(at, version->description, record.description_length);
	memcpy(at + record.description_length, version->decision, record.decision_length);
}

/* The first version after those that fit into the block that begins with @version. */
static const struct cow_version *block_end(const struct cow_version *version)
{
	size_t used = sizeof(struct cow_table_header);

	for (; version && used + record_bytes(version) <= COW_BLOCK; version = version->next)
		used += record_bytes(version);
	return version;
}

static void block_fill(const struct cow_version *version, uint8_t *bytes, const struct cow_ref *next)
{
	const struct cow_version *end = block_end(version);
	struct cow_table_header *header = (struct cow_table_header *)bytes;
	size_t used = sizeof(*header);

	memset(bytes, 0, COW_BLOCK);
	header->magic = COW_TABLE_MAGIC;
	header->next = *next;
	for (; version != end; version = version->next) {
		record_put(version, bytes + used);
		used += record_bytes(version);
		header->count++;
	}
}

static int block_allocate(struct cow_store *store, struct cow_list *blocks)
{
	uint64_t block, got;
	int ret = cow_alloc_run(store, 1, false, &block, &got);

	if (ret)
		return ret;
	ret = cow_list_add(blocks, block);
	if (ret)
		cow_alloc_return(store, block, 1);
	return ret;
}

/* @first: each block's first version. A block has the next one's checksum, so the last is written first. */
static int table_write(struct cow_store *store, const struct cow_version **first, const struct cow_list *blocks,
		       struct cow_ref *ref)
{
	uint8_t *bytes = aligned_alloc(COW_BLOCK, COW_BLOCK);
	int ret = bytes ? 0 : -ENOMEM;
	size_t i;

	*ref = (struct cow_ref){ 0 };
	for (i = blocks->count; !ret && i--;) {
		block_fill(first[i], bytes, ref);
		ref->where = cow_entry(blocks->item[i], store->generation);
		ref->crc = cow_crc(0, bytes, COW_BLOCK);
		ret = store->device->ops->write(store->device, bytes, blocks->item[i] << COW_SHIFT, COW_BLOCK);
	}
	free(bytes);
	return ret;
}

/* Not recursive: the table may be long, and a fiber's stack is short. */
int cow_version_save(struct cow_store *store, struct cow_list *blocks, struct cow_ref *ref)
{
	const struct cow_version **first = calloc(cow_version_table_blocks(store), sizeof(struct cow_version *));
	const struct cow_version *version;
	int ret = first ? 0 : -ENOMEM;

	for (version = store->versions; !ret && version; version = block_end(version)) {
		first[blocks->count] = version;
		ret = block_allocate(store, blocks);
	}
	if (!ret)
		ret = table_write(store, first, blocks, ref);
	free(first);
	return ret;
}

static bool record_valid(const struct cow_store *store, const struct cow_version_record *record,
			 const struct cow_version *parent, const struct cow_version *last)
{
	bool active = record->id == store->sb.active;

	return record->id > (last ? last->id : 0) && record->id < store->sb.next_version &&
		!record->parent == !parent && record->generation &&
		record->generation > (parent ? parent->generation : 0) && record->generation <= store->sb.generation &&
		active == (record->generation == store->sb.generation) && !(record->flags & ~COW_VERSION_DELETED) &&
		!(active && record->flags) && record->sectors && record->sectors <= COW_MAX_BLOCKS * COW_SECTORS &&
		record->name_length <= COW_NAME_MAX && record->description_length <= COW_DESCRIPTION_MAX &&
		record->decision_length <= COW_DECISION_MAX && !(active && record->decision_length) &&
		record->map_levels <= COW_MAX_LEVELS && !record->map_levels == !record->map.where && !record->map.extra &&
		record->cursor <= COW_MAX_BLOCKS * 2 && !(record->cursor && !(record->flags & COW_VERSION_DELETED)) &&
		cow_entry_valid(store, record->map.where, record->generation) &&
		!cow_entry_block(record->map.where) == !record->map.where;
}

/* Reads one record from @bytes; returns its length, or -errno. */
static int record_get(struct cow_store *store, const uint8_t *bytes, size_t room, struct cow_version **last)
{
	struct cow_version_record record;
	struct cow_version *version, *parent;
	const char *text = (const char *)bytes + sizeof(record);
	size_t length;

	if (room < sizeof(record))
		return -EUCLEAN;
	memcpy(&record, bytes, sizeof(record));
	parent = record.parent ? cow_version_find(store, record.parent) : NULL;
	length = (size_t)record.name_length + record.description_length + record.decision_length;
	if (!record_valid(store, &record, parent, *last) || length > room - sizeof(record) || memchr(text, 0, length) ||
	    !cow_name_kept(text, record.name_length))
		return -EUCLEAN;
	version = cow_version_new(store, record.id, parent);
	if (!version || cow_version_set_text(version, text, record.name_length, record.description_length,
					     record.decision_length))
		return -ENOMEM;
	version->generation = record.generation;
	version->deleted = record.flags & COW_VERSION_DELETED;
	version->time = record.time;
	version->sectors = record.sectors;
	version->base_shows = record.base_shows;
	cow_version_set_cursor(store, version, record.cursor);
	version->has_tree = true;
	version->root = record.map;
	version->levels = record.map_levels;
	*last = version;
	return (int)record_bytes(version);
}

static int block_get(struct cow_store *store, const uint8_t *bytes, struct cow_version **last)
{
	const struct cow_table_header *header = (const struct cow_table_header *)bytes;
	size_t used = sizeof(*header);
	uint32_t i;
	int ret;

	if (header->magic != COW_TABLE_MAGIC || !header->count ||
	    !cow_entry_valid(store, header->next.where, store->generation))
		return -EUCLEAN;
	for (i = 0; i < header->count; i++) {
		ret = record_get(store, bytes + used, COW_BLOCK - used, last);
		if (ret < 0)
			return ret;
		used += (size_t)ret;
		if (used > COW_BLOCK)
			return -EUCLEAN;
	}
	return 0;
}

/* Deletions run one after the other, so at most one has a cursor. */
static bool cursors_valid(const struct cow_store *store)
{
	const struct cow_version *version;
	unsigned begun = 0;

	for (version = store->versions; version; version = version->next) {
		if (version->cursor && (++begun > 1 || version->children > 1))
			return false;
	}
	return true;
}

/* Ids must grow from record to record, so a circular chain ends, too. */
int cow_version_load(struct cow_store *store, struct error_text *error)
{
	uint8_t *bytes = aligned_alloc(COW_BLOCK, COW_BLOCK);
	struct cow_ref ref = store->sb.versions;
	struct cow_version *last = NULL;
	int ret = bytes ? 0 : -ENOMEM;

	if (!ret && (!cow_entry_block(ref.where) || !cow_entry_valid(store, ref.where, store->generation)))
		ret = -EUCLEAN;
	while (!ret && ref.where) {
		ret = store->device->ops->read(store->device, bytes, cow_entry_block(ref.where) << COW_SHIFT, COW_BLOCK);
		if (!ret && cow_crc(0, bytes, COW_BLOCK) != ref.crc)
			ret = -EUCLEAN;
		if (!ret)
			ret = block_get(store, bytes, &last);
		if (!ret)
			ret = cow_list_add(&store->table_blocks, cow_entry_block(ref.where));
		if (!ret)
			ref = ((struct cow_table_header *)bytes)->next;
		if (!ret && ref.where && !cow_entry_block(ref.where))
			ret = -EUCLEAN;
	}
	store->gone_from = store->versions;
	store->active = ret ? NULL : cow_version_find(store, store->sb.active);
	if (!ret && (!store->active || store->active->children || store->version_count != store->sb.versions_count ||
		     !cursors_valid(store)))
		ret = -EUCLEAN;
	free(bytes);
	if (ret)
		return error_set(error, ret, "%s: its table of versions is damaged or cannot be read: %s",
				 store->device->name, strerror(-ret));
	return 0;
}
