/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* takeover_load.c - see takeover_load.h. */
#include "takeover_load.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/blkif.h>

#define BLOCK		4096u
#define SECTORS		(BLOCK / 512)

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static unsigned below(struct load *load, unsigned limit)
{
	return mix(load->seed * 1000003 + load->choices++) % limit;
}

static void block_fill(uint64_t *words, unsigned block, uint32_t version)
{
	for (unsigned i = 0; i < BLOCK / sizeof(*words); i++)
		words[i] = version ? mix((uint64_t)block << 32 | version) + i : 0;
}

static void block_check(const struct load *load, const void *found, unsigned block)
{
	uint64_t expected[BLOCK / sizeof(uint64_t)];

	block_fill(expected, block, load->versions[block]);
	if (memcmp(found, expected, BLOCK))
		fail_msg("seed %llu: block %u is not as write %u left it", (unsigned long long)load->seed, block,
			 load->versions[block]);
}

static uint64_t *page_of(struct load *load, const struct load_request *request, unsigned i)
{
	unsigned page = (unsigned)(request - load->requests) * LOAD_PAGES + i;

	return (uint64_t *)((uint8_t *)blkfront_data(load->front) + (size_t)page * BLOCK);
}

struct blkfront_options load_options(bool persistent)
{
	return (struct blkfront_options){ .domid = 1, .data_pages = LOAD_DEPTH * LOAD_PAGES, .persistent = persistent };
}

void load_start(struct load *load, struct blkfront *front, uint64_t seed)
{
	memset(load, 0, sizeof(*load));
	load->front = front;
	load->seed = seed;
	load->next_id = 1;
	load->discards = blkfront_geometry(front)->discard;
}

/* Finds blocks in a row that no other request uses. */
static bool choose_blocks(struct load *load, struct load_request *request)
{
	for (unsigned tries = 0; tries < 100; tries++) {
		unsigned i;

		request->count = below(load, 4) ? 1 + below(load, 3) : 1 + below(load, LOAD_PAGES);
		request->block = below(load, LOAD_BLOCKS - request->count);
		for (i = 0; i < request->count && !load->busy[request->block + i]; i++)
			;
		if (i == request->count)
			return true;
	}
	return false;
}

static void put_rw(struct load *load, struct load_request *request)
{
	struct blkfront_segment segments[LOAD_PAGES];
	bool read = request->operation == BLKIF_OP_READ;
	int r;

	for (unsigned i = 0; i < request->count; i++) {
		unsigned page = (unsigned)(request - load->requests) * LOAD_PAGES + i;

		segments[i] = (struct blkfront_segment){ blkfront_data_ref(load->front, page), 0, SECTORS - 1 };
		if (read)
			memset(page_of(load, request, i), 0xee, BLOCK);
		else
			block_fill(page_of(load, request, i), request->block + i, ++load->versions[request->block + i]);
	}
	if (request->operation == BLKIF_OP_WRITE_BARRIER)
		r = blkfront_barrier(load->front, 0, request->id, (uint64_t)request->block * SECTORS, segments, request->count);
	else
		r = blkfront_rw(load->front, 0, request->id, !read, (uint64_t)request->block * SECTORS, segments,
				request->count, request->count > BLKIF_MAX_SEGMENTS_PER_REQUEST);
	assert_int_equal(r, 0);
}

static uint8_t choose_operation(struct load *load)
{
	unsigned choice = below(load, 32);

	if (choice < 1)
		return BLKIF_OP_WRITE_BARRIER;
	if (choice < 3)
		return BLKIF_OP_FLUSH_DISKCACHE;
	if (choice < 6 && load->discards)
		return BLKIF_OP_DISCARD;
	return choice < 14 ? BLKIF_OP_READ : BLKIF_OP_WRITE;
}

static void put_one(struct load *load, struct load_request *request)
{
	request->operation = choose_operation(load);
	request->count = 0;
	if (request->operation != BLKIF_OP_FLUSH_DISKCACHE && !choose_blocks(load, request))
		return;
	if (request->operation == BLKIF_OP_WRITE_BARRIER && request->count > BLKIF_MAX_SEGMENTS_PER_REQUEST)
		request->count = BLKIF_MAX_SEGMENTS_PER_REQUEST;
	request->id = load->next_id++;
	load->in_flight++;
	for (unsigned i = 0; i < request->count; i++)
		load->busy[request->block + i] = true;
	if (request->operation == BLKIF_OP_FLUSH_DISKCACHE) {
		assert_int_equal(blkfront_flush(load->front, 0, request->id), 0);
	} else if (request->operation == BLKIF_OP_DISCARD) {
		for (unsigned i = 0; i < request->count; i++)
			load->versions[request->block + i] = 0;
		assert_int_equal(blkfront_discard(load->front, 0, request->id, (uint64_t)request->block * SECTORS,
						  (uint64_t)request->count * SECTORS, false), 0);
	} else {
		put_rw(load, request);
	}
}

void load_put(struct load *load, unsigned count)
{
	for (unsigned i = 0; i < LOAD_DEPTH && count; i++) {
		if (load->requests[i].id)
			continue;
		put_one(load, &load->requests[i]);
		count--;
	}
	blkfront_push(load->front, 0);
}

void load_put_flush(struct load *load)
{
	struct load_request *request = load->requests;

	while (request->id)
		request++;
	assert_true(request < load->requests + LOAD_DEPTH);
	*request = (struct load_request){ .id = load->next_id++, .operation = BLKIF_OP_FLUSH_DISKCACHE };
	load->in_flight++;
	assert_int_equal(blkfront_flush(load->front, 0, request->id), 0);
	blkfront_push(load->front, 0);
}

static void response_check(struct load *load, const struct blkfront_response *response)
{
	struct load_request *request = load->requests;

	while (request < load->requests + LOAD_DEPTH && request->id != response->id)
		request++;
	if (request == load->requests + LOAD_DEPTH)
		fail_msg("seed %llu: an answer to request %llu, which is answered already or was none",
			 (unsigned long long)load->seed, (unsigned long long)response->id);
	if (response->status != BLKIF_RSP_OKAY || response->operation != request->operation)
		fail_msg("seed %llu: request %llu, operation %u: answered with status %d, operation %u",
			 (unsigned long long)load->seed, (unsigned long long)response->id, request->operation,
			 response->status, response->operation);
	for (unsigned i = 0; i < request->count; i++) {
		if (request->operation == BLKIF_OP_READ)
			block_check(load, page_of(load, request, i), request->block + i);
		load->busy[request->block + i] = false;
	}
	request->id = 0;
	load->in_flight--;
	load->answered++;
}

void load_take(struct load *load)
{
	struct blkfront_response response;

	while (blkfront_reap(load->front, 0, &response, 1))
		response_check(load, &response);
}

bool load_wait(struct load *load)
{
	int r = blkfront_wait(load->front, 0, TIMEOUT_MS);

	if (r != 1 && r != -EPIPE)
		fail_msg("seed %llu: %u requests are not answered (%d)", (unsigned long long)load->seed, load->in_flight, r);
	load_take(load);
	return r == 1;
}

bool load_finish(struct load *load)
{
	while (load->in_flight) {
		if (!load_wait(load))
			return false;
	}
	return true;
}

void load_check(struct load *load)
{
	uint8_t block[BLOCK];

	assert_int_equal(load->in_flight, 0);
	for (unsigned i = 0; i < LOAD_BLOCKS; i++) {
		assert_int_equal(blkfront_pread(load->front, block, BLOCK, (uint64_t)i * BLOCK), 0);
		block_check(load, block, i);
	}
}

void load_shell(const char *format, ...)
{
	char command[600];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command))
		fail_msg("%s", command);
}

void load_make_disk(const char *type, const char *path)
{
	char tap_img[300];

	fixture_find_program(tap_img, sizeof(tap_img), "tap-img");
	if (!strcmp(type, "cow"))
		load_shell("%s create %s %llu >/dev/null", tap_img, path, LOAD_BYTES);
	else
		load_shell("truncate -s %llu %s", LOAD_BYTES, path);
}
