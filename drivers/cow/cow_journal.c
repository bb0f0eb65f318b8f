/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_journal.c - changes that are not in a store's log yet, in a file that
 * outlives the process (docs/takeover.md).
 *
 * A write to a fresh block completes when its data is written; its map
 * change goes into the log with the next flush. For a power cut that is
 * correct. When only the process dies the guest lives on, and completed
 * writes must not be lost: so each map change, and each record that waits
 * for the log, is put here first, and an open that finds the journal replays
 * it after the log.
 *
 * Two areas are used in turn. Before a flush gathers its records, it switches
 * to the other area, which stores the sequence number of the flush's first
 * log record. So at an open, if the log goes beyond that number, the flush is
 * durable and only this area counts; otherwise the one before it and then this
 * one. An area older than that is durable, because the flush that it was
 * gathered for had to succeed before the next began.
 *
 * The journal belongs to one salt of the store, that is to one opening. The
 * open that replays it makes a checkpoint under a new salt, which it first
 * stores in `next_salt`: a store with that salt has everything. Any other
 * salt means that another process has opened the store meanwhile; then the
 * open is refused, because the guest's writes would be lost.
 *
 * Invariants:
 *  1. A record is valid when `used` has been moved behind it; no request
 *     completes, and no flush gathers, between a change in memory and that.
 *  2. A record that does not fit makes the area incomplete until the next
 *     flush; an open that needs an incomplete area is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"
#include "mapped_file.h"
#include "path.h"
#include "point.h"

#define MAGIC "TAPJRNL\n"
#define JOURNAL_VERSION 1
#define CHUNK (256u << 10)	/* the file's space is allocated in such steps */

/* A run of blocks with their entries, in addition to the log's types. */
#define RECORD_RUN 0x100u

struct record {
	uint32_t crc;			/* of the rest, the salt and the area's begin */
	uint32_t type;			/* enum cow_record_type, or RECORD_RUN */
	uint32_t length, count;		/* of the payload, bytes; as in the log's record */
};

struct run { uint64_t block, entry, count; };

struct area {
	uint64_t begin;			/* the log's next sequence number when the area was begun */
	uint64_t used;			/* bytes of records */
	uint32_t incomplete, zero;
};

struct header {
	char magic[8];			/* stored last */
	uint32_t version, zero;
	uint8_t uuid[16];
	uint64_t salt, next_salt;
	uint64_t area_size;
	uint32_t current, zero2;
	struct area area[2];
};

_Static_assert(sizeof(struct record) == 16 && sizeof(struct area) == 24, "layout");
_Static_assert(sizeof(struct header) <= COW_BLOCK, "one block");

struct cow_journal {
	struct mapped_file file;
	size_t area_size;
	uint64_t room[2];		/* bytes of each area with allocated space */
	uint64_t pending;		/* bytes of records behind used, not valid yet */
	char path[];
};

static struct header *header_of(const struct cow_journal *journal)
{
	return (struct header *)journal->file.map;
}

static uint8_t *area_of(const struct cow_journal *journal, unsigned area)
{
	return journal->file.map + COW_BLOCK + area * journal->area_size;
}

static void store64(uint64_t *place, uint64_t value)
{
	__atomic_store_n(place, value, __ATOMIC_RELEASE);
}

static uint32_t record_crc(const struct header *header, unsigned area, const struct record *record)
{
	uint32_t crc = cow_crc(0, &header->salt, sizeof(header->salt));

	crc = cow_crc(crc, &header->area[area].begin, sizeof(uint64_t));
	return cow_crc(crc, &record->type, sizeof(*record) - sizeof(record->crc) + record->length);
}

/* ---- the file ---- */

static struct cow_journal *journal_new(const struct cow_store *store, const char *path)
{
	struct cow_journal *journal = calloc(1, sizeof(*journal) + strlen(path) + 1);

	if (!journal)
		return NULL;
	strcpy(journal->path, path);
	/* the log stops writes at a quarter of its size; here repeated changes of one block all count, so there is more */
	journal->area_size = (store->sb.log_blocks << COW_SHIFT) * 2 + (1u << 20);
	return journal;
}

static void journal_free(struct cow_journal *journal)
{
	mapped_file_close(&journal->file);
	free(journal);
}

static size_t journal_size(const struct cow_journal *journal)
{
	return COW_BLOCK + 2 * journal->area_size;
}

/* Allocates space for @bytes of the area. False: incomplete; a store to a page without space would kill the process. */
static bool journal_reserve(struct cow_journal *journal, unsigned area, uint64_t bytes)
{
	uint64_t room = journal->room[area];

	if (bytes <= room)
		return true;
	if (bytes > journal->area_size)
		return false;
	room = (bytes + CHUNK - 1) / CHUNK * CHUNK;
	if (room > journal->area_size)
		room = journal->area_size;
	if (posix_fallocate(journal->file.fd, (off_t)(COW_BLOCK + area * journal->area_size), (off_t)room))
		return false;
	journal->room[area] = room;
	return true;
}

/* ---- writing ---- */

static void journal_add(struct cow_journal *journal, uint32_t type, uint32_t count, const void *payload, size_t length)
{
	struct header *header = header_of(journal);
	unsigned at = header->current;
	struct area *area = &header->area[at];
	uint64_t offset = area->used + journal->pending, room = sizeof(struct record) + (length + 7) / 8 * 8;
	struct record *record;

	if (area->incomplete)
		return;
	if (!journal_reserve(journal, at, offset + room)) {
		area->incomplete = 1;
		return;
	}
	record = (struct record *)(area_of(journal, at) + offset);
	*record = (struct record){ .type = type, .length = (uint32_t)length, .count = count };
	memcpy(record + 1, payload, length);
	record->crc = record_crc(header, at, record);
	journal->pending += room;
	test_point("journal record");
}

static void journal_publish(struct cow_journal *journal)
{
	struct area *area = &header_of(journal)->area[header_of(journal)->current];

	store64(&area->used, area->used + journal->pending);
	journal->pending = 0;
	test_point("journal used");
}

void cow_journal_release(struct cow_store *store, uint64_t block)
{
	if (store->journal)
		journal_add(store->journal, COW_RECORD_RELEASE, 1, &block, sizeof(block));
}

void cow_journal_map(struct cow_store *store, uint64_t block, uint64_t entry, uint64_t count)
{
	struct run run = { block, entry, count };

	if (!store->journal)
		return;
	journal_add(store->journal, RECORD_RUN, 1, &run, sizeof(run));
	journal_publish(store->journal);
}

void cow_journal_event(struct cow_store *store, enum cow_record_type type, uint32_t count, const void *payload, size_t length)
{
	if (!store->journal)
		return;
	journal_add(store->journal, type, count, payload, length);
	journal_publish(store->journal);
}

void cow_journal_cut(struct cow_store *store)
{
	struct header *header;
	unsigned next;

	if (!store->journal)
		return;
	header = header_of(store->journal);
	next = !header->current;
	store->journal->pending = 0;		/* of a change that failed */
	store64(&header->area[next].used, 0);
	test_point("journal emptied");
	header->area[next].incomplete = 0;
	store64(&header->area[next].begin, store->log.sequence);
	__atomic_store_n(&header->current, next, __ATOMIC_RELEASE);
	test_point("journal cut");
}

/* ---- an opening ---- */

int cow_journal_prepare(struct cow_store *store, const char *path, uint64_t salt)
{
	struct cow_journal *journal = store->journal;
	struct header *header;
	int error;

	if (!path)
		return 0;
	if (!journal) {
		journal = journal_new(store, path);
		error = journal ? mapped_file_create(&journal->file, path, journal_size(journal), COW_BLOCK) : -ENOMEM;
		if (error) {
			if (journal)
				journal_free(journal);
			return error;
		}
		header = header_of(journal);
		header->version = JOURNAL_VERSION;
		memcpy(header->uuid, store->sb.uuid, sizeof(header->uuid));
		header->area_size = journal->area_size;
		header->salt = store->sb.salt;	/* if this opening fails: nothing to replay */
		store->journal = journal;
	}
	store64(&header_of(journal)->next_salt, salt);
	test_point("journal next salt");
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy(header_of(journal)->magic, MAGIC, sizeof(header_of(journal)->magic));
	return 0;
}

/* In each intermediate state a store with next_salt has nothing to replay. */
void cow_journal_begin(struct cow_store *store)
{
	struct header *header;

	if (!store->journal)
		return;
	header = header_of(store->journal);
	store->journal->pending = 0;
	for (unsigned i = 0; i < 2; i++) {
		store64(&header->area[i].used, 0);
		header->area[i].incomplete = 0;
		store64(&header->area[i].begin, store->log.sequence);
	}
	test_point("journal begun");
	store64(&header->salt, header->next_salt);
	test_point("journal salt");
}

void cow_journal_end(struct cow_store *store, bool needed)
{
	if (!store->journal)
		return;
	if (!needed)
		path_remove(store->journal->path);
	journal_free(store->journal);
	store->journal = NULL;
}

static int journal_check(const struct cow_store *store, const struct cow_journal *journal)
{
	const struct header *header = header_of(journal);

	if (header->version != JOURNAL_VERSION || header->area_size != journal->area_size || header->current > 1 ||
	    header->area[0].used > journal->area_size || header->area[1].used > journal->area_size)
		return -EUCLEAN;
	if (memcmp(header->uuid, store->sb.uuid, sizeof(header->uuid)))
		return -ESTALE;
	return store->sb.salt == header->salt || store->sb.salt == header->next_salt ? 0 : -ESTALE;
}

static int play_run(struct cow_store *store, const struct run *run, int (*replay)(struct cow_store *store,
		    const struct cow_record *record))
{
	struct { struct cow_record record; struct cow_map_element element; } one = {
		.record = { .length = sizeof(one), .type = COW_RECORD_MAP, .count = 1 },
	};
	uint64_t i;
	int ret = 0;

	if (run->count > COW_MAX_BLOCKS || run->block > COW_MAX_BLOCKS)
		return -EUCLEAN;
	for (i = 0; !ret && i < run->count; i++) {
		one.element.block = run->block + i;
		one.element.entry = cow_entry_block(run->entry) ? run->entry + i : run->entry;
		ret = replay(store, &one.record);
	}
	return ret;
}

/* Replays the record as the log record that it would have become. */
static int play_record(struct cow_store *store, const struct record *record, int (*replay)(struct cow_store *store,
		       const struct cow_record *record))
{
	struct cow_record *copy;
	int ret;

	if (record->type == RECORD_RUN)
		return record->length == sizeof(struct run) ? play_run(store, (const struct run *)(record + 1), replay) : -EUCLEAN;
	if (record->length > COW_RECORD_PAYLOAD)
		return -EUCLEAN;
	copy = malloc(sizeof(*copy) + record->length);
	if (!copy)
		return -ENOMEM;
	*copy = (struct cow_record){ .length = (uint32_t)sizeof(*copy) + record->length, .type = record->type,
		.count = record->count };
	memcpy(copy + 1, record + 1, record->length);
	ret = replay(store, copy);
	free(copy);
	return ret;
}

static int play_area(struct cow_store *store, const struct cow_journal *journal, unsigned at,
		     int (*replay)(struct cow_store *store, const struct cow_record *record))
{
	const struct header *header = header_of(journal);
	uint64_t offset, used = header->area[at].used, room;
	int ret = header->area[at].incomplete ? -ENOBUFS : 0;

	for (offset = 0; !ret && offset < used; offset += room) {
		const struct record *record = (const struct record *)(area_of(journal, at) + offset);

		if (used - offset < sizeof(*record) || record->length > used - offset - sizeof(*record))
			return -EUCLEAN;
		room = sizeof(*record) + (record->length + 7ull) / 8 * 8;
		if (record_crc(header, at, record) != record->crc)
			return -EUCLEAN;
		ret = play_record(store, record, replay);
	}
	return ret;
}

static int play(struct cow_store *store, const struct cow_journal *journal,
		int (*replay)(struct cow_store *store, const struct cow_record *record))
{
	const struct header *header = header_of(journal);
	unsigned current = header->current;
	int ret = 0;

	if (store->log.sequence <= header->area[current].begin)
		ret = play_area(store, journal, !current, replay);
	return ret ? ret : play_area(store, journal, current, replay);
}

static int explain(const struct cow_store *store, int error, struct error_text *text)
{
	const char *name = store->device->name;

	switch (error) {
	case -ESTALE:
		return error_set(text, error, "%s: another process has opened it since its tapdisk died: writes that were "
				 "reported complete to the guest are missing", name);
	case -ENOBUFS:
		return error_set(text, error, "%s: its journal is incomplete: there was no space for it", name);
	default:
		return error_set(text, error, "%s: the dead tapdisk's journal cannot be replayed: %s", name,
				 strerror(-error));
	}
}

int cow_journal_replay(struct cow_store *store, const char *path, int (*replay)(struct cow_store *store,
		       const struct cow_record *record), struct error_text *text)
{
	struct cow_journal *journal;
	int error;

	if (!path)
		return 0;
	journal = journal_new(store, path);
	if (!journal)
		return explain(store, -ENOMEM, text);
	error = mapped_file_open(&journal->file, path, journal_size(journal));
	if (error == -ERANGE)
		error = -EUCLEAN;
	/* incomplete when its process died: nothing had been answered by then */
	if (!error && memcmp(header_of(journal)->magic, MAGIC, sizeof(header_of(journal)->magic)))
		error = -ENOENT;
	if (!error)
		error = journal_check(store, journal);
	if (!error && store->sb.salt == header_of(journal)->salt)
		error = play(store, journal, replay);
	if (error) {
		journal_free(journal);
		return error == -ENOENT ? 0 : explain(store, error, text);
	}
	store->journal = journal;
	/* the checkpoint has everything: an earlier open died before it could record that */
	if (store->sb.salt != header_of(journal)->salt)
		cow_journal_begin(store);
	return 0;
}

int cow_journal_attach(struct cow_store *store, const char *path)
{
	bool idle = cow_flush_idle(store);
	int error;

	cow_journal_end(store, true);
	error = cow_journal_prepare(store, path, store->log.salt);
	if (error || !store->journal)
		return error;
	cow_journal_begin(store);
	/* changes that were not flushed before are not in it */
	header_of(store->journal)->area[header_of(store->journal)->current].incomplete = !idle;
	return 0;
}
