/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fixture.c - a real tapdisk process for a test (fixture.h). */
#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void make_image(struct fixture *f, uint64_t bytes)
{
	int fd;

	snprintf(f->image, sizeof(f->image), "%s/disk.img", f->dir);
	snprintf(f->target, sizeof(f->target), "aio:%s", f->image);
	fd = open(f->image, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	close(fd);
}

const char *fixture_tapdisk;

/* Tests are build/tests/unit/x, programs build/bin/x. */
void fixture_find_program(char *path, size_t size, const char *name)
{
	char self[256];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	assert_true(length > 0);
	self[length] = 0;
	for (int up = 0; up < 3; up++) {
		slash = strrchr(self, '/');
		assert_non_null(slash);
		*slash = 0;
	}
	snprintf(path, size, "%s/bin/%s", self, name);
}

void fixture_make_dir(struct fixture *f)
{
	char path[300];

	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/var/tmp/tapsnap-test.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	setenv(RUN_DIR_ENV, f->dir, 1);
	fixture_find_program(path, sizeof(path), "tapdisk");
	setenv("TAPSNAP_TAPDISK", fixture_tapdisk ? fixture_tapdisk : path, 1);
}

void fixture_start(struct fixture *f, uint64_t bytes, const char *target, json_t *extra)
{
	struct error_text text = { "" };
	json_t *request;

	fixture_make_dir(f);
	if (bytes)
		make_image(f, bytes);
	else
		snprintf(f->target, sizeof(f->target), "%s", target);

	f->pid = tapctl_spawn(&text);
	if (f->pid < 0)
		fail_msg("spawn: %s", text.text);
	f->minor = tapctl_minor_allocate(-1, &text);
	if (f->minor < 0)
		fail_msg("allocate: %s", text.text);
	if (tapctl_connect(&f->ctl, f->pid, &text))
		fail_msg("connect: %s", text.text);
	json_decref(fixture_call(f, json_pack("{s:s, s:i}", "command", "attach", "minor", f->minor)));
	request = json_pack("{s:s, s:i, s:s}", "command", "open", "minor", f->minor, "target", f->target);
	if (extra) {
		json_object_update(request, extra);
		json_decref(extra);
	}
	json_decref(fixture_call(f, request));
}

/* That was the last disk, so tapdisk exits, and leaves nothing behind. */
void fixture_stop(struct fixture *f)
{
	struct error_text text = { "" };
	char path[128];

	json_decref(fixture_call(f, json_pack("{s:s, s:i, s:b}", "command", "close", "minor", f->minor, "force", 1)));
	json_decref(fixture_call(f, json_pack("{s:s, s:i}", "command", "detach", "minor", f->minor)));
	/* The connection ends when the process does: its socket has been removed by then. */
	while (read(tapctl_fd(f->ctl), path, 1) > 0)
		;
	tapctl_close(f->ctl);
	assert_int_equal(tapctl_minor_free(f->minor, &text), 0);
	if (f->image[0])
		assert_int_equal(unlink(f->image), 0);
	snprintf(path, sizeof(path), "%s/tapdisk", f->dir);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(f->dir), 0);
}

json_t *fixture_call(struct fixture *f, json_t *request)
{
	struct error_text text = { "" };
	json_t *reply;

	if (tapctl_call(f->ctl, request, &reply, TIMEOUT_MS, &text))
		fail_msg("tapdisk: %s", text.text);
	return reply;
}

unsigned fixture_count_descriptors(const struct fixture *f)
{
	struct dirent *entry;
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", f->pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

void fixture_call_fails(struct fixture *f, json_t *request, int error)
{
	struct error_text text = { "" };

	assert_int_equal(tapctl_call(f->ctl, request, NULL, TIMEOUT_MS, &text), error);
	assert_int_not_equal(text.text[0], 0);
	assert_null(strchr(text.text, '\n'));
}

struct blkfront *fixture_connect(struct fixture *f, struct blkfront_options options)
{
	struct blkfront *front;
	char text[512] = "";

	options.pid = f->pid;
	options.minor = f->minor;
	if (blkfront_connect(&front, &options, text, sizeof(text)))
		fail_msg("connect: %s", text);
	return front;
}

void fixture_finish(struct blkfront *front, unsigned queue, struct blkfront_response *responses, unsigned count)
{
	unsigned got = 0;

	blkfront_push(front, queue);
	while (got < count) {
		if (blkfront_wait(front, queue, TIMEOUT_MS) != 1)
			fail_msg("%u of %u responses came", got, count);
		got += blkfront_reap(front, queue, responses + got, count - got);
	}
}

int fixture_one(struct blkfront *front, unsigned queue, uint64_t id, uint8_t operation)
{
	struct blkfront_response response;

	fixture_finish(front, queue, &response, 1);
	assert_int_equal(response.id, id);
	assert_int_equal(response.operation, operation);
	return response.status;
}

void fixture_pattern(void *buffer, size_t bytes, uint64_t seed)
{
	uint64_t *words = buffer;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = (seed + 1) * 0x9e3779b97f4a7c15ull + i;
}
