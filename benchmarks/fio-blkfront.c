/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fio-blkfront.c - an fio I/O engine that is a block frontend: fio's requests
 * go through a shared ring to a tapdisk, as a guest's do.
 *
 *   fio --ioengine=external:build/lib/fio-blkfront.so --tapdisk_pid=PID --minor=N ...
 *
 * Each job is a frontend of its own, with its own connection and its own
 * rings. fio's buffers are allocated in the guest memory that tapdisk sees,
 * so no data is copied on our side. A block that is too large for one ring
 * request is split, as a kernel does it.
 *
 * Invariants: unit[i] belongs to fio's io_u with index i and counts its
 * unanswered ring requests; the ring requests' id is that index. An io_u goes
 * back to fio with its last response.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "fio.h"
#include "optgroup.h"

#include <xen/io/blkif.h>

#include "blkfront.h"
#include "protocol.h"
#include "tapctl.h"

#define PAGE_BYTES	4096u
#define SECTOR_BYTES	512u
#define MAX_DOMID	0x7ff0		/* DOMID_FIRST_RESERVED */
#define FIRST_DEVID	51712		/* xvda; further jobs are xvdb, xvdc, ... */
#define REAP_BATCH	64
#define INFO_TIMEOUT_MS	30000

struct engine_options {
	void *pad;			/* fio's */
	int tapdisk_pid;
	unsigned int minor;
	unsigned int queues;
	unsigned int ring_page_order;
	unsigned int abi;
	unsigned int persistent;
	unsigned int indirect;
};

#define OPTION(field, label, text, ...)							\
	{										\
		.name = #field, .lname = label, .help = text,				\
		.off1 = offsetof(struct engine_options, field),				\
		.category = FIO_OPT_C_ENGINE, .group = FIO_OPT_G_INVALID,		\
		__VA_ARGS__								\
	}

static struct fio_option engine_option_list[] = {
	OPTION(tapdisk_pid, "tapdisk's pid", "Process that serves the disk (tap-ctl list)",
	       .type = FIO_OPT_INT, .minval = 0, .def = "0"),
	OPTION(minor, "Minor", "Which of the process' disks (tap-ctl list)",
	       .type = FIO_OPT_INT, .def = "0", .maxval = MINOR_MAX),
	OPTION(queues, "Queues", "Rings of each job",
	       .type = FIO_OPT_INT, .def = "1", .minval = 1, .maxval = MAX_QUEUES),
	OPTION(ring_page_order, "Ring page order", "Pages of each ring, as a power of two",
	       .type = FIO_OPT_INT, .def = "0", .maxval = MAX_RING_PAGE_ORDER),
	OPTION(abi, "ABI", "Layout of the ring",
	       .type = FIO_OPT_STR, .def = "native",
	       .posval = {
			{ .ival = "native", .oval = BLKFRONT_NATIVE, .help = "This machine's" },
			{ .ival = "x86_32", .oval = BLKFRONT_X86_32, .help = "32-bit x86 guests'" },
			{ .ival = "x86_64", .oval = BLKFRONT_X86_64, .help = "64-bit x86 guests'" },
			{ .ival = "arm", .oval = BLKFRONT_ARM, .help = "arm guests'" },
	       }),
	OPTION(persistent, "Persistent grants", "Ask for persistent grants",
	       .type = FIO_OPT_BOOL, .def = "1"),
	OPTION(indirect, "Indirect segments", "Segments of an indirect request; 0: none, at most 44 KiB a request",
	       .type = FIO_OPT_INT, .def = "256", .maxval = MAX_INDIRECT_SEGMENTS),
	{ .name = NULL },
};

struct unit {
	struct io_u *io_u;
	unsigned int unanswered;
};

struct engine_data {
	struct blkfront *front;
	struct unit *units;		/* by io_u index */
	struct io_u **events;		/* completions for event() */
	struct io_u **pending;		/* queued and not pushed yet */
	unsigned int nr_pending;
	unsigned int depth, queues, max_segments, next_queue;
	uint8_t *memory;
	size_t memory_size;
};

/* For setup: fio needs the size before the job that connects starts. */
static int disk_info(const struct engine_options *o, uint64_t *bytes, int *read_only, struct error_text *text)
{
	json_int_t sectors;
	json_t *reply = NULL;
	struct tapctl *ctl;
	int r;

	r = tapctl_connect(&ctl, o->tapdisk_pid, text);
	if (r < 0)
		return r;
	r = tapctl_call(ctl, json_pack("{s:s, s:i}", "command", "info", "minor", (int)o->minor), &reply,
			INFO_TIMEOUT_MS, text);
	tapctl_close(ctl);
	if (r < 0)
		return r;
	if (json_unpack(reply, "{s:{s:I, s?b}}", "disk", "sectors", &sectors, "read_only", read_only) < 0)
		r = error_set(text, -ENOMEDIUM, "minor %u of tapdisk %d has no open image", o->minor, o->tapdisk_pid);
	else
		*bytes = (uint64_t)sectors * SECTOR_BYTES;
	json_decref(reply);
	return r;
}

static int fio_blkfront_setup(struct thread_data *td)
{
	struct engine_options *o = td->eo;
	struct error_text text = { "" };
	char name[64];
	uint64_t bytes = 0;
	int read_only = 0;
	int r;

	if (!o->tapdisk_pid) {
		log_err("fio: blkfront: tapdisk_pid= is missing: which tapdisk? (tap-ctl list)\n");
		return 1;
	}
	if (!td->files_index) {
		snprintf(name, sizeof(name), "tapdisk-%d.%u", o->tapdisk_pid, o->minor);
		add_file(td, name, 0, 0);
		td->o.nr_files = td->o.nr_files ? : 1;
		td->o.open_files++;
	}
	if (td->files_index != 1) {
		log_err("fio: blkfront: a job has one disk, named by tapdisk_pid= and minor=, and needs no filename=\n");
		return 1;
	}
	r = disk_info(o, &bytes, &read_only, &text);
	/* a write job with verify_only only reads */
	if (r == 0 && read_only && (td_write(td) || td_trim(td)) && !td->o.verify_only)
		r = error_set(&text, -EROFS, "minor %u of tapdisk %d is read-only", o->minor, o->tapdisk_pid);
	if (r < 0) {
		log_err("fio: blkfront: %s\n", text.text[0] ? text.text : strerror(-r));
		return 1;
	}
	td->files[0]->real_file_size = bytes;
	return 0;
}

/* The bytes that fio will ask iomem_alloc() for, and the room it leaves for alignment. */
static size_t memory_needed(struct thread_data *td)
{
	return (size_t)td_max_bs(td) * td->o.iodepth + 3 * PAGE_BYTES + 2 * td->o.mem_align;
}

static int data_alloc(struct thread_data *td)
{
	struct engine_data *data = calloc(1, sizeof(*data));

	if (!data)
		return -ENOMEM;
	td->io_ops_data = data;
	data->depth = td->o.iodepth;
	data->units = calloc(data->depth, sizeof(*data->units));
	data->events = calloc(data->depth, sizeof(*data->events));
	data->pending = calloc(data->depth, sizeof(*data->pending));
	return data->units && data->events && data->pending ? 0 : -ENOMEM;
}

/* The number of requests of the largest block; a ring must hold them all. */
static unsigned int pieces_of(const struct engine_data *data, size_t bytes)
{
	unsigned int pages = (unsigned)(bytes / PAGE_BYTES + 2);	/* it may begin and end inside a page */

	return (pages + data->max_segments - 1) / data->max_segments;
}

/* A disk takes whole sectors only. */
static int block_sizes_check(struct thread_data *td, unsigned int sector_size)
{
	enum fio_ddir ddir;

	for (ddir = DDIR_READ; ddir < DDIR_RWDIR_CNT; ddir++) {
		if (td->o.min_bs[ddir] % sector_size == 0)
			continue;
		log_err("fio: blkfront: blocks of %llu bytes on a disk with sectors of %u: bs= has to be a multiple\n",
			td->o.min_bs[ddir], sector_size);
		return -EINVAL;
	}
	return 0;
}

static int front_connect(struct thread_data *td, struct engine_data *data)
{
	struct engine_options *o = td->eo;
	struct blkfront_options options = {
		.pid = o->tapdisk_pid, .minor = o->minor,
		.domid = 1 + getpid() % (MAX_DOMID - 1), .devid = FIRST_DEVID + 16 * (td->thread_number - 1),
		.abi = o->abi, .ring_page_order = o->ring_page_order, .queues = o->queues,
		.persistent = o->persistent, .read_only = td->o.verify_only || !(td_write(td) || td_trim(td)),
		.data_pages = (unsigned)((memory_needed(td) + PAGE_BYTES - 1) / PAGE_BYTES),
	};
	char text[512] = "";
	int r;

	r = blkfront_connect(&data->front, &options, text, sizeof(text));
	if (r < 0) {
		log_err("fio: blkfront: %s\n", text);
		return r;
	}
	data->queues = o->queues;
	data->memory = blkfront_data(data->front);
	data->memory_size = (size_t)options.data_pages * PAGE_BYTES;
	data->max_segments = BLKIF_MAX_SEGMENTS_PER_REQUEST;
	if (o->indirect > data->max_segments)
		data->max_segments = min(o->indirect, blkfront_geometry(data->front)->max_indirect_segments);
	if (pieces_of(data, td_max_bs(td)) > blkfront_ring_size(data->front, 0)) {
		log_err("fio: blkfront: a block of %llu bytes is %u requests of %u pages, and the ring holds %u: "
			"make bs= smaller or indirect= or ring_page_order= larger\n", td_max_bs(td),
			pieces_of(data, td_max_bs(td)), data->max_segments, blkfront_ring_size(data->front, 0));
		return -EINVAL;
	}
	return block_sizes_check(td, blkfront_geometry(data->front)->sector_size);
}

static int fio_blkfront_init(struct thread_data *td)
{
	int r = data_alloc(td);

	if (r == 0)
		r = front_connect(td, td->io_ops_data);
	if (r < 0)
		td_verror(td, -r, "blkfront connect");
	return r < 0;
}

static void fio_blkfront_cleanup(struct thread_data *td)
{
	struct engine_data *data = td->io_ops_data;

	if (!data)
		return;
	blkfront_disconnect(data->front);
	free(data->units);
	free(data->events);
	free(data->pending);
	free(data);
}

static int fio_blkfront_iomem_alloc(struct thread_data *td, size_t total_mem)
{
	struct engine_data *data = td->io_ops_data;

	if (total_mem > data->memory_size) {
		log_err("fio: blkfront: %zu bytes of buffers wanted, %zu there\n", total_mem, data->memory_size);
		return 1;
	}
	td->orig_buffer = (char *)data->memory;
	return 0;
}

/* The disconnect frees the memory. */
static void fio_blkfront_iomem_free(struct thread_data *td)
{
	td->orig_buffer = NULL;
}

static int fio_blkfront_io_u_init(struct thread_data *td, struct io_u *io_u)
{
	struct engine_data *data = td->io_ops_data;

	data->units[io_u->index].io_u = io_u;
	return 0;
}

/* The ring's unit is 512 bytes, in memory as well as on the disk. */
static bool transfer_fits(const struct engine_data *data, const struct io_u *io_u)
{
	const uint8_t *buffer = io_u->xfer_buf;

	if ((io_u->offset | io_u->xfer_buflen | (uintptr_t)buffer) % SECTOR_BYTES)
		return false;
	return buffer >= data->memory && buffer + io_u->xfer_buflen <= data->memory + data->memory_size;
}

/* Fill at most @max segments with @bytes at @at; *@bytes_put: the bytes that they cover. */
static unsigned int segments_fill(const struct engine_data *data, const uint8_t *at, size_t bytes,
				  struct blkfront_segment *segments, unsigned int max, size_t *bytes_put)
{
	size_t position = at - data->memory, done = 0, in_page, piece;
	unsigned int count;

	for (count = 0; count < max && done < bytes; count++, done += piece) {
		in_page = (position + done) % PAGE_BYTES;
		piece = min(bytes - done, PAGE_BYTES - in_page);
		segments[count].page = blkfront_data_ref(data->front, (unsigned)((position + done) / PAGE_BYTES));
		segments[count].first = (uint8_t)(in_page / SECTOR_BYTES);
		segments[count].last = (uint8_t)((in_page + piece) / SECTOR_BYTES - 1);
	}
	*bytes_put = done;
	return count;
}

/* Put all requests of @io_u; the caller has checked that there is room. */
static int transfer_put(struct engine_data *data, unsigned int queue, struct io_u *io_u)
{
	struct blkfront_segment segments[MAX_INDIRECT_SEGMENTS];
	struct unit *unit = &data->units[io_u->index];
	const uint8_t *buffer = io_u->xfer_buf;
	size_t done, piece;
	unsigned int count;
	int r;

	for (done = 0; done < io_u->xfer_buflen; done += piece) {
		count = segments_fill(data, buffer + done, io_u->xfer_buflen - done, segments, data->max_segments,
				      &piece);
		r = blkfront_rw(data->front, queue, io_u->index, io_u->ddir == DDIR_WRITE,
				(io_u->offset + done) / SECTOR_BYTES, segments, count, false);
		if (r < 0)
			return r;
		unit->unanswered++;
	}
	return 0;
}

static int request_put(struct engine_data *data, unsigned int queue, struct io_u *io_u)
{
	int r;

	switch (io_u->ddir) {
	case DDIR_READ:
	case DDIR_WRITE:
		return transfer_fits(data, io_u) ? transfer_put(data, queue, io_u) : -EINVAL;
	case DDIR_SYNC:
	case DDIR_DATASYNC:
		r = blkfront_flush(data->front, queue, io_u->index);
		break;
	case DDIR_TRIM:
		if ((io_u->offset | io_u->xfer_buflen) % SECTOR_BYTES)
			return -EINVAL;
		r = blkfront_discard(data->front, queue, io_u->index, io_u->offset / SECTOR_BYTES,
				     io_u->xfer_buflen / SECTOR_BYTES, false);
		break;
	default:
		r = -EINVAL;
	}
	if (r == 0)
		data->units[io_u->index].unanswered++;
	return r;
}

static enum fio_q_status fio_blkfront_queue(struct thread_data *td, struct io_u *io_u)
{
	struct engine_data *data = td->io_ops_data;
	unsigned int queue = data->next_queue, pieces = 1;
	int r;

	fio_ro_check(td, io_u);
	if (io_u->ddir == DDIR_READ || io_u->ddir == DDIR_WRITE)
		pieces = pieces_of(data, io_u->xfer_buflen);
	if (blkfront_room(data->front, queue) < pieces)
		return FIO_Q_BUSY;
	r = request_put(data, queue, io_u);
	if (r < 0) {
		io_u->error = -r;
		return FIO_Q_COMPLETED;
	}
	data->next_queue = queue + 1 < data->queues ? queue + 1 : 0;
	data->pending[data->nr_pending++] = io_u;
	return FIO_Q_QUEUED;
}

static void issue_time_set(struct thread_data *td, struct engine_data *data)
{
	struct timespec now;
	unsigned int i;

	if (!fio_fill_issue_time(td))
		return;
	fio_gettime(&now, NULL);
	for (i = 0; i < data->nr_pending; i++) {
		data->pending[i]->issue_time = now;
		io_u_queued(td, data->pending[i]);
	}
	if (td->o.read_iolog_file)
		td->last_issue = now;
}

static int fio_blkfront_commit(struct thread_data *td)
{
	struct engine_data *data = td->io_ops_data;
	unsigned int i;

	if (!data->nr_pending)
		return 0;
	issue_time_set(td, data);
	for (i = 0; i < data->queues; i++)
		blkfront_push(data->front, i);
	io_u_mark_submit(td, data->nr_pending);
	data->nr_pending = 0;
	return 0;
}

/* 1 if @response was an io_u's last, 0 if not, -EPROTO if it belongs to none. */
static int response_take(struct engine_data *data, const struct blkfront_response *response)
{
	struct unit *unit;

	if (response->id >= data->depth || !data->units[response->id].unanswered) {
		log_err("fio: blkfront: tapdisk answered a request that was not made (id %llu)\n",
			(unsigned long long)response->id);
		return -EPROTO;
	}
	unit = &data->units[response->id];
	if (response->status != BLKIF_RSP_OKAY)
		unit->io_u->error = response->status == BLKIF_RSP_EOPNOTSUPP ? EOPNOTSUPP : EIO;
	return --unit->unanswered == 0;
}

/* Add answered io_us to the @found events, up to @max; returns the new number of events, or -errno. */
static int events_collect(struct engine_data *data, unsigned int found, unsigned int max)
{
	struct blkfront_response responses[REAP_BATCH];
	unsigned int queue, n, i;
	int r;

	for (queue = 0; queue < data->queues; queue++) {
		do {
			n = blkfront_reap(data->front, queue, responses, min(max - found, (unsigned int)REAP_BATCH));
			for (i = 0; i < n; i++) {
				r = response_take(data, &responses[i]);
				if (r < 0)
					return r;
				if (r)
					data->events[found++] = data->units[responses[i].id].io_u;
			}
		} while (n && found < max);
	}
	return found;
}

static int fio_blkfront_getevents(struct thread_data *td, unsigned int min, unsigned int max,
				  const struct timespec *t)
{
	struct engine_data *data = td->io_ops_data;
	int timeout_ms = t ? (int)(t->tv_sec * 1000 + t->tv_nsec / 1000000) : -1;
	int found = 0;
	int r;

	for (;;) {
		found = events_collect(data, found, max);
		if (found < 0 || (unsigned int)found >= min)
			return found;
		r = blkfront_wait_any(data->front, timeout_ms);
		if (r == 0)
			return found;
		if (r < 0) {
			log_err("fio: blkfront: %s\n", r == -EPIPE ? "tapdisk has gone" : strerror(-r));
			return r;
		}
	}
}

static struct io_u *fio_blkfront_event(struct thread_data *td, int event)
{
	struct engine_data *data = td->io_ops_data;

	return data->events[event];
}

/* There is nothing to open and no cache to drop: the disk is the connection. */
static int fio_blkfront_open_file(struct thread_data *td, struct fio_file *f)
{
	return 0;
}

static int fio_blkfront_invalidate(struct thread_data *td, struct fio_file *f)
{
	return 0;
}

struct ioengine_ops ioengine = {
	.name			= "blkfront",
	.version		= FIO_IOOPS_VERSION,
	.flags			= FIO_DISKLESSIO | FIO_NOEXTEND | FIO_RAWIO | FIO_ASYNCIO_SETS_ISSUE_TIME,
	.setup			= fio_blkfront_setup,
	.init			= fio_blkfront_init,
	.cleanup		= fio_blkfront_cleanup,
	.iomem_alloc		= fio_blkfront_iomem_alloc,
	.iomem_free		= fio_blkfront_iomem_free,
	.io_u_init		= fio_blkfront_io_u_init,
	.queue			= fio_blkfront_queue,
	.commit			= fio_blkfront_commit,
	.getevents		= fio_blkfront_getevents,
	.event			= fio_blkfront_event,
	.open_file		= fio_blkfront_open_file,
	.invalidate		= fio_blkfront_invalidate,
	.options		= engine_option_list,
	.option_struct_size	= sizeof(struct engine_options),
};
