/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_file.c - a store in a file, as the tools use it: the Nth read or
 * write is short, is interrupted, or fails, for every N; a sync fails; and the amount that a
 * deletion reads depends on what it frees, not on the store's size. A new one is
 * made by a process that is killed at its Nth call.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "cow_internal.h"
#include "path.h"
#include "scratch.h"

static char path[PATH_MAX];

/* How the Nth pread() or pwrite() fails. */
enum fault { SHORT, INTERRUPTED, NOTHING, FAILS_EIO, FAILS_ENOSPC };

static struct {
	enum fault fault;
	unsigned nth, calls;		/* nth 0: none fails */
	bool all;			/* and all later ones */
	bool came;
	unsigned blocks_read;
	unsigned syncs, bad_sync;	/* bad_sync: the one that finds no room, from 1 */
} io;

/* What the file system can do for a new file. */
static enum making { NAMELESS, RENAMES, LINKS, RESERVES } making;

static unsigned steps, kill_at;		/* calls that change something; kill_at: none 0 */
static unsigned syncs, sync_fails;	/* calls of fsync(); sync_fails: none 0 */
static bool was_unlocked;		/* a file had its name before its locks */

static void step(void)
{
	if (++steps == kill_at)
		raise(SIGKILL);
}

static ssize_t faulty(ssize_t (*move)(int fd, void *data, size_t length, off_t offset), int fd, void *data, size_t length,
		      off_t offset)
{
	static const int errors[] = { [INTERRUPTED] = EINTR, [FAILS_EIO] = EIO, [FAILS_ENOSPC] = ENOSPC };

	io.calls++;
	if (!io.nth || (io.all ? io.calls < io.nth : io.calls != io.nth))
		return move(fd, data, length, offset);
	io.came = true;
	if (io.fault == SHORT)	/* no whole sectors either */
		return move(fd, data, length > 1000 ? 1000 : (length + 1) / 2, offset);
	if (io.fault == NOTHING)
		return 0;
	errno = errors[io.fault];
	return -1;
}

ssize_t __real_pread(int fd, void *data, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *data, size_t length, off_t offset);
ssize_t __real_pwrite(int fd, const void *data, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset);

static ssize_t real_pwrite(int fd, void *data, size_t length, off_t offset)
{
	return __real_pwrite(fd, data, length, offset);
}

ssize_t __wrap_pread(int fd, void *data, size_t length, off_t offset)
{
	io.blocks_read += (unsigned)(length / COW_BLOCK);
	return faulty(__real_pread, fd, data, length, offset);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset)
{
	step();
	return faulty(real_pwrite, fd, (void *)data, length, offset);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
	step();
	if (++io.syncs != io.bad_sync)
		return __real_fdatasync(fd);
	errno = ENOSPC;
	return -1;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_unlink(const char *name);
int __wrap_unlink(const char *name);
int __real_path_open(const char *name, int flags, mode_t mode);
int __wrap_path_open(const char *name, int flags, mode_t mode);

int __wrap_fsync(int fd)
{
	step();
	if (++syncs != sync_fails)
		return __real_fsync(fd);
	errno = EIO;
	return -1;
}

/* Both kinds of locks are held: ours, and byte 101 of QEMU's, which says that the file is written. */
static int look_at_locks(const char *name, int ret)
{
	struct flock write = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1 };
	int fd = ret ? -1 : open(name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return ret;
	was_unlocked |= !flock(fd, LOCK_SH | LOCK_NB) || fcntl(fd, F_OFD_GETLK, &write) || write.l_type == F_UNLCK;
	close(fd);
	return ret;
}

int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	step();
	if (making == RESERVES) {
		errno = EPERM;
		return -1;
	}
	return look_at_locks(to, __real_linkat(from_fd, from, to_fd, to, flags));
}

int __wrap_rename(const char *from, const char *to)
{
	step();
	return look_at_locks(to, __real_rename(from, to));
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	step();
	if (making < LINKS)
		return look_at_locks(to, __real_renameat2(from_fd, from, to_fd, to, flags));
	errno = EINVAL;
	return -1;
}

int __wrap_unlink(const char *name)
{
	step();
	return __real_unlink(name);
}

int __wrap_path_open(const char *name, int flags, mode_t mode)
{
	if ((flags & O_TMPFILE) != O_TMPFILE || making == NAMELESS)
		return __real_path_open(name, flags, mode);
	errno = EOPNOTSUPP;
	return -1;
}

#define BLOCKS 40u
#define ROUND_BLOCKS(round) (BLOCKS >> (round))	/* the part that a round writes: all, half, a quarter */
#define ROUNDS 3u

/* The progress: rounds that have begun, and that are durable. */
static unsigned begun, safe;

static int write_round(struct cow_store *store, unsigned round)
{
	static uint8_t data[BLOCKS * COW_BLOCK];
	struct error_text error;
	int ret;

	memset(data, 'a' + (int)round, sizeof(data));
	begun = round + 1;
	ret = cow_write(store, data, 0, ROUND_BLOCKS(round) * COW_SECTORS);
	if (!ret)
		ret = cow_flush(store);
	if (!ret)
		safe = round + 1;
	if (!ret && round == 0)
		ret = cow_snapshot_create(store, "s", NULL, &error);
	if (!ret && round == 1)
		ret = cow_snapshot_delete(store, "s", &error);
	if (!ret && round == 1)
		ret = cow_delete_step(store);
	return ret < 0 ? ret : 0;
}

static int use(struct cow_device *device)
{
	struct error_text error;
	struct cow_store *store;
	uint8_t block[COW_BLOCK];
	unsigned round;
	int ret = 0;

	for (round = 0; !ret && round < ROUNDS; round++) {
		ret = cow_open(&store, device, &(struct cow_open_options){ 0 }, &error);
		if (ret)
			return ret;
		ret = write_round(store, round);
		if (!ret)
			ret = cow_read(store, block, (BLOCKS - 1) * COW_SECTORS, COW_SECTORS);
		if (ret)
			cow_abandon(store);
		else
			ret = cow_close(store);
	}
	return ret;
}

static void expect_block(const uint8_t *data, unsigned block, unsigned nth)
{
	unsigned round, oldest = 0, newest = 0;		/* 0: zeros; else the round, from 1 */

	for (round = 0; round < begun && block < ROUND_BLOCKS(round); round++) {
		newest = round + 1;
		if (round < safe)
			oldest = round + 1;
	}
	round = data[0] ? data[0] - 'a' + 1u : 0;
	if (round < oldest || round > newest || memcmp(data, data + 1, COW_BLOCK - 1))
		fail_msg("fault %u, call %u: block %u is of round %u, not of %u to %u", io.fault, nth, block, round, oldest, newest);
}

/* Without faults; checks all of it. */
static void look(struct cow_device *device, unsigned nth)
{
	static uint8_t data[BLOCKS * COW_BLOCK];
	struct error_text error = { "" };
	struct cow_check check = { 0 };
	struct cow_store *store;
	unsigned block;

	if (cow_open(&store, device, &(struct cow_open_options){ 0 }, &error))
		fail_msg("fault %u, call %u: %s", io.fault, nth, error.text);
	assert_int_equal(cow_read(store, data, 0, BLOCKS * COW_SECTORS), 0);
	for (block = 0; block < BLOCKS; block++)
		expect_block(data + block * COW_BLOCK, block, nth);
	assert_int_equal(cow_check(store, &check, false), 0);
	assert_int_equal(check.errors, 0);
	cow_abandon(store);
}

/* False: it ended before the Nth call. */
static bool run_fault(enum fault fault, unsigned nth, bool all)
{
	struct cow_create_options options = { .sectors = BLOCKS * COW_SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	static const int errors[] = { [NOTHING] = -EIO, [FAILS_EIO] = -EIO, [FAILS_ENOSPC] = -ENOSPC };
	struct error_text error = { "" };
	struct cow_device *device;
	bool made;
	int ret;

	unlink(path);
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	begun = safe = 0;
	memset(&io, 0, sizeof(io));
	io.fault = fault;
	io.nth = nth;
	io.all = all;
	ret = cow_create(device, &options, &error);
	made = !ret;
	if (!ret)
		ret = use(device);
	/* a failure may go unnoticed: a superblock has a copy, and a checkpoint is repeated */
	if (ret && (!io.came || ret != errors[fault]))
		fail_msg("fault %u, call %u: error %d", fault, nth, ret);
	io.nth = 0;
	if (made)
		look(device, nth);
	cow_file_close(device);
	return io.came;
}

static void sweep(enum fault fault)
{
	unsigned nth;

	for (nth = 1; run_fault(fault, nth, false); nth++)
		;
	print_message("# %u calls\n", nth - 1);
	assert_true(nth > 50);
}

/* A short transfer is continued, whatever the sizes of its pieces. */
static void test_short(void **state)
{
	sweep(SHORT);
	assert_true(run_fault(SHORT, 1, true));
}

static void test_interrupted(void **state)
{
	sweep(INTERRUPTED);
}

/* A file that has become shorter, or a device that accepts no more. */
static void test_nothing_is_moved(void **state)
{
	sweep(NOTHING);
}

static void test_eio(void **state)
{
	sweep(FAILS_EIO);
}

static void test_enospc(void **state)
{
	sweep(FAILS_ENOSPC);
}

/* False: there is no such sync. The store never writes again: what the sync was for may be lost, though a later one succeeds. */
static bool run_bad_sync(unsigned nth)
{
	struct cow_create_options options = { .sectors = BLOCKS * COW_SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	uint8_t data[COW_BLOCK] = { 1 };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	int ret;

	unlink(path);
	memset(&io, 0, sizeof(io));
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &(struct cow_open_options){ 0 }, &error), 0);
	assert_int_equal(cow_write(store, data, 0, COW_SECTORS), 0);
	io.syncs = 0;
	io.bad_sync = nth;
	ret = cow_flush(store);
	if (!ret)
		ret = cow_checkpoint(store);
	if (ret) {
		assert_int_equal(cow_flush(store), -EIO);
		assert_int_equal(cow_write(store, data, 0, COW_SECTORS), -EIO);
	}
	io.bad_sync = 0;
	cow_abandon(store);
	cow_file_close(device);
	return ret;
}

static void test_sync_without_room(void **state)
{
	unsigned nth = 1;

	while (run_bad_sync(nth))
		nth++;
	print_message("# %u syncs\n", nth - 1);
	assert_true(nth > 4);
}

#define MAPPED 200000u			/* blocks: three levels of nodes */
#define LEVELS 3u
#define LEAVES (MAPPED / COW_LEAF_ENTRIES)

static void map_all(struct cow_store *store)
{
	uint64_t block, n;

	for (block = 0; block < MAPPED; block += n)
		assert_int_equal(cow_preallocate_step(store, block, false, &n), 0);
	assert_int_equal(cow_flush(store), 0);
}

/* @count blocks, each in a leaf of its own. */
static void change(struct cow_store *store, unsigned count)
{
	uint8_t data[COW_BLOCK] = { 1 };
	unsigned i;

	for (i = 0; i < count; i++)
		assert_int_equal(cow_write(store, data, (uint64_t)i * (LEAVES / count) * COW_LEAF_ENTRIES * COW_SECTORS, COW_SECTORS), 0);
}

static unsigned delete_all(struct cow_store *store, const char *name)
{
	struct error_text error = { "" };

	io.blocks_read = 0;
	if (cow_snapshot_delete(store, name, &error))
		fail_msg("%s", error.text);
	while (cow_delete_step(store) == 1)
		;
	assert_null(cow_delete_next(store));
	return io.blocks_read;
}

/*
 * Each of snapshots "a", "b" and the disk has @count other blocks. Deleting one reads the nodes on the
 * path to these, its own, and those of its parent and its child; and what the freeing needs of the
 * bitmap.
 */
static unsigned delete_of(unsigned count, const char *name)
{
	struct cow_create_options options = { .sectors = MAPPED * COW_SECTORS };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	struct cow_info before, after;
	unsigned reads;

	unlink(path);
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &(struct cow_open_options){ 0 }, &error), 0);
	map_all(store);
	assert_int_equal(cow_snapshot_create(store, "a", NULL, &error), 0);
	change(store, count);
	assert_int_equal(cow_snapshot_create(store, "b", NULL, &error), 0);
	change(store, count);
	assert_int_equal(cow_close(store), 0);
	/* nothing is in the cache */
	assert_int_equal(cow_open(&store, device, &(struct cow_open_options){ 0 }, &error), 0);
	cow_get_info(store, &before);
	reads = delete_all(store, name);
	cow_get_info(store, &after);
	assert_in_range(after.free_blocks - before.free_blocks, count, count * (1 + LEVELS) + LEVELS);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
	return reads;
}

static void test_deletion_reads_the_difference(void **state)
{
	static const unsigned counts[] = { 1, 4, 16 };
	static const char *const names[] = { "a", "b" };
	unsigned i, j, reads, most;

	for (i = 0; i < 3; i++) {
		for (j = 0; j < 2; j++) {
			reads = delete_of(counts[i], names[j]);
			most = 3 * (counts[i] + LEVELS) + MAPPED / COW_PAGE_BITS;
			print_message("# %u of %u blocks: %u read, %u at most\n", counts[i], MAPPED, reads, most);
			assert_in_range(reads, 1, most);
		}
	}
}

static const struct cow_create_options small = { .sectors = BLOCKS * COW_SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };

static int make_new(struct error_text *error)
{
	struct cow_device *device;
	int ret = cow_file_new(&device, path, error);

	if (ret)
		return ret;
	ret = cow_create(device, &small, error);
	if (!ret)
		ret = cow_file_place(device, error);
	cow_file_close(device);
	return ret;
}

static void expect_complete(const char *name)
{
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;

	if (cow_file_open(&device, name, false, &error) ||
	    cow_open(&store, device, &(struct cow_open_options){ 0 }, &error))
		fail_msg("%s", error.text);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

static void expect_files(unsigned want)
{
	DIR *dir = opendir(scratch_dir);
	unsigned count = 0;

	assert_non_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	closedir(dir);
	assert_int_equal(count, want);
}

/* False: it ended before that call. */
static bool is_killed_at(unsigned nth)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		steps = 0;
		kill_at = nth;
		_exit(make_new(NULL) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) || !WEXITSTATUS(status));
	return WIFSIGNALED(status);
}

/* There is the whole store, or none; then the next attempt succeeds. That also cleans up. */
static void expect_next_attempt(unsigned nth)
{
	const char *other = scratch_path("other");
	struct error_text error = { "" };
	struct stat st;
	bool there = !stat(path, &st);

	if (there && !st.st_size && making == RESERVES)	/* it only keeps the name from others */
		there = unlink(path);
	if (there) {
		expect_complete(path);
		assert_int_equal(make_new(NULL), -EEXIST);
		assert_int_equal(__real_rename(path, other), 0);
	}
	if (make_new(&error))
		fail_msg("killed at call %u: %s", nth, error.text);
	expect_complete(path);
	if (there)
		expect_complete(other);
	expect_files(1u + there);
	unlink(path);
	unlink(other);
}

static void test_killed_maker(void **state)
{
	for (making = NAMELESS; making <= RESERVES; making++) {
		unsigned nth;

		unlink(path);
		for (nth = 1; is_killed_at(nth); nth++)
			expect_next_attempt(nth);
		expect_next_attempt(nth);
		print_message("# %u calls\n", nth - 1);
		assert_true(nth > 10);
	}
	making = NAMELESS;
	assert_false(was_unlocked);
}

/* A file that cannot be made durable is not left behind. */
static void test_new_not_durable(void **state)
{
	for (making = NAMELESS; making <= RESERVES; making++) {
		struct error_text error = { "" };
		unsigned nth;

		unlink(path);
		for (nth = 1; ; nth++) {
			syncs = 0;
			sync_fails = nth;
			if (!make_new(&error))
				break;
			expect_files(0);
		}
		sync_fails = 0;
		expect_complete(path);
		assert_int_equal(nth - 1, 4);	/* the directory before, the file without and with its name, the directory */
	}
	making = NAMELESS;
	unlink(path);
}

/* A name that a file cannot get is refused at once. */
static void test_new_name(void **state)
{
	static const char *const names[] = { "", "missing/store", "store/" };
	char name[NAME_MAX + 2];

	for (unsigned i = 0; i < 3; i++) {
		struct error_text error = { "" };
		struct cow_device *device;

		assert_true(cow_file_new(&device, i ? scratch_path(names[i]) : "", &error) < 0);
		assert_true(error.text[0]);
	}
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(cow_file_new(&(struct cow_device *){ NULL }, scratch_path(name), NULL), -ENAMETOOLONG);
	expect_files(0);
}

/* A file of that name stays, whenever it was made; and so does one that another process makes now. */
static void test_new_beside_another(void **state)
{
	for (making = NAMELESS; making <= RESERVES; making++) {
		struct error_text error = { "" };
		struct cow_device *device, *second;
		struct stat st;

		unlink(path);
		assert_int_equal(cow_file_new(&device, path, &error), 0);
		assert_int_equal(cow_create(device, &small, &error), 0);
		if (making == NAMELESS) {
			expect_files(0);
			assert_int_equal(cow_file_new(&second, path, &error), 0);
			cow_file_close(second);
		} else {
			assert_int_equal(cow_file_new(&second, path, &error), -EBUSY);
		}
		scratch_file("store", 1000);
		assert_int_equal(cow_file_place(device, &error), -EEXIST);
		cow_file_close(device);
		assert_int_equal(cow_file_new(&device, path, &error), -EEXIST);
		assert_int_equal(stat(path, &st) || st.st_size != 1000, 0);
		expect_files(1);
		assert_int_equal(unlink(path) || symlink("nowhere", path), 0);
		assert_int_equal(cow_file_new(&device, path, &error), -EEXIST);
	}
	making = NAMELESS;
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_nothing_is_moved),
		cmocka_unit_test(test_eio),
		cmocka_unit_test(test_enospc),
		cmocka_unit_test(test_sync_without_room),
		cmocka_unit_test(test_deletion_reads_the_difference),
		cmocka_unit_test(test_killed_maker),
		cmocka_unit_test(test_new_not_durable),
		cmocka_unit_test(test_new_name),
		cmocka_unit_test(test_new_beside_another),
	};

	scratch_init_in(access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	snprintf(path, sizeof(path), "%s", scratch_path("store"));
	return cmocka_run_group_tests_name("cow: a store in a file", tests, NULL, NULL);
}
