/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_aio_open.c - images that the aio driver refuses to open, and its error
 * messages; its locks, and the geometry and size that it finds.
 */
#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "disk.h"
#include "file.h"
#include "scratch.h"

#define CACHED_PAGES 16

static void sizes_are_never_invented(void **state)
{
	struct backend *backend;

	open_fails(scratch_file("empty", 0), OPTIONS(), -EINVAL, "is empty (0 bytes)");
	open_fails(scratch_file("odd", 1000), OPTIONS(), -EINVAL, "size 1000 is not a multiple of 512: truncate -s %512");
	open_fails(scratch_file("small", 511), OPTIONS(.read_only = true), -EINVAL, "size 511 is not a multiple of 512");
	open_fails(scratch_file("half", 6 * 512), OPTIONS(.sector_size = 4096), -EINVAL,
		   "size 3072 is not a multiple of the sector size 4096");
	open_fails(scratch_file("half", 4096), OPTIONS(.sector_size = 1024), -EINVAL, "sector size 1024");
	backend = open_works(scratch_file("one", 512), OPTIONS());
	assert_int_equal(backend->geometry.sectors, 1);
	assert_int_equal(backend->geometry.sector_size, 512);
	assert_int_equal(backend->geometry.physical_sector_size, 512);
	backend_close(backend);
	backend = open_works(scratch_file("one", 8192), OPTIONS(.sector_size = 4096));
	assert_int_equal(backend->geometry.sectors, 16);
	assert_int_equal(backend->geometry.sector_size, 4096);
	assert_int_equal(backend->geometry.physical_sector_size % 4096, 0);
	backend_close(backend);
}

static void what_is_no_image(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	open_fails(scratch_path("missing"), OPTIONS(), -ENOENT, "No such file or directory");
	open_fails(scratch_dir, OPTIONS(), -EISDIR, "is a directory");
	open_fails("/dev/null", OPTIONS(), -ENOTBLK, "is a character device");
	assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
	open_fails(scratch_path("fifo"), OPTIONS(), -ENOTBLK, "is a FIFO");
	open_fails(scratch_path("fifo"), OPTIONS(.read_only = true), -ENOTBLK, "is a FIFO");
	strcpy(address.sun_path, scratch_path("socket"));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	open_fails(scratch_path("socket"), OPTIONS(), -ENOTBLK, "is a socket");
	open_fails(scratch_path("missing/below"), OPTIONS(), -ENOENT, "No such file or directory");
	scratch_file("plain", 512);
	open_fails(scratch_path("plain/below"), OPTIONS(), -ENOTDIR, "Not a directory");
	close(fd);
}

static void no_permission(void **state)
{
	const char *path = scratch_file("private", 4096);

	if (geteuid())
		skip();
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(seteuid(65534), 0);
	open_fails(path, OPTIONS(), -EACCES, "no permission to write it as uid 65534");
	open_fails(path, OPTIONS(.read_only = true), -EACCES, "no permission to read it as uid 65534");
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(seteuid(65534), 0);
	open_fails(path, OPTIONS(), -EACCES, "or open it read-only");
	backend_close(open_works(path, OPTIONS(.read_only = true)));
	assert_int_equal(seteuid(0), 0);
}

/* How many of the file's pages are in the page cache. */
static int pages_cached(const char *path)
{
	unsigned char there[CACHED_PAGES];
	int fd = open(path, O_RDONLY | O_CLOEXEC), count = 0, i;
	void *map = mmap(NULL, sizeof(there) * 4096, PROT_READ, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(mincore(map, sizeof(there) * 4096, there), 0);
	for (i = 0; i < CACHED_PAGES; i++)
		count += there[i] & 1;
	munmap(map, sizeof(there) * 4096);
	close(fd);
	return count;
}

static void what_a_copy_left_in_the_page_cache_goes(void **state)
{
	const char *path = scratch_file("copied", 0);
	int fd = open(path, O_WRONLY | O_CLOEXEC), i;
	struct backend *backend;
	char page[4096] = "data";
	struct statfs fs;

	for (i = 0; i < CACHED_PAGES; i++)
		assert_int_equal(write(fd, page, sizeof(page)), sizeof(page));
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(fstatfs(fd, &fs), 0);
	close(fd);
	assert_int_equal(pages_cached(path), CACHED_PAGES);
	backend = open_works(path, OPTIONS(.no_direct = true));
	assert_int_equal(pages_cached(path), CACHED_PAGES);
	backend_close(backend);
	backend = open_works(path, OPTIONS());
	if (backend->geometry.direct && fs.f_type != TMPFS_MAGIC)
		assert_int_equal(pages_cached(path), 0);
	backend_close(backend);
}

/* In a mount namespace of its own: the scratch directory, read-only. */
static void read_only_filesystem(void **state)
{
	const char *path = scratch_file("on-ro", 4096);
	int status;
	pid_t child;

	if (geteuid())
		skip();
	child = fork();
	if (!child) {
		struct image_file *file;
		struct error_text text = { "" };
		struct driver_options options = { 0 };

		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount(scratch_dir, scratch_dir, NULL, MS_BIND, NULL) ||
		    mount(NULL, scratch_dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL))
			_exit(errno == EPERM || errno == EINVAL ? 77 : 2);
		if (file_open(&file, path, &options, &text) != -EROFS ||
		    !strstr(text.text, "on a read-only filesystem or device: open it read-only"))
			_exit(3);
		options.read_only = true;
		_exit(file_open(&file, path, &options, &text) ? 4 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();		/* in a container root may not be able to mount; in a chroot "/" is no mount point */
	assert_int_equal(status, 0);
}

static void read_only_device(void **state)
{
	const char *device = scratch_loop_options(scratch_file("ro-disk", 1 << 20), "-r");

	if (!device)
		skip();
	open_fails(device, OPTIONS(), -EROFS, "read-only: open it read-only");
	backend_close(open_works(device, OPTIONS(.read_only = true)));
	scratch_loop_remove(device);
}

static void mounted_device(void **state)
{
	const char *device = scratch_loop(scratch_file("fs", 8 << 20), 512);
	char command[512], mount_point[128];

	if (!device)
		skip();
	snprintf(mount_point, sizeof(mount_point), "%s/mnt", scratch_dir);
	snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin; mkfs.ext4 -q %s && mkdir %s && mount %s %s",
		 device, mount_point, device, mount_point);
	assert_int_equal(scratch_run(command), 0);
	open_fails(device, OPTIONS(), -EBUSY, "mounted at");
	open_fails(device, OPTIONS(.shared = true), -EBUSY, mount_point);
	backend_close(open_works(device, OPTIONS(.read_only = true)));
	assert_int_equal(umount(mount_point), 0);
	backend_close(open_works(device, OPTIONS()));
	scratch_loop_remove(device);
}

static void empty_device(void **state)
{
	const char *file = scratch_file("no-disk", 0);
	const char *device = scratch_loop(file, 512);

	if (!device)
		skip();
	open_fails(device, OPTIONS(), -ENOMEDIUM, "the device has no size");
	scratch_loop_remove(device);
}

/*
 * @locked: the error if only the lock is held; on a device udev may hold it. A writer that ignores the
 * lock is stopped by O_EXCL.
 */
static void one_writer_or_many_readers(const char *path, int locked)
{
	struct driver_options reader = { .read_only = true }, writer = { 0 }, shared = { .shared = true };
	struct backend *first = open_works(path, writer), *second;

	open_fails(path, writer, -EBUSY, "in use by another disk of this process (pid ");
	open_fails(path, reader, locked, "in use by another disk of this process (pid ");
	second = open_works(path, shared);
	backend_close(second);
	backend_close(first);
	first = open_works(path, reader);
	second = open_works(path, reader);
	open_fails(path, writer, locked, "in use by another disk of this process (pid ");
	backend_close(first);
	backend_close(second);
	backend_close(open_works(path, writer));
}

static void locks_on_a_file(void **state)
{
	one_writer_or_many_readers(scratch_file("locked", 4096), -EBUSY);
}

static void locks_on_a_device(void **state)
{
	const char *device = scratch_loop(scratch_file("locked-disk", 1 << 20), 512);

	if (!device)
		skip();
	one_writer_or_many_readers(device, -EAGAIN);
	scratch_loop_remove(device);
}

/* The message names the process that has the lock. When it dies, the lock is gone. */
static void lock_of_another_process(void **state)
{
	const char *path = scratch_file("locked", 4096);
	char words[64], byte;
	int fds[2];
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (!child) {
		struct driver_options options = { 0 };
		struct image_file *file;

		if (file_open(&file, path, &options, NULL) || write(fds[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(fds[0], &byte, 1), 1);
	snprintf(words, sizeof(words), "in use by another process (pid %d)", child);
	open_fails(path, OPTIONS(), -EBUSY, words);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	backend_close(open_works(path, OPTIONS()));
	close(fds[0]);
	close(fds[1]);
}

static void resize(void **state)
{
	const char *path = scratch_file("grows", 1 << 20);
	struct backend *backend = open_works(path, OPTIONS());
	struct error_text text = { "" };

	assert_int_equal(truncate(path, 3 << 20), 0);
	assert_int_equal(backend_refresh_size(backend, &text), 0);
	assert_int_equal(backend->geometry.sectors, (3 << 20) / 512);
	assert_int_equal(truncate(path, (4 << 20) + 100), 0);
	assert_int_equal(backend_refresh_size(backend, &text), -EINVAL);
	assert_non_null(strstr(text.text, "not a multiple of 512"));
	text.text[0] = '\0';
	assert_int_equal(truncate(path, 2 << 20), 0);
	assert_int_equal(backend_refresh_size(backend, &text), -EINVAL);
	assert_non_null(strstr(text.text, "has shrunk from 3145728 to 2097152 bytes"));
	assert_int_equal(backend->geometry.sectors, (3 << 20) / 512);
	backend_close(backend);
}

static void resize_of_a_device(void **state)
{
	const char *file = scratch_file("device-grows", 1 << 20);
	const char *device = scratch_loop(file, 4096);
	struct backend *backend;
	char command[64];

	if (!device)
		skip();
	backend = open_works(device, OPTIONS());
	assert_int_equal(truncate(file, 3 << 20), 0);
	snprintf(command, sizeof(command), "losetup -c %s", device);
	assert_int_equal(scratch_run(command), 0);
	assert_int_equal(backend_refresh_size(backend, NULL), 0);
	assert_int_equal(backend->geometry.sectors, (3 << 20) / 512);
	backend_close(backend);
	scratch_loop_remove(device);
}

static void geometry_of_a_4k_device(void **state)
{
	const char *device = scratch_loop(scratch_file("4k", 1 << 20), 4096);
	struct backend *backend;

	if (!device)
		skip();
	backend = open_works(device, OPTIONS());
	assert_int_equal(backend->geometry.sectors, 2048);
	assert_int_equal(backend->geometry.sector_size, 512);
	assert_int_equal(backend->geometry.physical_sector_size, 4096);
	assert_true(backend->geometry.direct);
	assert_true(backend->geometry.discard);
	assert_int_equal(backend->geometry.discard_granularity % 4096, 0);
	backend_close(backend);
	backend = open_works(device, OPTIONS(.no_direct = true));
	assert_false(backend->geometry.direct);
	assert_true(backend->geometry.pages_stable);
	backend_close(backend);
	scratch_loop_remove(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_never_invented),
		cmocka_unit_test(what_is_no_image),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(what_a_copy_left_in_the_page_cache_goes),
		cmocka_unit_test(read_only_filesystem),
		cmocka_unit_test(read_only_device),
		cmocka_unit_test(mounted_device),
		cmocka_unit_test(empty_device),
		cmocka_unit_test(locks_on_a_file),
		cmocka_unit_test(locks_on_a_device),
		cmocka_unit_test(lock_of_another_process),
		cmocka_unit_test(resize),
		cmocka_unit_test(resize_of_a_device),
		cmocka_unit_test(geometry_of_a_4k_device),
	};

	scratch_init();
	return disk_run(tests);
}
