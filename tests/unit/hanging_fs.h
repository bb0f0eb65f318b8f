/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hanging_fs.h - a file system that stops answering on demand: a child process
 * is its FUSE server. A process that uses it waits in the kernel, as for a file
 * server that is down.
 *
 * It has one directory, in which each name is a file of HANGING_BYTES zeroes.
 * While it hangs, it does not answer a lookup of "lookup...", an open of
 * "open...", an open of "write..." for writing, a read of "read...", a getattr
 * of "size...", a close of "close..." and a close of "end..." after an open for
 * writing, a search for holes in "seek...", a write of "data..." and a sync of
 * "sync..."; it answers the rest.
 *
 * The data of "store..." is kept, in a file beside the directory; while the file system hangs, it answers no write, sync
 * or change of size of it either, and no read of "storeread...", after the first ones (hanging_set_after()) or those before
 * some sync (hanging_set_after_syncs()).
 */
#ifndef TESTS_HANGING_FS_H
#define TESTS_HANGING_FS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HANGING_BYTES (1u << 20)
#define HANGING_NODES 32
#define HANGING_HELD 4096
#define HANGING_REQUEST (1u << 18)
#define HANGING_WRITER 2u		/* the handle of a file that is open for writing */

struct hanging_shared {
	atomic_bool hangs;
	atomic_int left;		/* requests on stores that are still answered while it hangs */
	atomic_int syncs;		/* while it hangs, so many syncs of stores are still answered, and all that comes before them */
	atomic_uint held;		/* requests that wait for an answer */
	atomic_int open;		/* files that are open */
};

static struct {
	char path[200];
	pid_t server;
	int control[2];			/* a byte makes the server look at *shared again */
	struct hanging_shared *shared;
} hanging;

static uint32_t hanging_flags = FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS;	/* as network file systems report */

/* ---- the server ---- */

static struct {
	int fuse;
	char names[HANGING_NODES][64];	/* of node N + 2 */
	int stores[HANGING_NODES];	/* their files; 0: not open */
	char *held[HANGING_HELD];	/* copies of requests */
} hanging_server;

static void hanging_reply(uint64_t unique, int error, const void *data, size_t length)
{
	struct fuse_out_header header = { .len = (uint32_t)(sizeof(header) + length), .error = error, .unique = unique };
	struct iovec parts[] = { { &header, sizeof(header) }, { (void *)data, length } };

	/* the calling process may have been killed in the meantime */
	if (writev(hanging_server.fuse, parts, length ? 2 : 1) < 0 && errno != ENOENT && errno != EINVAL)
		_exit(1);
}

static uint64_t hanging_node(const char *name)
{
	unsigned i;

	for (i = 0; i < HANGING_NODES - 1 && hanging_server.names[i][0] && strcmp(hanging_server.names[i], name); i++)
		;
	snprintf(hanging_server.names[i], sizeof(hanging_server.names[i]), "%s", name);
	return i + 2;
}

static const char *hanging_name(uint64_t node)
{
	return node > FUSE_ROOT_ID && node < HANGING_NODES + 2 ? hanging_server.names[node - 2] : "";
}

static void hanging_store_path(char path[300], const char *name)
{
	snprintf(path, 300, "%s.%s", hanging.path, name);
}

/* The file with a store's data; 0: not a store. */
static int hanging_store(uint64_t node)
{
	const char *name = hanging_name(node);
	char path[300];

	if (strncmp(name, "store", 5))
		return 0;
	hanging_store_path(path, name);
	if (!hanging_server.stores[node - 2])
		hanging_server.stores[node - 2] = open(path, O_RDWR | O_CLOEXEC);
	if (hanging_server.stores[node - 2] < 0)
		_exit(1);
	return hanging_server.stores[node - 2];
}

static struct fuse_attr hanging_attr(uint64_t node)
{
	bool directory = node == FUSE_ROOT_ID;
	int store = hanging_store(node);
	struct stat st = { .st_size = directory ? 0 : HANGING_BYTES };

	if (store && fstat(store, &st))
		_exit(1);
	return (struct fuse_attr){ .ino = node, .size = (uint64_t)st.st_size, .blocks = (uint64_t)st.st_size / 512,
		.mode = directory ? S_IFDIR | 0755 : S_IFREG | 0600, .nlink = 1, .blksize = 4096 };
}

static void hanging_init(uint64_t unique, const struct fuse_init_in *in)
{
	const struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
		.flags = hanging_flags,
		.max_readahead = in->max_readahead, .max_write = 65536, .max_background = 64, .congestion_threshold = 64 };

	hanging_reply(unique, 0, &out, sizeof(out));
}

static void hanging_lookup(uint64_t unique, const char *name)
{
	bool record = strstr(name, ".tapsnap-overlay") || strstr(name, "missing");
	struct fuse_entry_out out = { 0 };	/* not cached */

	if (record) {
		hanging_reply(unique, -ENOENT, NULL, 0);
		return;
	}
	out.nodeid = hanging_node(name);
	out.attr = hanging_attr(out.nodeid);
	hanging_reply(unique, 0, &out, sizeof(out));
}

static void hanging_store_read(uint64_t unique, int store, const struct fuse_read_in *in)
{
	static char data[1 << 17];
	ssize_t length = pread(store, data, in->size < sizeof(data) ? in->size : sizeof(data), (off_t)in->offset);

	hanging_reply(unique, length < 0 ? -errno : 0, data, length < 0 ? 0 : (size_t)length);
}

static void hanging_write(uint64_t unique, int store, const struct fuse_write_in *in)
{
	struct fuse_write_out out = { .size = in->size };

	if (store && pwrite(store, in + 1, in->size, (off_t)in->offset) != (ssize_t)in->size)
		hanging_reply(unique, -EIO, NULL, 0);
	else
		hanging_reply(unique, 0, &out, sizeof(out));
}

static void hanging_resize(int store, const struct fuse_setattr_in *in)
{
	if (store && in->valid & FATTR_SIZE && ftruncate(store, (off_t)in->size))
		_exit(1);
}

static void hanging_read(uint64_t unique, const struct fuse_read_in *in)
{
	static const char zeroes[1 << 17];
	size_t length = in->size < sizeof(zeroes) ? in->size : sizeof(zeroes);

	if (in->offset >= HANGING_BYTES)
		length = 0;
	else if (length > HANGING_BYTES - in->offset)
		length = HANGING_BYTES - in->offset;
	hanging_reply(unique, 0, zeroes, length);
}

static bool hanging_writes(const char *body)
{
	struct fuse_open_in in;

	memcpy(&in, body, sizeof(in));
	return (in.flags & O_ACCMODE) != O_RDONLY;
}

static bool hanging_is_writer(const char *body)
{
	struct fuse_flush_in in;

	memcpy(&in, body, sizeof(in));
	return in.fh == HANGING_WRITER;
}

/* All of it is data. */
static void hanging_seek(uint64_t unique, const struct fuse_lseek_in *in)
{
	struct fuse_lseek_out out = { .offset = in->whence == SEEK_DATA ? in->offset : HANGING_BYTES };

	if (in->offset < HANGING_BYTES)
		hanging_reply(unique, 0, &out, sizeof(out));
	else
		hanging_reply(unique, -ENXIO, NULL, 0);
}

static void hanging_answer(const struct fuse_in_header *header, const void *body)
{
	struct fuse_attr_out attr;
	struct fuse_open_out opened = { .fh = header->opcode == FUSE_OPEN && hanging_writes(body) ? HANGING_WRITER : 1 };
	struct fuse_statfs_out statfs = { .st = { .bsize = 4096, .frsize = 4096, .namelen = 60 } };
	int store = hanging_store(header->nodeid);

	switch (header->opcode) {
	case FUSE_INIT:
		hanging_init(header->unique, body);
		break;
	case FUSE_LOOKUP:
		hanging_lookup(header->unique, body);
		break;
	case FUSE_SETATTR:
		hanging_resize(store, body);
		/* fallthrough */
	case FUSE_GETATTR:
		attr = (struct fuse_attr_out){ .attr = hanging_attr(header->nodeid) };
		hanging_reply(header->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
		hanging.shared->open++;
		hanging_reply(header->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_RELEASE:
		hanging.shared->open--;
		hanging_reply(header->unique, 0, NULL, 0);
		break;
	case FUSE_READ:
		if (store)
			hanging_store_read(header->unique, store, body);
		else
			hanging_read(header->unique, body);
		break;
	case FUSE_WRITE:
		hanging_write(header->unique, store, body);
		break;
	case FUSE_LSEEK:
		hanging_seek(header->unique, body);
		break;
	case FUSE_STATFS:
		hanging_reply(header->unique, 0, &statfs, sizeof(statfs));
		break;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
		hanging_reply(header->unique, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;			/* requests without an answer */
	default:
		hanging_reply(header->unique, -ENOSYS, NULL, 0);
	}
}

static bool hanging_before_sync(const struct fuse_in_header *header)
{
	if (hanging.shared->syncs <= 0)
		return false;
	if (header->opcode == FUSE_FSYNC)
		hanging.shared->syncs--;
	return true;
}

/* A request for a store's data; such a request is counted. */
static bool hanging_holds_store(const struct fuse_in_header *header, const char *name)
{
	if (strncmp(name, "store", 5) || hanging_before_sync(header))
		return false;
	switch (header->opcode) {
	case FUSE_READ:
		return !strncmp(name, "storeread", 9) && hanging.shared->left-- <= 0;
	case FUSE_WRITE:
	case FUSE_FSYNC:
	case FUSE_SETATTR:
		return hanging.shared->left-- <= 0;
	default:
		return false;
	}
}

static bool hanging_holds(const struct fuse_in_header *header, const char *body)
{
	const char *name = hanging_name(header->nodeid);

	if (!hanging.shared->hangs)
		return false;
	return hanging_holds_store(header, name) ||
		(header->opcode == FUSE_LOOKUP && !strncmp(body, "lookup", 6)) ||
		(header->opcode == FUSE_OPEN && !strncmp(name, "open", 4)) ||
		(header->opcode == FUSE_READ && !strncmp(name, "read", 4)) ||
		(header->opcode == FUSE_OPEN && !strncmp(name, "write", 5) && hanging_writes(body)) ||
		(header->opcode == FUSE_FLUSH && !strncmp(name, "close", 5)) ||
		(header->opcode == FUSE_FLUSH && !strncmp(name, "end", 3) && hanging_is_writer(body)) ||
		(header->opcode == FUSE_LSEEK && !strncmp(name, "seek", 4)) ||
		(header->opcode == FUSE_WRITE && !strncmp(name, "data", 4)) ||
		(header->opcode == FUSE_FSYNC && !strncmp(name, "sync", 4)) ||
		(header->opcode == FUSE_GETATTR && !strncmp(name, "size", 4));
}

static void hanging_take(void)
{
	static char request[HANGING_REQUEST];
	const struct fuse_in_header *header = (const struct fuse_in_header *)request;
	ssize_t length = read(hanging_server.fuse, request, sizeof(request) - 1);
	unsigned held = hanging.shared->held;

	if (length < 0 && (errno == ENOENT || errno == EINTR || errno == EAGAIN))
		return;
	if (length < (ssize_t)sizeof(*header))
		_exit(0);		/* unmounted */
	request[length] = '\0';
	if (!hanging_holds(header, request + sizeof(*header)) || held == HANGING_HELD) {
		hanging_answer(header, request + sizeof(*header));
		return;
	}
	hanging_server.held[held] = malloc((size_t)length + 1);
	if (!hanging_server.held[held])
		_exit(1);
	memcpy(hanging_server.held[held], request, (size_t)length + 1);
	hanging.shared->held++;
}

static void hanging_look(void)
{
	char byte;

	if (read(hanging.control[0], &byte, 1) != 1)
		_exit(0);		/* the test has ended */
	for (unsigned i = 0; !hanging.shared->hangs && i < hanging.shared->held; i++) {
		hanging_answer((const struct fuse_in_header *)hanging_server.held[i],
			       hanging_server.held[i] + sizeof(struct fuse_in_header));
		free(hanging_server.held[i]);
	}
	if (!hanging.shared->hangs)
		hanging.shared->held = 0;
}

static void __attribute__((noreturn)) hanging_serve(int ready)
{
	struct pollfd fds[2] = { { .events = POLLIN }, { .fd = hanging.control[0], .events = POLLIN } };
	char options[100];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close(hanging.control[1]);
	hanging_server.fuse = fds[0].fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fds[0].fd);
	if (fds[0].fd < 0 || mount("hanging", hanging.path, "fuse", MS_NOSUID | MS_NODEV, options) || write(ready, "", 1) != 1)
		_exit(1);
	close(ready);
	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			_exit(1);
		if (fds[1].revents)
			hanging_look();
		if (fds[0].revents)
			hanging_take();
	}
}

/* ---- the test ---- */

static void hanging_stop(void)
{
	if (hanging.server <= 0)
		return;
	kill(hanging.server, SIGKILL);		/* this fails all waiting requests */
	waitpid(hanging.server, NULL, 0);
	hanging.server = 0;
	close(hanging.control[1]);
	umount2(hanging.path, MNT_DETACH);
	rmdir(hanging.path);
	munmap(hanging.shared, sizeof(*hanging.shared));
}

/* Make the directory @path and mount on it. False: FUSE is not available. */
static bool hanging_start(const char *path)
{
	static bool registered;
	int ready[2];
	char byte;
	bool there;

	hanging_stop();		/* left by a test that failed */
	if (geteuid() || access("/dev/fuse", R_OK | W_OK))
		return false;
	snprintf(hanging.path, sizeof(hanging.path), "%s", path);
	hanging.shared = mmap(NULL, sizeof(*hanging.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (hanging.shared == MAP_FAILED || pipe2(ready, O_CLOEXEC) || pipe2(hanging.control, O_CLOEXEC) || mkdir(path, 0755))
		return false;
	fflush(NULL);
	hanging.server = fork();
	if (!hanging.server) {
		close(ready[0]);
		hanging_serve(ready[1]);
	}
	close(ready[1]);
	close(hanging.control[0]);
	there = hanging.server > 0 && read(ready[0], &byte, 1) == 1;
	close(ready[0]);
	if (!there)
		hanging_stop();
	else if (!registered)
		registered = !atexit(hanging_stop);	/* also after a test that failed */
	return there;
}

/* Stop answering; or answer again, held requests included. */
static inline void hanging_set(bool hangs)
{
	if (!hangs)
		hanging.shared->left = hanging.shared->syncs = 0;
	hanging.shared->hangs = hangs;
	if (write(hanging.control[1], "", 1) != 1)
		abort();
}

/* Stop answering, after @requests on stores. */
static inline void hanging_set_after(unsigned requests)
{
	hanging.shared->left = (int)requests;
	hanging_set(true);
}

/* The same after @syncs syncs of stores, whatever else is written until then. */
static inline void hanging_set_after_syncs(unsigned syncs)
{
	hanging.shared->syncs = (int)syncs;
	hanging_set_after(0);
}

static inline bool hanging_eventually(bool (*is_so)(unsigned number), unsigned number)
{
	for (unsigned i = 0; i < 2000 && !is_so(number); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	return is_so(number);
}

static inline bool hanging_has_held(unsigned number)
{
	return hanging.shared->held >= number;
}

static inline bool hanging_has_open(unsigned number)
{
	return hanging.shared->open == (int)number;
}

/* Wait until @number requests are held; until @number of its files are open. False after 10 seconds. */
#define hanging_wait_held(number) hanging_eventually(hanging_has_held, number)
#define hanging_wait_open(number) hanging_eventually(hanging_has_open, number)

#endif
