/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_overlay.c - the overlay record of a raw image: opening an image whose
 * record is valid, damaged, or stale; and the move onto a store, killed at
 * each of its system calls. Either the image is the disk and has no record, or
 * all data is in the store; the disk reads the same, and an image that has a
 * record is not written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/ptrace.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "device.h"
#include "engine_run.h"
#include "overlay.h"
#include "protocol.h"
#include "scratch.h"

#define SECTORS 8192u

static const char *image, *store, *record;
static struct engine *engine;

static void pattern(uint8_t *data, uint64_t sector)
{
	memset(data, (int)(sector * 7 + 1), SECTOR_SIZE);
}

static void make_image(const char *path)
{
	uint8_t data[SECTOR_SIZE];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned i;

	assert_true(fd >= 0);
	for (i = 0; i < SECTORS; i += 97) {
		pattern(data, i);
		assert_int_equal(pwrite(fd, data, sizeof(data), (off_t)i * SECTOR_SIZE), sizeof(data));
	}
	close(fd);
}

/* As tap-ctl creates it while the image is in use. */
static void make_store(const char *path, const char *base)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS, .base_kind = COW_BASE_RAW };
	struct cow_base_fields fields;
	struct error_text error = { "" };
	struct cow_device *device;

	options.base = &fields;
	if (cow_base_describe_running(&fields, base, SECTORS, &error) || cow_file_create(&device, path, &error) ||
	    cow_create(device, &options, &error))
		fail_msg("%s", error.text);
	cow_file_close(device);
}

static int take_over(const char *base, struct error_text *error)
{
	struct overlay_install what = { .path = base, .store = store, .name = "first", .description = "of the raw disk" };

	return overlay_install(&what, error);
}

static int setup(void **state)
{
	image = scratch_file("disk.img", SECTORS * SECTOR_SIZE);
	store = scratch_path("disk.cow");
	record = scratch_path("disk.img" OVERLAY_SUFFIX);
	unlink(record);
	unlink(store);
	make_image(image);
	return engine_open(&engine, "sync", 16);
}

static int teardown(void **state)
{
	engine_close(engine);
	return 0;
}

static struct backend *open_target(const char *target, bool read_only)
{
	struct driver_options options = { .read_only = read_only, .no_direct = true };
	struct error_text error = { "" };
	struct backend *backend;

	if (backend_open(&backend, engine, target, &options, &error))
		fail_msg("%s", error.text);
	return backend;
}

static struct backend *open_image(bool read_only)
{
	char target[PATH_MAX + 8];

	snprintf(target, sizeof(target), "aio:%s", image);
	return open_target(target, read_only);
}

/* An error of one line that names the image or its record; its text goes to *@text. */
static void cannot_open(int error, const char *what)
{
	struct driver_options options = { .no_direct = true };
	struct error_text text = { "" };
	struct backend *backend;
	char target[PATH_MAX + 8];

	snprintf(target, sizeof(target), "aio:%s", image);
	assert_int_equal(backend_open(&backend, engine, target, &options, &text), error);
	if (!strstr(text.text, "disk.img") || strchr(text.text, '\n') || !strstr(text.text, what))
		fail_msg("\"%s\" does not say \"%s\"", text.text, what);
}

static void note_done(struct block_request *req, int error)
{
	*(int *)req->owner = error;
}

static void transfer(struct backend *backend, enum block_op op, uint64_t sector, uint8_t *data)
{
	struct iovec iov = { data, SECTOR_SIZE };
	int error = 1;
	struct block_request req = { .op = op, .sector = sector, .nr_sectors = 1, .iov = &iov, .iovcnt = 1, .done = note_done,
		.owner = &error };

	backend_submit(backend, &req);
	engine_run(engine);
	assert_int_equal(error, 0);
}

static void reads_right(struct backend *backend)
{
	static uint8_t data[SECTOR_SIZE] __attribute__((aligned(4096)));
	uint8_t expected[SECTOR_SIZE];
	unsigned i;

	for (i = 0; i < SECTORS; i += 97) {
		pattern(expected, i);
		transfer(backend, BLOCK_READ, i, data);
		assert_memory_equal(data, expected, sizeof(data));
	}
}

static int count_snapshot(void *owner, const struct snapshot_info *info)
{
	assert_string_equal(info->name, "first");
	++*(unsigned *)owner;
	return 0;
}

static void must_take_over(void)
{
	struct error_text error = { "" };

	make_store(store, image);
	if (take_over(image, &error))
		fail_msg("%s", error.text);
}

static void test_followed(void **state)
{
	static uint8_t data[SECTOR_SIZE] __attribute__((aligned(4096)));
	uint8_t before[SECTOR_SIZE];
	struct backend *backend;
	unsigned snapshots = 0;
	int fd;

	must_take_over();
	backend = open_image(false);
	assert_string_equal(backend->overlay, store);
	assert_ptr_equal(backend->ops, &driver_cow);
	reads_right(backend);
	backend_snapshot_list(backend, count_snapshot, &snapshots);
	assert_int_equal(snapshots, 1);
	memset(data, 0xaa, sizeof(data));
	transfer(backend, BLOCK_WRITE, 97, data);
	backend_close(backend);
	/* the image is unchanged */
	pattern(before, 97);
	fd = open(image, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, data, sizeof(data), 97 * SECTOR_SIZE), sizeof(data));
	close(fd);
	assert_memory_equal(data, before, sizeof(data));
	backend = open_image(true);
	transfer(backend, BLOCK_READ, 97, data);
	assert_int_equal(data[0], 0xaa);
	backend_close(backend);
}

/* Through another name, a symbolic link. */
static void test_symbolic_link(void **state)
{
	const char *link = scratch_path("link.img");
	char target[PATH_MAX + 8];
	struct backend *backend;

	must_take_over();
	unlink(link);
	assert_int_equal(symlink("disk.img", link), 0);
	snprintf(target, sizeof(target), "aio:%s", link);
	backend = open_target(target, false);
	assert_non_null(backend->overlay);
	backend_close(backend);
}

static size_t read_record(char *text, size_t size)
{
	int fd = open(record, O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, size);

	close(fd);
	assert_true(length > 0);
	return length;
}

static void write_record(const char *text, size_t length)
{
	int fd = open(record, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, length), length);
	close(fd);
}

/*
 * Each byte of the record is changed, and the record is cut at each length. The line with the image's
 * name is only for people.
 */
static void test_damaged(void **state)
{
	char text[PATH_MAX], damaged[PATH_MAX];
	struct overlay overlay;
	size_t length, i;
	const char *base, *end;

	must_take_over();
	length = read_record(text, sizeof(text) - 1);
	text[length] = '\0';
	base = strstr(text, "base ") + 5;
	end = strchr(base, '\n');
	for (i = 0; i < length; i++) {
		struct error_text error = { "" };

		memcpy(damaged, text, length);
		damaged[i] ^= 1;
		write_record(damaged, length);
		if (overlay_find(image, &overlay, &error) >= 0 && !(text + i >= base && text + i < end))
			fail_msg("byte %zu of the record was changed, and nothing is said", i);
		write_record(text, i);
		error.text[0] = '\0';
		assert_true(overlay_find(image, &overlay, &error) < 0);
		assert_non_null(strstr(error.text, "disk.img"));
	}
	write_record(text, length);
	assert_int_equal(overlay_find(image, &overlay, NULL), 1);
}

static void test_what_does_not_fit(void **state)
{
	const char *away = scratch_path("away");

	must_take_over();
	rename(store, away);
	cannot_open(-ENOENT, store);
	make_store(store, image);
	cannot_open(-ESTALE, "does not match the store");
	unlink(store);
	rename(away, store);
	/* another image in its place */
	rename(image, away);
	scratch_file("disk.img", SECTORS * SECTOR_SIZE);
	cannot_open(-ESTALE, "written, resized or replaced");
	rename(away, image);
	backend_close(open_image(false));
	/* written since */
	make_image(image);
	cannot_open(-ESTALE, "written, resized or replaced");
}

/* Everything is in the image: an open for writing removes the record. */
static void test_left_over(void **state)
{
	struct error_text error = { "" };
	struct cow_open_options options = { 0 };
	struct cow_device *device;
	struct cow_base_fields fields;
	enum cow_base_kind kind;
	struct cow_store *open_store;
	struct backend *backend;

	must_take_over();
	if (cow_file_open(&device, store, false, &error) || cow_probe(device, &kind, &fields, &error) ||
	    cow_base_open(&options.base, kind, &fields, NULL, &error) || cow_open(&open_store, device, &options, &error))
		fail_msg("%s", error.text);
	assert_int_equal(cow_commit_mark(open_store, COW_BASE_COMMITTED), 0);
	assert_int_equal(cow_close(open_store), 0);
	cow_base_close(&options.base);
	cow_file_close(device);
	backend = open_image(true);
	assert_null(backend->overlay);
	backend_close(backend);
	assert_int_equal(access(record, F_OK), 0);
	backend = open_image(false);
	assert_null(backend->overlay);
	reads_right(backend);
	backend_close(backend);
	assert_int_equal(access(record, F_OK), -1);
	assert_int_equal(cow_file_open(&device, store, true, &error), 0);
	assert_int_equal(cow_probe(device, &kind, &fields, &error), -ESTALE);
	cow_file_close(device);
}

static void test_refused(void **state)
{
	struct error_text error = { "" };
	struct overlay overlay;
	const char *second = scratch_path("second.img");

	assert_int_equal(overlay_find(image, &overlay, NULL), 0);
	assert_int_equal(overlay_check(image, NULL), 0);
	assert_int_equal(link(image, second), 0);
	assert_int_equal(overlay_check(image, &error), -EMLINK);
	unlink(second);
	/* a store that has taken over another disk before */
	must_take_over();
	overlay_remove(image, NULL);
	assert_int_equal(take_over(image, &error), -EINVAL);
	assert_int_equal(overlay_find(image, &overlay, NULL), 0);
}

/* Can the store @path be opened by its own name, by a tapdisk and a tool, although its base is a block device? */
static void may_have_device(const char *path, bool may)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	struct cow_base_fields fields;
	struct cow_device *device;
	struct backend *backend;
	enum cow_base_kind kind;
	struct cow_base base;
	char target[PATH_MAX + 8];
	int ret;

	snprintf(target, sizeof(target), "cow:%s", path);
	if (may) {
		backend = open_target(target, false);
		reads_right(backend);
		backend_close(backend);
	} else {
		assert_int_equal(backend_open(&backend, engine, target, &options, &error), -EPERM);
		assert_non_null(strstr(error.text, path));
	}
	assert_int_equal(cow_file_open(&device, path, true, &error), 0);
	assert_int_equal(cow_probe(device, &kind, &fields, &error), 0);
	ret = cow_base_open(&base, kind, &fields, device, &error);
	assert_int_equal(ret, may ? 0 : -EPERM);
	if (!ret)
		cow_base_close(&base);
	ret = cow_base_open_writable(&base, &fields, device, &error);
	assert_int_equal(ret, may ? 0 : -EPERM);
	if (!ret)
		cow_base_close(&base);
	cow_file_close(device);
}

/* A device has its record in the state directory, under its persistent name. */
static void test_device(void **state)
{
	const char *loop = scratch_loop(image, 512), *sysfs = device_sysfs, *fake = scratch_path("sys");
	struct error_text error = { "" };
	char command[PATH_MAX * 3], path[PATH_MAX];
	struct backend *backend;
	struct stat st;

	if (!loop) {
		print_message("no loop device to be had here\n");
		skip();
	}
	assert_int_equal(overlay_check(loop, &error), -ENOTSUP);
	assert_int_equal(stat(loop, &st), 0);
	snprintf(path, sizeof(path), "%s/dev/block/%u:%u", fake, major(st.st_rdev), minor(st.st_rdev));
	snprintf(command, sizeof(command), "mkdir -p %s && echo 'naa.6 00/1' >%s/wwid", path, path);
	assert_int_equal(system(command), 0);
	device_sysfs = fake;
	make_store(store, loop);
	if (take_over(loop, &error))
		fail_msg("%s", error.text);
	snprintf(path, sizeof(path), "%s/overlays/naa.6_00_1", getenv(STATE_DIR_ENV));
	assert_int_equal(access(path, F_OK), 0);
	snprintf(path, sizeof(path), "aio:%s", loop);
	backend = open_target(path, false);
	assert_string_equal(backend->overlay, store);
	reads_right(backend);
	backend_close(backend);
	may_have_device(store, true);
	/* the record is about this store: one with the same uuid, on the same device, is not meant */
	snprintf(command, sizeof(command), "cp %s %s.copy", store, store);
	assert_int_equal(system(command), 0);
	snprintf(command, sizeof(command), "%s.copy", store);
	may_have_device(command, false);
	assert_int_equal(overlay_remove(loop, &error), 0);
	may_have_device(store, false);
	backend = open_target(path, true);
	assert_null(backend->overlay);
	backend_close(backend);
	device_sysfs = sysfs;
	scratch_loop_remove(loop);
}

/* The operations on names and the syncs: 'u', 'r' and 's'; 'S': a failed sync. */
static char events[64];
static unsigned nr_syncs, fail_sync;	/* the Nth from here fails; 0: none */

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_unlink(const char *name);
int __wrap_unlink(const char *name);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

static void note(char event)
{
	size_t length = strlen(events);

	if (length < sizeof(events) - 1)
		events[length] = event;
}

int __wrap_fsync(int fd)
{
	bool fails = ++nr_syncs == fail_sync;

	note(fails ? 'S' : 's');
	errno = EIO;
	return fails ? -1 : __real_fsync(fd);
}

int __wrap_unlink(const char *name)
{
	note('u');
	return __real_unlink(name);
}

int __wrap_rename(const char *from, const char *to)
{
	note('r');
	return __real_rename(from, to);
}

/* A record that may not be durable is removed, and does not come back: from then on the image is written. */
static void test_record_that_may_not_last(void **state)
{
	struct overlay overlay = { .uuid = { 1 } };
	struct error_text error = { "" };
	int ret = -EIO;

	snprintf(overlay.base, sizeof(overlay.base), "%s", image);
	snprintf(overlay.store, sizeof(overlay.store), "%s", store);
	for (unsigned nth = 1; ret; nth++) {
		memset(events, 0, sizeof(events));
		nr_syncs = 0;
		fail_sync = nth;
		ret = overlay_write(&overlay, &error);
		fail_sync = 0;
		if (!ret) {
			assert_string_equal(events, "usrs");
			break;
		}
		assert_int_equal(ret, -EIO);
		assert_int_equal(access(record, F_OK), -1);
		assert_string_equal(events, nth == 1 ? "uSu" : "usrSus");
	}
}

/* In a process that is killed at the begin or end of the @nth system call. False: it had ended before that. */
static bool killed_at(unsigned nth)
{
	unsigned stops = 0;
	pid_t child;
	int status;

	child = fork();
	assert_true(child >= 0);
	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(take_over(image, NULL) ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	while (WIFSTOPPED(status) && stops++ < nth) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, child, NULL, NULL), 0);
		assert_int_equal(waitpid(child, &status, 0), child);
	}
	if (!WIFSTOPPED(status)) {
		assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
		return false;
	}
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	return true;
}

static void test_killed_at_every_call(void **state)
{
	unsigned nth, raw = 0, stored = 0;
	bool killed = true;

	for (nth = 1; killed; nth++) {
		struct backend *backend;
		struct overlay overlay;

		unlink(store);
		make_store(store, image);
		killed = killed_at(nth);
		backend = open_image(false);
		*(backend->overlay ? &stored : &raw) += 1;
		assert_int_equal(backend->overlay != NULL, overlay_find(image, &overlay, NULL));
		reads_right(backend);
		backend_close(backend);
		assert_int_equal(overlay_remove(image, NULL), 0);
	}
	print_message("# killed at %u points: %u times the image, %u times the store\n", nth - 2, raw, stored);
	assert_true(raw > 10 && stored > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_symbolic_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_does_not_fit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_left_over, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_device, setup, teardown),
		cmocka_unit_test_setup_teardown(test_record_that_may_not_last, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_at_every_call, setup, teardown),
	};

	scratch_init();
	setenv(STATE_DIR_ENV, scratch_path("state"), 1);
	return cmocka_run_group_tests_name("overlay records", tests, NULL, NULL);
}
