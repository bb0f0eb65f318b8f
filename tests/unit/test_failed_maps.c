/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_failed_maps.c - with persistent grants, a page that cannot be mapped costs
 * one attempt in a request, and the frontend an extra penalty: each attempt is
 * several system calls and a hypercall, and the pages of a request may all be
 * such (blkif_io.c, blkif_backoff.c).
 *
 * A transport counts the attempts. Below READ_ONLY its references are pages,
 * below BAD pages that cannot be mapped and only be read, and from there on nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "blkif.h"

#define READ_ONLY 1000u
#define BAD 2000u
#define SEGMENTS 256u		/* of a large request */
#define PENALTY_MAX 64u		/* what tapdisk puts up with */

static unsigned attempts, copies;
static struct blkif_request_segment listed[SEGMENTS];	/* an indirect request's */
static uint8_t pages[READ_ONLY][GUEST_PAGE_SIZE] __attribute__((aligned(GUEST_PAGE_SIZE)));

static struct vbd vbd = { .geometry = { .sectors = 1u << 20 } };
static struct blkif blkif;
static struct blkif_queue queue = { .blkif = &blkif };
static struct grant_copy pieces[16];
static void *owners[16];

static int count_map(struct transport *transport, const uint32_t *refs, unsigned count, void **address)
{
	attempts++;
	if (refs[0] >= READ_ONLY)
		return -EINVAL;
	*address = pages[refs[0]];
	return 0;
}

static void count_unmap(struct transport *transport, void *address, unsigned count)
{
}

/* The page of an indirect request has the segments, all others zeros. */
static int count_copy(struct transport *transport, struct grant_copy *piece, unsigned count)
{
	for (copies += count; count; count--, piece++) {
		piece->error = piece->ref >= (piece->to_guest ? READ_ONLY : BAD) ? -EFAULT : 0;
		if (!piece->error && !piece->to_guest)
			memcpy(piece->local, (uint8_t *)listed + piece->offset, piece->length);
	}
	return 0;
}

static const struct transport_ops counting_ops = {
	.name = "counting", .map = count_map, .unmap = count_unmap, .copy = count_copy,
};
static struct transport counting = { .ops = &counting_ops };

static int setup(void **state)
{
	blkif = (struct blkif){
		.vbd = &vbd, .persistent = true, .transport = &counting, .pieces = pieces, .piece_owners = owners, .max_pieces = 16,
	};
	attempts = copies = 0;
	assert_int_equal(bounce_pool_init(&blkif.bounce, SEGMENTS), 0);
	return grant_map_init(&blkif.grants, &counting, 512);
}

static int teardown(void **state)
{
	grant_map_fini(&blkif.grants);
	bounce_pool_fini(&blkif.bounce);
	free(blkif.free_segments);
	return 0;
}

/* An indirect request whose segments are in the page @list, from its parsing to its answer; 0 or its error. */
static int request(bool write, uint32_t list)
{
	struct ring_request wire = {
		.operation = write ? BLKIF_OP_WRITE : BLKIF_OP_READ, .indirect = true, .known = true, .nr_segments = SEGMENTS,
		.indirect_refs = { list },
	};
	struct blkif_io io = { .queue = &queue };

	memcpy(pages[0], listed, sizeof(listed));
	blkif_io_init(&io, &wire, 0);
	assert_int_equal(blkif_io_check_header(&io, &wire), 0);
	blkif_io_fetch_indirect(&io);
	blkif_copy_flush(&blkif);
	if (!io.error)
		assert_int_equal(blkif_io_check_segments(&io), 0);
	if (!io.error)
		assert_int_equal(blkif_io_prepare_data(&io), 0);
	blkif_copy_flush(&blkif);
	blkif_io_copy_to_guest(&io);
	blkif_copy_flush(&blkif);
	blkif_io_release(&io);
	return io.error;
}

static void list(uint32_t ref)
{
	for (unsigned i = 0; i < SEGMENTS; i++)
		listed[i] = (struct blkif_request_segment){ .gref = ref + i, .first_sect = 0, .last_sect = 0 };
}

/* Neither way of a request's data tries more than one page that is none. */
static void test_bad_pages(void **state)
{
	list(BAD);
	for (unsigned write = 0; write < 2; write++) {
		attempts = 0;
		assert_int_equal(request(write, 0), -EFAULT);
		assert_in_range(attempts, 1, 2);	/* one is the list's page */
		assert_true(copies >= SEGMENTS);
	}
	blkif.direct_io_safe = true;
	attempts = 0;
	assert_int_equal(request(true, 0), -EFAULT);
	assert_int_equal(attempts, 1);
}

/* Such a page may be written from: the request succeeds, by copies, and so is not bad itself. */
static void test_read_only_pages(void **state)
{
	list(READ_ONLY);
	assert_int_equal(request(true, 0), 0);
	assert_in_range(attempts, 1, 2);
	assert_true(copies >= SEGMENTS);
	assert_int_equal(request(false, 0), -EFAULT);
	assert_in_range(attempts, 1, 3);
}

/* If the list's page itself cannot be mapped, that was the one attempt. */
static void test_list_in_a_read_only_page(void **state)
{
	list(READ_ONLY + 1);
	assert_int_equal(request(true, READ_ONLY), 0);
	assert_int_equal(attempts, 1);
}

/* After a failure, pages that are mapped already are still used, and none is mapped. */
static void test_mapped_pages_after_a_failure(void **state)
{
	list(1);
	assert_int_equal(request(true, 0), 0);
	assert_int_equal(attempts, 1 + SEGMENTS);
	assert_int_equal(copies, 0);
	listed[0].gref = READ_ONLY;
	listed[SEGMENTS - 1].gref = SEGMENTS + 1;
	assert_int_equal(request(true, 0), 0);
	assert_int_equal(attempts, 1 + SEGMENTS + 1);
	assert_int_equal(copies, 2);
}

/* The limit of mapped pages is no mistake of the frontend: it costs no attempt and no penalty. */
static void test_too_many_pages(void **state)
{
	blkif.grants.max = 1;
	list(1);
	assert_int_equal(request(true, 0), 0);
	assert_int_equal(attempts, 1);
	assert_int_equal(copies, SEGMENTS);
	assert_int_equal(blkif.penalty, 0);
}

/* A request that succeeds although a map failed is still useless on balance. */
static void test_penalty(void **state)
{
	unsigned count;

	list(READ_ONLY);
	for (count = 0; blkif.penalty < PENALTY_MAX; count++) {
		assert_in_range(count, 0, 2 * PENALTY_MAX);
		assert_int_equal(request(true, 0), 0);
		blkif_count_use(&blkif, true);
	}
	assert_in_range(attempts, 1, 2 * PENALTY_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bad_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_only_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_in_a_read_only_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mapped_pages_after_a_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_penalty, setup, teardown),
	};

	return cmocka_run_group_tests_name("pages that cannot be mapped", tests, NULL, NULL);
}
