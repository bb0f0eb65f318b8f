/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_log.c - the log: a ring of records. Each begins on a block of its own,
 * so that writing one never rewrites a block that holds another. A record that
 * does not fit before the end of the area is placed at its start.
 *
 * A record's checksum covers the salt of this opening of the store and its
 * predecessor's checksum, so neither a torn record nor one of an earlier
 * opening is ever taken for the next.
 *
 * The records of one cow_log_write() count together or not at all: otherwise
 * a crash could keep the map change that drops a block and lose the record
 * that frees it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"

#define AHEAD_BYTES (1u << 20)

_Static_assert(COW_RECORD_MAX <= AHEAD_BYTES, "a record is read at once");

static size_t record_room(uint32_t length)
{
	return (length + COW_BLOCK - 1) / COW_BLOCK * COW_BLOCK;
}

static uint32_t record_crc(const struct cow_log *log, struct cow_record *record)
{
	uint32_t crc, kept = record->crc;

	record->crc = 0;
	crc = cow_crc(0, &log->salt, sizeof(log->salt));
	crc = cow_crc(crc, &log->chain, sizeof(log->chain));
	crc = cow_crc(crc, record, record->length);
	record->crc = kept;
	return crc;
}

uint64_t cow_log_used(const struct cow_log *log)
{
	return log->head - log->tail + log->used;
}

static int buffer_reserve(struct cow_log *log, size_t more)
{
	size_t room = log->room ? log->room : COW_RECORD_MAX;
	uint8_t *grown;

	while (room < log->used + more)
		room *= 2;
	if (room == log->room)
		return 0;
	grown = aligned_alloc(COW_BLOCK, room);
	if (!grown)
		return -ENOMEM;
	if (log->used)
		memcpy(grown, log->buffer, log->used);
	free(log->buffer);
	log->buffer = grown;
	log->room = room;
	return 0;
}

int cow_log_add(struct cow_log *log, enum cow_record_type type, uint32_t count, const void *payload, size_t length,
		const void *more, size_t more_length)
{
	size_t room = record_room((uint32_t)(sizeof(struct cow_record) + length + more_length));
	struct cow_record *record;

	if (buffer_reserve(log, room))
		return -ENOMEM;
	record = (struct cow_record *)(log->buffer + log->used);
	memset(record, 0, room);
	record->magic = COW_LOG_MAGIC;
	record->length = (uint32_t)(sizeof(*record) + length + more_length);
	record->type = type;
	record->count = count;
	memcpy(record + 1, payload, length);
	if (more_length)
		memcpy((uint8_t *)(record + 1) + length, more, more_length);
	log->used += room;
	return 0;
}

/* The position for a record of @room bytes: at the head, or at the start of the ring. */
static uint64_t place_for(const struct cow_log *log, uint64_t head, size_t room)
{
	uint64_t rest = log->size - head % log->size;

	return room <= rest ? head : head + rest;
}

/* Seals the buffer's records, and returns how many bytes go before the ring's end. */
static uint64_t log_seal(struct cow_log *log, uint64_t *second)
{
	struct cow_record *record;
	uint64_t head = log->head;
	size_t at, room, first = log->used;

	*second = 0;
	for (at = 0; at < log->used; at += room) {
		record = (struct cow_record *)(log->buffer + at);
		room = record_room(record->length);
		if (place_for(log, head, room) != head) {
			first = at;
			head = place_for(log, head, room);
		} else if (at && !(head % log->size)) {
			first = at;
		}
		record->sequence = log->sequence++;
		record->flags = at + room < log->used ? COW_RECORD_MORE : 0;
		record->crc = record_crc(log, record);
		log->chain = record->crc;
		head += room;
	}
	if (first < log->used)
		*second = head - (log->used - first);
	log->head = head;
	return first;
}

/* Counts the space lost before the end of the ring, and for rounding up to whole blocks. */
uint64_t cow_log_room(const struct cow_log *log)
{
	uint64_t taken = cow_log_used(log) + 2 * COW_RECORD_MAX;

	return taken < log->size ? log->size - taken : 0;
}

/* The callers keep the log short enough (cow_checkpoint_if_due()): a record that does not fit is a bug. */
int cow_log_write(struct cow_store *store)
{
	const struct cow_device_ops *ops = store->device->ops;
	struct cow_log *log = &store->log;
	uint64_t first, second, at = log->head % log->size;
	const struct cow_log before = *log;
	int ret;

	if (!log->used)
		return 0;
	if (cow_log_used(log) + COW_RECORD_MAX > log->size)
		return -EOVERFLOW;
	first = log_seal(log, &second);
	if (first == log->used) {
		ret = ops->write_durable(store->device, log->buffer, log->start + at, first);
	} else {
		ret = first ? ops->write(store->device, log->buffer, log->start + at, first) : 0;
		if (!ret)
			ret = ops->write(store->device, log->buffer + first, log->start + second % log->size,
					 log->used - first);
		if (!ret)
			ret = cow_store_sync(store);
	}
	log->stuck = cow_no_room(store, ret);
	if (log->stuck) {
		log->head = before.head;
		log->sequence = before.sequence;
		log->chain = before.chain;
		return ret;
	}
	log->used = 0;
	return ret;
}

int cow_log_probe(struct cow_store *store)
{
	const struct cow_log *log = &store->log;
	uint8_t *zeros = aligned_alloc(COW_BLOCK, COW_BLOCK);
	int ret = zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, COW_BLOCK);
	if (!ret)
		ret = store->device->ops->write(store->device, zeros, log->start + log->head % log->size, COW_BLOCK);
	free(zeros);
	return ret;
}

int cow_log_reader_init(struct cow_log_reader *reader)
{
	*reader = (struct cow_log_reader){ .record = aligned_alloc(COW_BLOCK, COW_RECORD_MAX),
		.ahead = aligned_alloc(COW_BLOCK, AHEAD_BYTES) };
	return reader->record && reader->ahead ? 0 : -ENOMEM;
}

void cow_log_reader_free(struct cow_log_reader *reader)
{
	free(reader->record);
	free(reader->ahead);
}

/* If that fails, reads only what was asked for: the rest may be behind the log's end, and unreadable. */
static int read_ahead(struct cow_store *store, struct cow_log_reader *reader, uint64_t at, size_t length)
{
	const struct cow_log *log = &store->log;
	size_t more = log->size - at < AHEAD_BYTES ? (size_t)(log->size - at) : AHEAD_BYTES;
	int ret = store->device->ops->read(store->device, reader->ahead, log->start + at, more);

	if (ret) {
		more = length;
		ret = store->device->ops->read(store->device, reader->ahead, log->start + at, more);
	}
	reader->at = at;
	reader->length = ret ? 0 : more;
	return ret;
}

/* Reads whole blocks of the log's area, at most one record. */
static int read_part(struct cow_store *store, struct cow_log_reader *reader, void *data, uint64_t at, size_t length)
{
	int ret = 0;

	if (at < reader->at || at + length > reader->at + reader->length)
		ret = read_ahead(store, reader, at, length);
	if (!ret)
		memcpy(data, reader->ahead + (at - reader->at), length);
	return ret;
}

static int read_at(struct cow_store *store, uint64_t head, struct cow_log_reader *reader)
{
	struct cow_record *record = reader->record;
	struct cow_log *log = &store->log;
	uint64_t at = head % log->size;
	int ret;

	ret = read_part(store, reader, record, at, COW_BLOCK);
	if (ret)
		return ret;
	if (record->magic != COW_LOG_MAGIC || record->sequence != log->sequence || record->length > COW_RECORD_MAX ||
	    record->length < sizeof(*record) || record_room(record->length) > log->size - at)
		return -ENOENT;
	if (record->length > COW_BLOCK) {
		ret = read_part(store, reader, (uint8_t *)record + COW_BLOCK, at + COW_BLOCK,
				record_room(record->length) - COW_BLOCK);
		if (ret)
			return ret;
	}
	return record_crc(log, record) == record->crc ? 0 : -ENOENT;
}

static int log_next(struct cow_store *store, struct cow_log_reader *reader)
{
	struct cow_record *record = reader->record;
	struct cow_log *log = &store->log;
	uint64_t head = log->head;
	int ret;

	ret = read_at(store, head, reader);
	if (ret == -ENOENT && head % log->size) {
		head += log->size - head % log->size;
		ret = read_at(store, head, reader);
	}
	if (ret)
		return ret;
	if (head + record_room(record->length) - log->tail > log->size)
		return -ENOENT;		/* the ring overlaps its tail: not written by us */
	log->head = head + record_room(record->length);
	log->sequence++;
	log->chain = record->crc;
	return 0;
}

int cow_log_find_end(struct cow_store *store, struct cow_log_reader *reader, uint64_t *end)
{
	struct cow_log *log = &store->log, begin = *log;
	int ret;

	*end = log->head;
	while (!(ret = log_next(store, reader))) {
		if (!(reader->record->flags & COW_RECORD_MORE))
			*end = log->head;
	}
	*log = begin;
	return ret == -ENOENT ? 0 : ret;
}

int cow_log_read(struct cow_store *store, struct cow_log_reader *reader, uint64_t end)
{
	return store->log.head < end ? log_next(store, reader) : -ENOENT;
}
