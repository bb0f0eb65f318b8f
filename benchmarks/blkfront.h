/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkfront.h - a block frontend in user space.
 *
 * To tapdisk it is a guest's blkfront: shared rings in pages of its own, grant
 * references, event channels. On the stand-in transport these are a memfd,
 * page numbers in it, and eventfds; on Xen (blkfront_xen.h) the real ones.
 * Tests and the fio engine use it; it speaks every ABI and every feature of the
 * ring, to exercise tapdisk's, and gives misbehaving tests access to the raw
 * ring.
 *
 * Threads: each queue may be driven by one thread of its own; everything
 * else by one thread at a time.
 */
#ifndef BLKFRONT_H
#define BLKFRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum blkfront_abi { BLKFRONT_NATIVE, BLKFRONT_X86_32, BLKFRONT_X86_64, BLKFRONT_ARM };

struct blkfront_transport;

struct blkfront_options {
	const struct blkfront_transport *transport;	/* NULL: the stand-in */
	const char *xen_frontend;	/* on Xen: the frontend's path in xenstore, with `backend` below it */
	int pid, minor;			/* the tapdisk and its disk; not on Xen, where they are in xenstore */
	uint32_t domid, devid;		/* the guest and device that we claim to be; devid 0: 51712 (xvda) */
	enum blkfront_abi abi;
	unsigned ring_page_order;	/* 0..4 */
	unsigned queues;		/* 0 means 1 */
	bool persistent;		/* ask for persistent grants */
	unsigned data_pages;		/* 4 KiB pages of guest memory for data; 0: 4096 */
	bool read_only;
	uint32_t start_index;		/* first value of every ring index (tests of wrap-around) */
};

/* The disk's geometry, from tapdisk's reply. */
struct blkfront_geometry {
	uint64_t sectors;		/* 512-byte sectors */
	unsigned sector_size;		/* bytes */
	unsigned physical_sector_size;	/* bytes */
	bool read_only, discard;
	unsigned max_indirect_segments;
};

/* One segment: part of one page of guest memory. */
struct blkfront_segment {
	uint32_t page;			/* grant reference: blkfront_data_ref() */
	uint8_t first, last;		/* 512-byte sectors within the page, inclusive */
};

struct blkfront_response {
	uint64_t id;
	uint8_t operation;
	int16_t status;			/* BLKIF_RSP_* */
};

struct blkfront;

/* 0 or -errno; @text (of @size bytes) gets one line on failure. */
int blkfront_connect(struct blkfront **front, const struct blkfront_options *options, char *text, size_t size);
/*
 * The stand-in's tapdisk has died, or was replaced, and @pid has the disk now: continue with the rings as they are. 0
 * or -errno, as above. Responses may already have arrived.
 */
int blkfront_follow(struct blkfront *front, int pid, char *text, size_t size);
/* Clean disconnect: waits until tapdisk has drained and released the rings; frees @front. */
void blkfront_disconnect(struct blkfront *front);
/* Die as a destroyed guest does: close everything immediately, then free. */
void blkfront_vanish(struct blkfront *front);

const struct blkfront_geometry *blkfront_geometry(const struct blkfront *front);

/* Guest memory for data: page 0..data_pages-1 as addresses and as grant references. */
void *blkfront_data(struct blkfront *front);
uint32_t blkfront_data_ref(const struct blkfront *front, unsigned page);

/* Free slots in a queue's ring. */
unsigned blkfront_room(const struct blkfront *front, unsigned queue);
unsigned blkfront_ring_size(const struct blkfront *front, unsigned queue);

/*
 * Put a request into the ring's next slot; not visible until blkfront_push().
 * -EBUSY when the ring is full. More than 11 segments (or @indirect) make an
 * indirect request, whose segment pages the library takes from its own pool.
 */
int blkfront_rw(struct blkfront *front, unsigned queue, uint64_t id, bool write, uint64_t sector,
		const struct blkfront_segment *segments, unsigned count, bool indirect);
int blkfront_flush(struct blkfront *front, unsigned queue, uint64_t id);
int blkfront_barrier(struct blkfront *front, unsigned queue, uint64_t id, uint64_t sector,
		     const struct blkfront_segment *segments, unsigned count);
int blkfront_discard(struct blkfront *front, unsigned queue, uint64_t id, uint64_t sector, uint64_t nr_sectors,
		     bool secure);

/* Put arbitrary bytes as the next request; bytes beyond a slot are cut off. */
int blkfront_raw(struct blkfront *front, unsigned queue, const void *bytes, size_t size);

/* Make the requests visible, and signal tapdisk if it asked for that. */
void blkfront_push(struct blkfront *front, unsigned queue);

/* Take up to @max available responses; returns their number. */
unsigned blkfront_reap(struct blkfront *front, unsigned queue, struct blkfront_response *responses, unsigned max);
/* Wait for a response (milliseconds, -1 forever): 1 yes, 0 timeout, -errno (-EPIPE: tapdisk is gone). */
int blkfront_wait(struct blkfront *front, unsigned queue, int timeout_ms);
/* The same on all queues, for a thread that drives them all. */
int blkfront_wait_any(struct blkfront *front, int timeout_ms);

/*
 * Synchronous, on queue 0, whose ring must be empty (-EBUSY). Returns 0,
 * -EOPNOTSUPP or -EIO as tapdisk answered, or another -errno (-ETIMEDOUT after
 * 30 s). @buffer is anywhere in our memory; @bytes and @offset are multiples
 * of the sector size. Any number of bytes: they are split into requests.
 */
int blkfront_pread(struct blkfront *front, void *buffer, size_t bytes, uint64_t offset);
int blkfront_pwrite(struct blkfront *front, const void *buffer, size_t bytes, uint64_t offset);
int blkfront_sync(struct blkfront *front);

/* For misbehaving tests: the ring page(s) as tapdisk sees them, and a bare signal. */
void *blkfront_ring(struct blkfront *front, unsigned queue);
void blkfront_signal(struct blkfront *front, unsigned queue);

#endif
