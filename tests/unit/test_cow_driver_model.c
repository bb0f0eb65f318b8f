/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_model.c - the driver `cow` with many requests in flight,
 * completed in any order, while snapshots are taken, read, deleted and reverted
 * to. Each read returns a value that can be there; a snapshot holds the
 * requests that had ended when it was taken; and after each close the tools
 * find the same contents in the store, and no damage. In a file and, as root,
 * on a loop device.
 *
 * TAPSNAP_SEED repeats one run, TAPSNAP_SEEDS says how many.
 */
#include "cow_base.h"
#include "cow_model.h"
#include "live_run.h"
#include "scratch.h"

static void run_seeds(struct live_options options, unsigned count)
{
	uint64_t first = model_first_seed(1), seeds = model_seeds(count);

	for (options.seed = first; options.seed < first + seeds; options.seed++)
		live_run(&options, scratch_dir);
}

static void test_alone(void **state)
{
	run_seeds((struct live_options){ 0 }, 12);
}

static void test_on_a_raw_base(void **state)
{
	run_seeds((struct live_options){ .base = LIVE_RAW_BASE, .small = true }, 12);
}

static void test_on_a_snapshot(void **state)
{
	run_seeds((struct live_options){ .base = LIVE_COW_BASE }, 8);
}

/* The store is too small for all writes: those that wait for room continue when there is some. */
static void test_without_room(void **state)
{
	live_waited = 0;
	run_seeds((struct live_options){ .small = true, .full = true }, 8);
	run_seeds((struct live_options){ .base = LIVE_RAW_BASE, .small = true, .full = true }, 8);
	assert_true(live_waited > 0);
}

#define DEVICE_BYTES (3u << 20)		/* as much as the small ones have */
#define MORE_BYTES (2u << 20)

static const char *device_file, *device;
static uint64_t device_bytes;

static void device_resize(uint64_t bytes)
{
	char command[64];

	device_bytes = bytes;
	assert_int_equal(truncate(device_file, bytes), 0);
	snprintf(command, sizeof(command), "losetup -c %s", device);
	assert_int_equal(scratch_run(command), 0);
}

/* The device had other contents when the store was made. */
static bool behind_the_old_end(void)
{
	static uint8_t data[MORE_BYTES];
	int fd = open(device, O_RDONLY | O_CLOEXEC);
	ssize_t n = pread(fd, data, sizeof(data), DEVICE_BYTES);

	close(fd);
	assert_int_equal(n, sizeof(data));
	return !cow_all_zero(data, sizeof(data));
}

/* Space that appeared halfway through the run is in use by now, without another open. */
static void device_enlarge(void)
{
	if (device_bytes > DEVICE_BYTES)
		assert_true(behind_the_old_end());
	device_resize(device_bytes + MORE_BYTES);
}

/* A device has a fixed size and gives space back in its own way; it grows when its administrator enlarges it. */
static void test_on_a_device(void **state)
{
	struct live_options options = { .small = true, .full = true, .half_time = device_enlarge };
	uint64_t first = model_first_seed(1), seeds = model_seeds(6);

	device_file = scratch_file("device", DEVICE_BYTES);
	device = scratch_loop(device_file, 512);
	if (!device)
		skip();
	options.device = device;
	live_waited = 0;
	for (options.seed = first; options.seed < first + seeds; options.seed++) {
		device_resize(DEVICE_BYTES);
		options.base = options.seed % 2 ? LIVE_NO_BASE : LIVE_RAW_BASE;
		live_run(&options, scratch_dir);
	}
	assert_true(live_waited > 0);
	scratch_loop_remove(device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_on_a_raw_base),
		cmocka_unit_test(test_on_a_snapshot),
		cmocka_unit_test(test_without_room),
		cmocka_unit_test(test_on_a_device),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, many requests in flight", tests, NULL, NULL);
}
