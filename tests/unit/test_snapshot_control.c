/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_snapshot_control.c - snapshot commands to one disk: refusals in each
 * state, what a pause and a close wait for; writes that wait for room; and a
 * hand-over that fails. Over the driver of snapshot_process.h.
 */
#include "snapshot_control.h"

#include <endian.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "array.h"
#include "cow.h"
#include "nbd_protocol.h"
#include "scratch.h"

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static bool answered(struct tapctl *ctl)
{
	struct pollfd poll_fd = { .fd = tapctl_fd(ctl), .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

static void test_one_disk(void **state)
{
	json_t *reply, *list;

	reply = fake_call(&p, with_name("snapshot-create"));
	assert_true(json_number_value(json_object_get(reply, "stall_us")) >= 2000);
	json_decref(reply);
	assert_true(longest_stall_us() >= 2000);
	fake_call_fails(&p, with_name("snapshot-create"), -EEXIST);
	reply = fake_call(&p, fake_request(&p, "snapshot-list"));
	list = json_object_get(reply, "snapshots");
	assert_int_equal(json_array_size(list), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "name")), "snap");
	json_decref(reply);
	json_decref(fake_call(&p, with_name("snapshot-revert")));
	json_decref(fake_call(&p, with_name("snapshot-delete")));
	fake_call_fails(&p, with_name("snapshot-delete"), -ENOENT);
}

#define MANY 10000

static void make_store(const char *path)
{
	const struct cow_create_options create = { .sectors = FAKE_SECTORS };
	const struct cow_open_options options = { 0 };
	struct error_text text = { "" };
	struct cow_device *device;
	struct cow_store *store;
	char name[16];

	assert_int_equal(cow_file_create(&device, path, &text), 0);
	assert_int_equal(cow_create(device, &create, &text), 0);
	assert_int_equal(cow_open(&store, device, &options, &text), 0);
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "snap-%u", i);
		assert_int_equal(cow_snapshot_create(store, name, NULL, &text), 0);
	}
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

/* A reply of more than a mebibyte, and commands that have to find one of many snapshots. */
static void test_many_snapshots(void **state)
{
	struct error_text text = { "" };
	struct fake_process many;
	struct tapctl_disk disk;
	json_t *list, *reply;
	char target[100];
	int errors[4];

	/* in memory if possible: each snapshot is a sync */
	snprintf(target, sizeof(target), "cow:%s-%d", access("/dev/shm", W_OK) ? fake_dir : "/dev/shm/tapsnap-snapshot", (int)getpid());
	make_store(target + 4);
	fake_start_on(&many, target);
	disk = (struct tapctl_disk){ many.pid, many.minor };
	errors[0] = tapctl_snapshot_list(&disk, &list, TIMEOUT_MS, &text);
	reply = fake_call(&many, json_pack("{s:s, s:i, s:s}", "command", "snapshot-list", "minor", many.minor, "name", "snap-77"));
	errors[1] = tapctl_snapshot_revert(&disk, 1, "snap-5000", "test", TIMEOUT_MS, &text);
	errors[2] = tapctl_snapshot_delete(&disk, 1, "snap-9999", TIMEOUT_MS, &text);
	errors[3] = tapctl_snapshot_delete(&disk, 1, "snap-9999", TIMEOUT_MS, NULL);
	fake_stop(&many);
	unlink(target + 4);
	if (errors[0] || errors[1] || errors[2])
		fail_msg("%s", text.text);
	assert_int_equal(errors[3], -ENOENT);
	assert_int_equal(json_array_size(list), MANY);
	assert_int_equal(json_array_size(json_object_get(reply, "snapshots")), 1);
	json_decref(reply);
	json_decref(list);
}

static void test_bad_arguments(void **state)
{
	static const char *const requests[] = {
		"{\"command\": \"snapshot-create\"}",
		"{\"command\": \"snapshot-create\", \"name\": 7}",
		"{\"command\": \"snapshot-create\", \"name\": \"a\\u0007\"}",
		"{\"command\": \"snapshot-create\", \"name\": \"a\", \"description\": \"two\\nlines\"}",
		"{\"command\": \"snapshot-freeze\"}",
		"{\"command\": \"snapshot-freeze\", \"lease_ms\": 0}",
		"{\"command\": \"snapshot-freeze\", \"lease_ms\": 60001}",
		"{\"command\": \"snapshot-thaw\"}",
		"{\"command\": \"snapshot-thaw\", \"token\": -1}",
		"{\"command\": \"snapshot-prepare\", \"name\": \"a\", \"decision\": \"/x\"}",
		"{\"command\": \"snapshot-prepare\", \"name\": \"a\", \"token\": 1}",
		"{\"command\": \"snapshot-prepare\", \"name\": \"a\", \"token\": 1, \"decision\": \"" RANDOM_NAME "\"}",
		"{\"command\": \"snapshot-prepare\", \"name\": \"a\", \"token\": 1, \"decision\": \"/etc/nologin\"}",
	};
	json_t *request;
	char name[300];

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		request = json_loads(requests[i], 0, NULL);
		assert_non_null(request);
		json_object_set_new(request, "minor", json_integer(p.minor));
		fake_call_fails(&p, request, -EINVAL);
	}
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	request = fake_request(&p, "snapshot-delete");
	json_object_set_new(request, "name", json_string(name));
	fake_call_fails(&p, request, -EINVAL);
	for (unsigned op = 0; op < NR_OPS; op++)
		assert_int_equal(p.disk->calls[op], 0);
}

/* A running command keeps the image open. */
static void waits_for_command(const char *command)
{
	p.disk->hold[SNAPSHOT_CREATE] = true;
	begin(p.ctl, with_name("snapshot-create"));
	wait_until(p.disk->calls[SNAPSHOT_CREATE] == 1);
	begin(other, fake_request(&p, command));
	while (true) {
		struct error_text text = { "" };
		struct tapctl *third;
		json_t *reply;
		bool draining;

		assert_int_equal(tapctl_connect(&third, p.pid, &text), 0);
		assert_int_equal(tapctl_call(third, fake_request(&p, "info"), &reply, TIMEOUT_MS, &text), 0);
		draining = json_integer_value(json_object_get(json_object_get(reply, "disk"), "state")) & TD_PAUSE_REQUESTED;
		json_decref(reply);
		tapctl_close(third);
		if (draining)
			break;
	}
	fake_release(&p);
	finish(p.ctl, 0);
	finish(other, 0);
	assert_string_equal(p.disk->listed, "snap");
}

static void test_pause_waits_for_a_command(void **state)
{
	waits_for_command("pause");
	fake_call_fails(&p, with_name("snapshot-delete"), -EBUSY);
}

static void test_close_waits_for_a_command(void **state)
{
	waits_for_command("close");
	fake_call_fails(&p, with_name("snapshot-delete"), -EINVAL);
	fake_call_fails(&p, fake_request(&p, "snapshot-list"), -EINVAL);
}

static int nbd_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), NBD_SOCKET_FORMAT, fake_dir, p.pid, p.minor);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void receive_bytes(int fd, void *data, size_t length)
{
	assert_int_equal(recv(fd, data, length, MSG_WAITALL), (ssize_t)length);
}

static void test_revert_of_a_disk_in_use(void **state)
{
	struct nbd_greeting greeting;
	int fd = nbd_connect();

	receive_bytes(fd, &greeting, sizeof(greeting));
	json_decref(fake_call(&p, with_name("snapshot-create")));
	fake_call_fails(&p, with_name("snapshot-revert"), -EBUSY);
	assert_int_equal(p.disk->calls[SNAPSHOT_REVERT], 0);
	close(fd);
	/* and no client is accepted while it runs */
	p.disk->hold[SNAPSHOT_REVERT] = true;
	do {
		begin(other, with_name("snapshot-revert"));
		wait_until(p.disk->calls[SNAPSHOT_REVERT] || answered(other));
		if (!p.disk->calls[SNAPSHOT_REVERT])
			finish(other, -EBUSY);	/* tapdisk has not noticed yet that we disconnected */
	} while (!p.disk->calls[SNAPSHOT_REVERT]);
	fake_call_fails(&p, with_name("snapshot-create"), -EBUSY);
	fake_call_fails(&p, freeze_request(LONG_LEASE_MS), -EBUSY);
	fd = nbd_connect();
	assert_int_equal(recv(fd, &greeting, sizeof(greeting), 0), 0);
	close(fd);
	fake_release(&p);
	finish(other, 0);
}

static void test_revert_to_another_size(void **state)
{
	json_t *event, *reply;

	begin(other, json_pack("{s:s}", "command", "watch"));
	finish(other, 0);
	json_decref(fake_call(&p, with_name("snapshot-create")));
	p.disk->sectors_after_revert = FAKE_SECTORS / 2;
	reply = fake_call(&p, with_name("snapshot-revert"));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(reply, "disk"), "sectors")), FAKE_SECTORS / 2);
	json_decref(reply);
	event = receive(other);
	assert_string_equal(json_string_value(json_object_get(event, "event")), "resized");
	assert_int_equal(json_integer_value(json_object_get(event, "sectors")), FAKE_SECTORS / 2);
	json_decref(event);
}

/* A client that has sent one write. */
static int nbd_write(void)
{
	struct nbd_option option = { htobe64(NBD_OPTION_MAGIC), htobe32(NBD_OPT_EXPORT_NAME), 0 };
	struct nbd_wire_request request = { htobe32(NBD_REQUEST_MAGIC), 0, htobe16(NBD_CMD_WRITE), 1, 0, htobe32(4096) };
	uint32_t flags = htobe32(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	char data[4096] = "", export[10];
	struct nbd_greeting greeting;
	int fd = nbd_connect();

	receive_bytes(fd, &greeting, sizeof(greeting));
	assert_int_equal(send(fd, &flags, sizeof(flags), 0), sizeof(flags));
	assert_int_equal(send(fd, &option, sizeof(option), 0), sizeof(option));
	receive_bytes(fd, export, sizeof(export));
	assert_int_equal(send(fd, &request, sizeof(request), 0), sizeof(request));
	assert_int_equal(send(fd, data, sizeof(data), 0), sizeof(data));
	return fd;
}

static void expect_event(const char *name)
{
	json_t *event = receive(other);

	assert_string_equal(json_string_value(json_object_get(event, "event")), name);
	assert_int_equal(json_integer_value(json_object_get(event, "minor")), p.minor);
	json_decref(event);
}

static bool no_space(void)
{
	json_t *reply = fake_call(&p, fake_request(&p, "info"));
	bool value = json_is_true(json_object_get(json_object_get(reply, "disk"), "no_space"));

	json_decref(reply);
	return value;
}

static void test_writes_wait_for_room(void **state)
{
	struct nbd_wire_reply reply;
	int fd;

	begin(other, json_pack("{s:s}", "command", "watch"));
	finish(other, 0);
	assert_false(no_space());
	p.disk->no_room = true;
	fd = nbd_write();
	expect_event("no-space");
	assert_true(no_space());
	wait_until(p.disk->retries == 2);
	/* a snapshot does not wait for it */
	json_decref(fake_call(&p, with_name("snapshot-create")));
	p.disk->no_room = false;
	receive_bytes(fd, &reply, sizeof(reply));
	assert_int_equal(reply.error, 0);
	/* the next event is this one, so there was none in between */
	expect_event("space");
	assert_false(no_space());
	close(fd);
}

/* The write waits through the pause, and goes to the image that is open afterwards. */
static void test_pause_does_not_wait_for_room(void **state)
{
	struct nbd_wire_reply reply;
	int fd;

	p.disk->no_room = true;
	fd = nbd_write();
	wait_until(p.disk->waiting == 1);
	json_decref(fake_call(&p, fake_request(&p, "pause")));
	p.disk->no_room = false;
	json_decref(fake_call(&p, fake_request(&p, "unpause")));
	receive_bytes(fd, &reply, sizeof(reply));
	assert_int_equal(reply.error, 0);
	close(fd);
}

static void test_close_does_not_wait_for_room(void **state)
{
	struct nbd_wire_reply reply;
	int fd;

	p.disk->no_room = true;
	fd = nbd_write();
	wait_until(p.disk->waiting == 1);
	json_decref(fake_call(&p, fake_request(&p, "close")));
	receive_bytes(fd, &reply, sizeof(reply));
	assert_int_equal(be32toh(reply.error), ENOSPC);
	close(fd);
}

static void test_disk_without_snapshots(void **state)
{
	struct fake_process *raw = &p;
	json_t *request;
	char path[100];

	json_decref(fake_call(raw, fake_request(raw, "close")));
	snprintf(path, sizeof(path), "%s/raw.img", fake_dir);
	assert_int_equal(close(open(path, O_RDWR | O_CREAT, 0600)), 0);
	assert_int_equal(truncate(path, 1 << 20), 0);
	request = fake_request(raw, "open");
	json_object_set_new(request, "target", json_sprintf("aio:%s", path));
	json_decref(fake_call(raw, request));
	fake_call_fails(raw, with_name("snapshot-create"), -EOPNOTSUPP);
	fake_call_fails(raw, freeze_request(LONG_LEASE_MS), -EOPNOTSUPP);
	fake_call_fails(raw, fake_request(raw, "snapshot-list"), -EOPNOTSUPP);
}

static json_int_t state_of(int minor)
{
	json_t *reply = fake_call(&p, json_pack("{s:s, s:i}", "command", "info", "minor", minor));
	json_int_t bits = json_integer_value(json_object_get(json_object_get(reply, "disk"), "state"));

	json_decref(reply);
	return bits;
}

/* A failed hand-over ends its own pauses, but not the pause of a disk that somebody has paused meanwhile. */
static void test_failed_hand_over(void **state)
{
	int second = tapctl_minor_allocate(-1, NULL);

	assert_true(second >= 0);
	json_decref(fake_call(&p, json_pack("{s:s, s:i}", "command", "attach", "minor", second)));
	json_decref(fake_call(&p, json_pack("{s:s, s:i, s:s}", "command", "open", "minor", second, "target", "null:8388608")));
	p.disk->fails_flush = 8388608 / 512;
	begin(other, json_pack("{s:s}", "command", "hand-over"));
	wait_until(state_of(p.minor) & TD_PAUSED);
	json_decref(fake_call(&p, fake_request(&p, "pause")));
	fake_release(&p);
	finish(other, -EIO);
	wait_until(!(state_of(second) & TD_PAUSED));
	assert_true(state_of(p.minor) & TD_PAUSED);
	json_decref(fake_call(&p, fake_request(&p, "unpause")));

	begin(other, json_pack("{s:s}", "command", "hand-over"));
	wait_until(state_of(p.minor) & TD_PAUSED);
	fake_release(&p);
	finish(other, -EIO);
	wait_until(!((state_of(p.minor) | state_of(second)) & TD_PAUSED));
	tapctl_minor_free(second, NULL);
}

/* Its own pauses end also if another process, such as udev, has the device open at first. */
static void test_failed_hand_over_of_busy_device(void **state)
{
	const char *device = scratch_loop(scratch_file("disk", 1 << 20), 512);
	json_t *request;
	int second, fd;

	if (!device)
		skip();
	second = tapctl_minor_allocate(-1, NULL);
	assert_true(second >= 0);
	json_decref(fake_call(&p, json_pack("{s:s, s:i}", "command", "attach", "minor", second)));
	request = json_pack("{s:s, s:i, s:o}", "command", "open", "minor", second, "target", json_sprintf("aio:%s", device));
	json_decref(fake_call(&p, request));
	p.disk->fails_flush = FAKE_SECTORS;
	begin(other, json_pack("{s:s}", "command", "hand-over"));
	wait_until(state_of(second) & TD_PAUSED);
	fd = open(device, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_SH), 0);
	fake_release(&p);
	finish(other, -EIO);
	pause_ms(300);
	assert_true(state_of(second) & TD_PAUSED);
	close(fd);
	wait_until(!((state_of(p.minor) | state_of(second)) & TD_PAUSED));
	json_decref(fake_call(&p, json_pack("{s:s, s:i}", "command", "close", "minor", second)));
	json_decref(fake_call(&p, json_pack("{s:s, s:i}", "command", "detach", "minor", second)));
	tapctl_minor_free(second, NULL);
	scratch_loop_remove(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DISK(test_one_disk),
		cmocka_unit_test(test_many_snapshots),
		ON_DISK(test_bad_arguments),
		ON_DISK(test_pause_waits_for_a_command),
		ON_DISK(test_close_waits_for_a_command),
		ON_DISK(test_revert_of_a_disk_in_use),
		ON_DISK(test_revert_to_another_size),
		ON_DISK(test_writes_wait_for_room),
		ON_DISK(test_pause_does_not_wait_for_room),
		ON_DISK(test_close_does_not_wait_for_room),
		ON_DISK(test_failed_hand_over),
		ON_DISK(test_failed_hand_over_of_busy_device),
		ON_DISK(test_disk_without_snapshots),
	};

	scratch_init();
	return cmocka_run_group_tests_name("snapshot control", tests, fake_make_directory, fake_remove_directory);
}
