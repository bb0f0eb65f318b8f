/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inflight.c - the file of an in-flight table: made, found again, removed; and
 * the stores to it, which inflight.h puts in order.
 *
 * The file: a page of header, then the queues, each on a page boundary. It is
 * allocated as a whole before it is mapped, so no store to it can fail.
 */
#include "inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blkif_frontend.h"
#include "path.h"
#include "point.h"
#include "takeover.h"
#include "transport.h"

#define MAGIC "TAPFLY\n"
#define HEADER_SIZE 4096u

enum { ENTRY_UNUSED, ENTRY_TAKEN, ENTRY_RESPONDED };
#define WORD_STATE(word) ((word) & 3)
#define WORD_NUMBER(word) ((word) >> 2)

struct header {
	char magic[8];			/* stored last */
	uint32_t version, crc;		/* crc: of what follows, up to `owner` */
	char boot[40];
	uint32_t domid, devid;
	uint32_t nr_queues, ring_pages, slots, zero;
	char protocol[16];
	struct {
		uint32_t refs[1 << MAX_RING_PAGE_ORDER];
		uint32_t port;
	} queues[MAX_QUEUES];
	char owner[TAKEOVER_NAME_MAX];	/* the process that has it, or had it last */
};

_Static_assert(sizeof(struct header) <= HEADER_SIZE, "one page");
_Static_assert(offsetof(struct header, boot) == 16, "layout");
_Static_assert(sizeof(struct inflight_queue) == 64, "layout");
_Static_assert(sizeof(struct inflight_entry) == 24 + RING_WIRE_MAX + 8 * MAX_INDIRECT_SEGMENTS, "layout");

struct inflight {
	int fd;
	uint8_t *map;
	size_t size, queue_size;
	char path[PATH_MAX];
};

static size_t queue_size(unsigned slots)
{
	size_t bytes = sizeof(struct inflight_queue) + slots * sizeof(struct inflight_entry);

	return (bytes + HEADER_SIZE - 1) / HEADER_SIZE * HEADER_SIZE;
}

static uint32_t header_crc(const struct header *header)
{
	unsigned start = offsetof(struct header, boot), end = offsetof(struct header, owner);

	return crc32_iscsi((unsigned char *)header + start, (int)(end - start), 0);
}

static void header_fill(struct header *header, const struct blkif_params *params, unsigned slots)
{
	memset(header, 0, sizeof(*header));
	header->version = TAKEOVER_VERSION;
	snprintf(header->boot, sizeof(header->boot), "%s", takeover_boot());
	header->domid = params->domid;
	header->devid = params->devid;
	header->nr_queues = params->nr_queues;
	header->ring_pages = params->ring_pages;
	header->slots = slots;
	snprintf(header->protocol, sizeof(header->protocol), "%s", ring_abi_find(params->protocol)->protocol);
	for (unsigned i = 0; i < params->nr_queues; i++) {
		memcpy(header->queues[i].refs, params->queues[i].refs, params->ring_pages * sizeof(uint32_t));
		header->queues[i].port = params->queues[i].port;
	}
	header->crc = header_crc(header);
	memcpy(header->owner, takeover_name(), strlen(takeover_name()) + 1);
}

static struct inflight *table_new(const struct vbd *vbd, const struct blkif_params *params, unsigned slots)
{
	struct inflight *table = calloc(1, sizeof(*table));
	char name[64];

	if (!table)
		return NULL;
	table->fd = -1;
	table->queue_size = queue_size(slots);
	table->size = HEADER_SIZE + params->nr_queues * table->queue_size;
	snprintf(name, sizeof(name), TAKEOVER_TABLE_FORMAT, params->domid, params->devid);
	if (takeover_path(table->path, sizeof(table->path), vbd->minor, name))
		return table;
	free(table);
	return NULL;
}

void inflight_leave(struct inflight *table)
{
	if (!table)
		return;
	if (table->map)
		munmap(table->map, table->size);
	if (table->fd >= 0)
		close(table->fd);
	free(table);
}

void inflight_remove(struct inflight *table)
{
	if (table)
		path_remove(table->path);
	inflight_leave(table);
}

static int table_map(struct inflight *table)
{
	void *map = mmap(NULL, table->size, PROT_READ | PROT_WRITE, MAP_SHARED, table->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	table->map = map;
	return 0;
}

static int table_make(struct inflight *table)
{
	int error;

	if (path_remove(table->path) && errno != ENOENT)
		return -errno;
	table->fd = path_open(table->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (table->fd < 0 || flock(table->fd, LOCK_EX | LOCK_NB))
		return -errno;
	error = -posix_fallocate(table->fd, 0, (off_t)table->size);
	return error ? error : table_map(table);
}

int inflight_create(struct inflight **result, const struct vbd *vbd, const struct blkif_params *params, unsigned slots,
		    struct error_text *text)
{
	struct inflight *table;
	struct header *header;
	int error;

	*result = NULL;
	if (!takeover_started())
		return 0;
	table = table_new(vbd, params, slots);
	error = table ? table_make(table) : -ENOMEM;
	if (error) {
		error_set(text, error, "%s: cannot make the in-flight table: %s", table ? table->path : "", strerror(-error));
		inflight_remove(table);
		return error;
	}
	header = (struct header *)table->map;
	header_fill(header, params, slots);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	memcpy(header->magic, MAGIC, sizeof(header->magic));
	*result = table;
	return 0;
}

/* Ours to use, and as large as it has to be. */
static int table_open(struct inflight *table)
{
	struct stat st;

	table->fd = path_open(table->path, O_RDWR | O_NOFOLLOW, 0);
	if (table->fd < 0)
		return -errno;
	if (flock(table->fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(table->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != path_uid() || st.st_mode & 077 || st.st_nlink != 1)
		return -EUCLEAN;
	/* another size is one of other rings; one that could be cut off under us nobody but us could cut off */
	return (size_t)st.st_size == table->size ? table_map(table) : -ENOENT;
}

static int table_check(const struct inflight *table, const struct blkif_params *params, unsigned slots,
		       struct error_text *text)
{
	const struct header *header = (const struct header *)table->map;
	struct header wanted;

	if (memcmp(header->magic, MAGIC, sizeof(header->magic)) || header->version != TAKEOVER_VERSION ||
	    header->crc != header_crc(header) || memchr(header->owner, 0, sizeof(header->owner)) == NULL)
		return -EUCLEAN;
	header_fill(&wanted, params, slots);
	if (memcmp(header->boot, wanted.boot, offsetof(struct header, owner) - offsetof(struct header, boot)))
		return -ENOENT;
	/* ours: an attempt before this one did not come to its end */
	return strcmp(header->owner, takeover_name()) ? takeover_ended(header->owner, text) : 0;
}

int inflight_adopt(struct inflight **result, const struct vbd *vbd, const struct blkif_params *params, unsigned slots,
		   struct error_text *text)
{
	struct inflight *table;
	int error;

	*result = NULL;
	if (!takeover_started())
		return -ENOENT;
	table = table_new(vbd, params, slots);
	error = table ? table_open(table) : -ENOMEM;
	if (!error)
		error = table_check(table, params, slots, text);
	if (error) {
		if (error != -ENOENT)
			error_set(text, error, "%s: %s", table ? table->path : "", error == -EUCLEAN ? "no in-flight table" :
				  strerror(-error));
		inflight_leave(table);
		return error;
	}
	memcpy(((struct header *)table->map)->owner, takeover_name(), strlen(takeover_name()) + 1);
	*result = table;
	return 0;
}

struct inflight_queue *inflight_queue(struct inflight *table, unsigned queue)
{
	return table ? (struct inflight_queue *)(table->map + HEADER_SIZE + queue * table->queue_size) : NULL;
}

/* ---- the stores ---- */

static void store(uint64_t *place, uint64_t value)
{
	__atomic_store_n(place, value, __ATOMIC_RELEASE);
}

void inflight_begin(struct inflight_queue *queue, uint32_t req_cons)
{
	queue->taken = queue->responded = queue->pushed = req_cons;
}

void inflight_take(struct inflight_queue *queue, struct inflight_entry *entry)
{
	test_point("bytes");
	entry->taken = queue->taken;
	entry->segments_known = 0;
	store(&entry->word, queue->taken << 2 | ENTRY_TAKEN);
	test_point("word");
	store(&queue->taken, queue->taken + 1);
	test_point("taken");
}

void inflight_keep_segments(struct inflight_entry *entry, const struct blkif_request_segment *segments, unsigned count)
{
	memcpy(entry->segments, segments, count * sizeof(*segments));
	test_point("segments");
	__atomic_store_n(&entry->segments_known, 1, __ATOMIC_RELEASE);
	test_point("segments known");
}

void inflight_respond(const struct inflight_queue *queue, struct inflight_entry *entry, unsigned number)
{
	store(&entry->word, (queue->responded + number) << 2 | ENTRY_RESPONDED);
	test_point("word responded");
}

void inflight_responded(struct inflight_queue *queue, unsigned count)
{
	store(&queue->responded, queue->responded + count);
	test_point("responded");
}

void inflight_pushed(struct inflight_queue *queue)
{
	store(&queue->pushed, queue->responded);
	test_point("pushed");
}

/* ---- what another process has left ---- */

/* 1: in flight, 0: not, or -EUCLEAN. */
static int entry_in_flight(const struct inflight_queue *queue, const struct inflight_entry *entry, unsigned slots)
{
	uint64_t number = WORD_NUMBER(entry->word);

	switch (WORD_STATE(entry->word)) {
	case ENTRY_UNUSED:
		return entry->word ? -EUCLEAN : 0;
	case ENTRY_TAKEN:
		if (number > queue->taken)
			return -EUCLEAN;
		return number < queue->taken && entry->taken == number ? 1 : number == queue->taken ? 0 : -EUCLEAN;
	case ENTRY_RESPONDED:
		if (number < queue->responded)
			return 0;
		return number - queue->responded < slots && entry->taken < queue->taken ? 1 : -EUCLEAN;
	}
	return -EUCLEAN;
}

static void sort_in(const struct inflight_queue *queue, unsigned *order, unsigned count, unsigned entry)
{
	for (; count && queue->entries[order[count - 1]].taken > queue->entries[entry].taken; count--)
		order[count] = order[count - 1];
	order[count] = entry;
}

int inflight_check(const struct inflight_queue *queue, unsigned slots, unsigned *order)
{
	unsigned count = 0;

	if (queue->pushed > queue->responded || queue->responded - queue->pushed > slots ||
	    queue->responded > queue->taken || queue->taken - queue->responded > slots ||
	    queue->taken > UINT64_MAX >> 3)
		return -EUCLEAN;
	for (unsigned i = 0; i < slots; i++) {
		int ret = entry_in_flight(queue, &queue->entries[i], slots);

		if (ret < 0)
			return ret;
		if (ret)
			sort_in(queue, order, count++, i);
	}
	if (count != queue->taken - queue->responded)
		return -EUCLEAN;
	for (unsigned i = 1; i < count; i++) {
		if (queue->entries[order[i]].taken == queue->entries[order[i - 1]].taken)
			return -EUCLEAN;
	}
	return (int)count;
}

void inflight_resume(struct inflight_queue *queue, unsigned slots, const unsigned *order, unsigned count)
{
	for (unsigned i = 0; i < slots; i++) {
		/* TAKEN(taken) would come to count with the next one taken */
		if (entry_in_flight(queue, &queue->entries[i], slots) <= 0)
			store(&queue->entries[i].word, 0);
		test_point("word cleared");
	}
	for (unsigned i = 0; i < count; i++) {
		struct inflight_entry *entry = &queue->entries[order[i]];

		store(&entry->word, entry->taken << 2 | ENTRY_TAKEN);
		test_point("word again");
	}
}
