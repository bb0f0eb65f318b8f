/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_throttle.c - tap-ctl throttle: a disk moves no more bytes and requests
 * in a time than its limits permit, and another disk of the process is not
 * delayed by them.
 *
 * After the first request, each is paid for at the limit's rate, and may be
 * admitted as long as the burst before that. So N requests take at least the
 * time for N - 1 of them, less the burst, on a machine of any speed.
 */
#include "scratch.h"

#include "clock.h"
#include "fixture_disks.h"
#include "hanging_fs.h"

#define IMAGE_BYTES (16u << 20)
#define SIZE 65536u
#define MS 1000000ull
#define MAX_REQUESTS 100u

/* @limits: options of tap-ctl. */
static void throttle(int minor, const char *limits)
{
	char command[500], program[300];

	fixture_find_program(program, sizeof(program), "tap-ctl");
	snprintf(command, sizeof(command), "%s throttle -p %d -m %d %s >/dev/null", program, f.pid, minor, limits);
	assert_int_equal(system(command), 0);
}

static int member_of_throttle(int minor, const char *name)
{
	json_t *reply = fixture_call(&f, minor_request("stats", minor));
	json_t *number = json_object_get(json_object_get(json_object_get(reply, "stats"), "throttle"), name);
	int value = (int)json_integer_value(number);

	assert_non_null(number);
	json_decref(reply);
	return value;
}

static void send_all(int fd, uint16_t type, unsigned count, uint32_t size)
{
	static const uint8_t data[SIZE];

	for (unsigned i = 0; i < count; i++) {
		client_request(fd, type, 0, i, 0, size);
		if (type == NBD_CMD_WRITE)
			client_send(fd, data, size);
	}
}

static void receive_all(int fd, uint16_t type, unsigned count, uint32_t size)
{
	static uint8_t data[SIZE];
	uint64_t cookie;

	for (unsigned i = 0; i < count; i++) {
		assert_int_equal(client_reply(fd, &cookie), 0);
		if (type == NBD_CMD_READ)
			client_receive(fd, data, size);
	}
}

/* @count requests must take @ms at least. */
static void takes_at_least(int fd, uint16_t type, unsigned count, uint32_t size, unsigned ms)
{
	uint64_t begun = clock_ns(), ns;

	send_all(fd, type, count, size);
	receive_all(fd, type, count, size);
	ns = clock_ns() - begun;
	if (ns < ms * MS)
		fail_msg("%u requests of type %u: %llu ms, must be %u at least", count, type, (unsigned long long)(ns / MS), ms);
}

static void test_bytes(void **state)
{
	int fd;

	fixture_start(&f, IMAGE_BYTES, NULL, NULL);
	fd = client_of(f.minor);
	throttle(f.minor, "-B 1M -u 100");
	takes_at_least(fd, NBD_CMD_READ, 9, SIZE, 8 * 1000 / 16 - 100);
	throttle(f.minor, "-B 1M -u 100");
	takes_at_least(fd, NBD_CMD_WRITE, 9, SIZE, 8 * 1000 / 16 - 100);
	/* what the burst let through is paid for */
	throttle(f.minor, "-B 1M -u 400");
	takes_at_least(fd, NBD_CMD_WRITE, 17, SIZE, 16 * 1000 / 16 - 400);
	client_leave(fd);
	fixture_stop(&f);
}

/* A flush and a discard are requests, too. */
static void test_requests(void **state)
{
	static const uint16_t types[] = { NBD_CMD_READ, NBD_CMD_WRITE, NBD_CMD_FLUSH, NBD_CMD_TRIM, NBD_CMD_WRITE_ZEROES };
	int fd;

	fixture_start(&f, IMAGE_BYTES, NULL, NULL);
	fd = client_of(f.minor);
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		throttle(f.minor, "-i 100 -u 100");
		takes_at_least(fd, types[i], 41, types[i] == NBD_CMD_FLUSH ? 0 : 512, 40 * 10 - 100);
	}
	client_leave(fd);
	fixture_stop(&f);
}

/* All that the burst pays for, and that moves nothing, is not delayed. */
static void test_burst(void **state)
{
	int fd;

	fixture_start(&f, IMAGE_BYTES, NULL, NULL);
	fd = client_of(f.minor);
	throttle(f.minor, "-i 2 -B 64k -u 60000");
	send_all(fd, NBD_CMD_WRITE, 20, SIZE);
	receive_all(fd, NBD_CMD_WRITE, 20, SIZE);
	assert_int_equal(member_of_throttle(f.minor, "delayed"), 0);
	throttle(f.minor, "-i 0 -B 512 -u 100");
	send_all(fd, NBD_CMD_WRITE_ZEROES, 20, IMAGE_BYTES);
	receive_all(fd, NBD_CMD_WRITE_ZEROES, 20, IMAGE_BYTES);
	send_all(fd, NBD_CMD_TRIM, 20, IMAGE_BYTES);
	receive_all(fd, NBD_CMD_TRIM, 20, IMAGE_BYTES);
	assert_int_equal(member_of_throttle(f.minor, "delayed"), 0);
	client_leave(fd);
	fixture_stop(&f);
}

/* Zeros that have to be written are bytes. */
static void test_zeroing(void **state)
{
	char target[300];
	int minor, fd;

	if (!hanging_start(scratch_path("mnt")))
		skip();
	fixture_start(&f, IMAGE_BYTES, NULL, NULL);
	snprintf(target, sizeof(target), "aio:%s/image", hanging.path);	/* this file system punches no holes */
	minor = add_disk(target);
	fd = client_of(minor);
	throttle(minor, "-B 4M -u 100");
	takes_at_least(fd, NBD_CMD_WRITE_ZEROES, 4, HANGING_BYTES, 3 * 1000 / 4 - 100);
	client_leave(fd);
	remove_disk(minor);
	fixture_stop(&f);
	assert_true(hanging_wait_open(0));
	hanging_stop();
}

/* With requests that are held for hours. */
static void test_neighbour(void **state)
{
	char target[300], *all = malloc(IMAGE_BYTES);
	int minor, fd, other;

	fixture_start(&f, IMAGE_BYTES, NULL, NULL);
	snprintf(target, sizeof(target), "aio:%s", scratch_file("other", IMAGE_BYTES));
	minor = add_disk(target);
	fd = client_of(f.minor);
	other = client_of(minor);
	throttle(f.minor, "-B 512 -u 100");
	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, 0, IMAGE_BYTES, all), 0);
	send_all(fd, NBD_CMD_READ, MAX_REQUESTS, SIZE);
	for (unsigned i = 0; i < 10; i++) {
		send_all(other, NBD_CMD_WRITE, MAX_REQUESTS, SIZE);
		receive_all(other, NBD_CMD_WRITE, MAX_REQUESTS, SIZE);
		send_all(other, NBD_CMD_FLUSH, 1, 0);
		receive_all(other, NBD_CMD_FLUSH, 1, 0);
	}
	assert_int_equal(member_of_throttle(f.minor, "waiting"), MAX_REQUESTS);
	throttle(f.minor, "-B 0");
	receive_all(fd, NBD_CMD_READ, MAX_REQUESTS, SIZE);
	client_leave(fd);
	client_leave(other);
	remove_disk(minor);
	fixture_stop(&f);
	free(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_burst),
		cmocka_unit_test(test_zeroing),
		cmocka_unit_test(test_neighbour),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
