/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_process.h - a disk and its NBD server in a process of their own.
 *
 * The child runs the real server over a real disk (a temporary file, or
 * null) and takes one-letter commands on a socket pair: pause, resume, end,
 * hold a sync or a write, release it, observe writes and syncs, and publish
 * snapshot s2.
 *
 * TAPSNAP_TEST_ENGINE=libaio runs everything on that engine.
 */
#ifndef TEST_NBD_PROCESS_H
#define TEST_NBD_PROCESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cow.h"
#include "engine.h"
#include "fixture.h"
#include "nbd.h"
#include "protocol.h"

#define DISK_BYTES	(64u << 20)

static char run_dir[64], image[80], socket_path[108], published_path[80];
static pid_t child;		/* 0: none */
static int control = -1;	/* commands to it, answers from it */

/* The server's side. */

static bool slow_zeroes;	/* of the next server: its disk has to write zeros, */
static bool page_cache;		/* or is read and written through the page cache */

struct server_process {
	struct loop *loop;
	struct engine *engine;
	struct vbd *vbd;
	int control;
};

/* The engine's own operations, but queue() may hold one sync or write. */
static enum engine_op process_holds;
static struct engine_ops process_ops;
static const struct engine_ops *process_engine_ops;
static struct engine_io *process_held;

static inline void process_queue(struct engine *engine, struct engine_io *io)
{
	if (io->op == process_holds && !process_held)
		process_held = io;
	else
		process_engine_ops->queue(engine, io);
}

static inline void process_hold(struct engine *engine, enum engine_op op)
{
	process_holds = op;
	process_engine_ops = engine->ops;
	process_ops = *engine->ops;
	process_ops.queue = process_queue;
	engine->ops = &process_ops;
}

/* In memory shared with the test. A sync covers the writes that had completed when it was queued (engine.h). */
struct observed {
	unsigned written;	/* completed writes */
	unsigned durable;	/* of these, the first so many are covered by a completed sync */
};
static struct observed *observed;

/* The operations in flight; each with its own done(), and what it will cover. */
static struct observed_io {
	struct engine_io *io;
	void (*done)(struct engine_io *io, int error);
	unsigned covers;
} observed_ios[64];

static inline struct observed_io *observed_find(const struct engine_io *io)
{
	for (unsigned i = 0; i < sizeof(observed_ios) / sizeof(observed_ios[0]); i++)
		if (observed_ios[i].io == io)
			return &observed_ios[i];
	_exit(6);
}

static inline void observed_done(struct engine_io *io, int error)
{
	struct observed_io *one = observed_find(io);

	if (!error && io->op == ENGINE_SYNC && one->covers > observed->durable)
		observed->durable = one->covers;
	observed->written += !error && io->op == ENGINE_WRITE;
	one->io = NULL;
	io->done = one->done;
	io->done(io, error);
}

static inline void observed_queue(struct engine *engine, struct engine_io *io)
{
	if (io->op == ENGINE_SYNC || io->op == ENGINE_WRITE) {
		*observed_find(NULL) = (struct observed_io){ io, io->done, observed->written };
		io->done = observed_done;
	}
	process_engine_ops->queue(engine, io);
}

static inline void process_observe(struct engine *engine)
{
	*observed = (struct observed){ 0 };
	process_engine_ops = engine->ops;
	process_ops = *engine->ops;
	process_ops.queue = observed_queue;
	engine->ops = &process_ops;
}

static inline void process_release(struct engine *engine)
{
	engine->ops = process_engine_ops;
	if (process_held)
		engine->ops->queue(engine, process_held);
	process_held = NULL;
}

/* Publish s2 on the socket published_path. */
static inline int process_publish(struct vbd *vbd, struct error_text *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct nbd_publication publication = { .address = "test", .snapshot = "s2", .overlay = -1 };
	unsigned id;

	publication.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(published_path);		/* of a test that failed */
	strcpy(address.sun_path, published_path);
	if (publication.listener < 0 || bind(publication.listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(publication.listener, 4))
		return -errno;
	publication.path = published_path;
	return nbd_publish(vbd, &publication, &id, text);
}

static inline void process_reply(void *arg, int error)
{
	struct server_process *process = arg;
	char answer = error ? 'e' : 'k';

	if (write(process->control, &answer, 1) != 1)
		_exit(3);
}

static inline void process_quit(void *arg, int error)
{
	struct server_process *process = arg;

	process_reply(arg, error);
	loop_quit(process->loop);
}

static inline void process_command(void *arg, uint32_t events)
{
	struct server_process *process = arg;
	struct error_text text = { "" };
	char command;
	int error = 0;

	if (read(process->control, &command, 1) != 1)
		_exit(4);
	switch (command) {
	case 'p':
		error = vbd_pause(process->vbd, false, process_reply, process, &text);
		break;
	case 'u':
		process_reply(process, vbd_unpause(process->vbd, NULL, &text));
		break;
	case 'h':
		process_hold(process->engine, ENGINE_SYNC);
		process_reply(process, 0);
		break;
	case 'w':
		process_hold(process->engine, ENGINE_WRITE);
		process_reply(process, 0);
		break;
	case 'o':
		process_observe(process->engine);
		process_reply(process, 0);
		break;
	case 'r':
		process_release(process->engine);
		process_reply(process, 0);
		break;
	case 'x':
		process_reply(process, process_publish(process->vbd, &text));
		break;
	case 'q':
		error = vbd_close(process->vbd, true, process_quit, process, &text);
		break;
	}
	if (error) {
		fprintf(stderr, "# command %c: %s\n", command, text.text);
		_exit(5);
	}
}

static inline void engine_ready(void *arg, uint32_t events)
{
	engine_reap(arg);
}

static inline bool engine_prepare(void *arg)
{
	struct engine *engine = arg;

	engine_commit(engine);
	return engine_reap(engine) > 0;
}

static inline int server_main(int control_fd, const char *target, bool read_only, unsigned sector_size)
{
	struct server_process process = { .control = control_fd };
	struct driver_options options = { .read_only = read_only, .no_direct = page_cache, .sector_size = sector_size };
	struct loop_source *control_source, *engine_source, *commit_source;
	struct error_text text = { "" };

	mallopt(M_PERTURB, 0xa5);	/* makes use after free visible, also without a sanitizer */
	/* as in main.c: the engine's hook first, so that it runs after the disk's */
	if (loop_create(&process.loop) || engine_open(&process.engine, getenv("TAPSNAP_TEST_ENGINE"), 256) ||
	    loop_add_prepare(process.loop, &commit_source, engine_prepare, process.engine) ||
	    vbd_create(&process.vbd, process.loop, process.engine, 7))
		return 1;
	if (loop_add_fd(process.loop, &engine_source, engine_fd(process.engine), EPOLLIN, engine_ready, process.engine) ||
	    loop_add_fd(process.loop, &control_source, control_fd, EPOLLIN, process_command, &process))
		return 1;
	if (vbd_open(process.vbd, target, &options, &text)) {
		fprintf(stderr, "# open %s: %s\n", target, text.text);
		return 2;
	}
	if (slow_zeroes)
		process.vbd->geometry.fast_zeroes = false;
	process_reply(&process, 0);
	if (loop_run(process.loop))
		return 1;
	vbd_destroy(process.vbd);
	loop_remove(control_source);
	loop_remove(engine_source);
	loop_remove(commit_source);
	engine_close(process.engine);
	loop_destroy(process.loop);
	return 0;
}

/* The test's side. */

static inline char server_command(char command)
{
	struct pollfd ready = { .fd = control, .events = POLLIN };
	char answer = 0;

	if (command)
		assert_int_equal(write(control, &command, 1), 1);
	assert_int_equal(poll(&ready, 1, TIMEOUT_MS), 1);
	assert_int_equal(read(control, &answer, 1), 1);
	return answer;
}

/* A failed test must not leave a process that holds the image. */
static inline void kill_server(void)
{
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
}

static inline void server_start(const char *target, bool read_only, unsigned sector_size)
{
	int pair[2];

	kill_server();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		exit(server_main(pair[1], target, read_only, sector_size));
	}
	close(pair[1]);
	control = pair[0];
	assert_int_equal(server_command(0), 'k');
	snprintf(socket_path, sizeof(socket_path), NBD_SOCKET_FORMAT, run_dir, (int)child, 7);
}

static inline void server_end(void)
{
	int status;

	assert_int_equal(server_command('q'), 'k');
	assert_int_equal(waitpid(child, &status, 0), child);
	child = 0;
	close(control);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(access(socket_path, F_OK), -1);
}

static inline int start_file(void **state)
{
	char target[100];
	int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	snprintf(target, sizeof(target), "aio:%s", image);
	server_start(target, false, 0);
	return 0;
}

static inline int start_slow_zeroes(void **state)
{
	int ret;

	slow_zeroes = true;
	ret = start_file(state);
	slow_zeroes = false;
	return ret;
}

static inline int start_cached(void **state)
{
	int ret;

	page_cache = true;
	ret = start_file(state);
	page_cache = false;
	return ret;
}

#define STORE_SNAPSHOTS 10

/*
 * Make a store of DISK_BYTES with snapshots s0 to s9. Before snapshot sN, MiB N
 * is filled with N + 1; after the last one, MiB 20 with 99.
 */
static inline void make_store(void)
{
	const struct cow_create_options create = { .sectors = DISK_BYTES / 512 };
	const struct cow_open_options options = { 0 };
	uint8_t *mib = malloc(1 << 20);
	struct error_text text = { "" };
	struct cow_device *device;
	struct cow_store *store;
	char name[8];

	unlink(image);
	assert_int_equal(cow_file_create(&device, image, &text), 0);
	assert_int_equal(cow_create(device, &create, &text), 0);
	assert_int_equal(cow_open(&store, device, &options, &text), 0);
	for (unsigned i = 0; i < STORE_SNAPSHOTS; i++) {
		memset(mib, i + 1, 1 << 20);
		assert_int_equal(cow_write(store, mib, i * 2048, 2048), 0);
		snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(cow_snapshot_create(store, name, NULL, &text), 0);
	}
	memset(mib, 99, 1 << 20);
	assert_int_equal(cow_write(store, mib, 20 * 2048, 2048), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
	free(mib);
}

static inline int start_store(void **state)
{
	char target[100];

	make_store();
	snprintf(target, sizeof(target), "cow:%s", image);
	server_start(target, false, 0);
	return 0;
}

static inline int start_null(void **state)
{
	server_start("null:67108864", false, 0);
	return 0;
}

static inline int start_read_only(void **state)
{
	server_start("null:67108864", true, 0);
	return 0;
}

static inline int start_4096(void **state)
{
	server_start("null:67108864", false, 4096);
	return 0;
}

static inline int end(void **state)
{
	server_end();
	return 0;
}

/* For cmocka_run_group_tests(). */
static inline int make_directory(void **state)
{
	strcpy(run_dir, "/var/tmp/tapsnap-nbd-XXXXXX");
	assert_non_null(mkdtemp(run_dir));
	assert_int_equal(setenv(RUN_DIR_ENV, run_dir, 1), 0);
	snprintf(image, sizeof(image), "%s/image", run_dir);
	snprintf(published_path, sizeof(published_path), "%s/published", run_dir);
	observed = mmap(NULL, sizeof(*observed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return observed == MAP_FAILED;
}

static inline int remove_directory(void **state)
{
	char command[80];

	kill_server();
	/* servers that were killed, because their test failed, leave their sockets */
	snprintf(command, sizeof(command), "rm -rf %s", run_dir);
	return system(command);
}

#define ON_FILE(test) cmocka_unit_test_setup_teardown(test, start_file, end)
#define ON_STORE(test) cmocka_unit_test_setup_teardown(test, start_store, end)
#define ON_NULL(test) cmocka_unit_test_setup_teardown(test, start_null, end)

#endif
