/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * main.c - arguments, and the witnesses: well-behaved frontends with disks of
 * their own that are connected all the while.
 */
#include <stdarg.h>
#include <time.h>

#include "array.h"
#include "frontend.h"

#define MAX_WITNESSES	4
#define WITNESS_REQUESTS 8

struct xs_handle *store;

static const char *scenario_name, *command;
static struct disk disk, witness_disks[MAX_WITNESSES];
static struct blkfront *witness_fronts[MAX_WITNESSES];
static struct load witness_loads[MAX_WITNESSES];
static unsigned nr_witnesses;

static const struct {
	const char *name;
	void (*run)(struct disk *disk);
} scenarios[] = {
	{ "shapes", scenario_shapes },
	{ "restart", scenario_restart },
	{ "closing", scenario_closing },
	{ "vanish", scenario_vanish },
	{ "quiet", scenario_quiet },
	{ "resize", scenario_resize },
	{ "nodes", scenario_nodes },
	{ "requests", scenario_requests },
	{ "revoke", scenario_revoke },
	{ "indices", scenario_indices },
	{ "storm", scenario_storm },
	{ "fuzz", scenario_fuzz },
	{ "siege", scenario_siege },
};

static void say(const char *kind, const char *format, va_list args)
{
	printf("# %s: %s: ", kind, scenario_name);
	vprintf(format, args);
	putchar('\n');
	fflush(stdout);
}

void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("FAILED", format, args);
	va_end(args);
	exit(EXIT_FAILURE);
}

void step(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("step", format, args);
	va_end(args);
}

void must(int result, const char *what)
{
	if (result)
		fail("%s: %s", what, strerror(-result));
}

void run_command(void)
{
	int status;

	if (!command)
		fail("needs a command");
	status = system(command);
	if (status)
		fail("'%s' ended with status %#x", command, status);
}

void check_witnesses(void)
{
	for (unsigned i = 0; i < nr_witnesses; i++) {
		load_run(&witness_loads[i], WITNESS_REQUESTS);
		load_drain(&witness_loads[i]);
	}
}

static void start_witnesses(char **arguments, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		disk_parse(&witness_disks[i], i + 1, arguments[i]);
		disk_add(&witness_disks[i]);
		witness_fronts[i] = disk_connect(&witness_disks[i], (struct blkfront_options){ 0 });
		load_init(&witness_loads[i], &witness_disks[i], witness_fronts[i], 1);
	}
	nr_witnesses = count;
	check_witnesses();
}

static void stop_witnesses(void)
{
	check_witnesses();
	for (unsigned i = 0; i < nr_witnesses; i++) {
		disk_disconnect(&witness_disks[i], witness_fronts[i]);
		disk_remove(&witness_disks[i]);
		disk_verify_image(&witness_disks[i]);
	}
}

static void run(void (*scenario)(struct disk *disk), const char *argument)
{
	if (!strchr(argument, ':')) {
		disk_find(&disk, argument);
		scenario(&disk);
		return;
	}
	disk_parse(&disk, 0, argument);
	disk_add(&disk);
	scenario(&disk);
	disk_remove(&disk);
}

static int usage(void)
{
	fputs("Usage: frontend SCENARIO PID:MINOR:IMAGE [PID:MINOR:IMAGE...] [-- COMMAND]\n"
	      "       frontend siege device/vbd/DEVID (in a guest)\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	int disks = 0;

	while (disks + 2 < argc && strcmp(argv[disks + 2], "--"))
		disks++;
	if (disks < 1 || disks > 1 + MAX_WITNESSES)
		return usage();
	if (disks + 3 < argc)
		command = argv[disks + 3];
	scenario_name = argv[1];
	store = xs_open(0);
	if (!store)
		fail("cannot reach xenstored: %m");
	for (unsigned i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (strcmp(scenarios[i].name, scenario_name))
			continue;
		start_witnesses(argv + 3, disks - 1);
		run(scenarios[i].run, argv[2]);
		stop_witnesses();
		xs_close(store);
		return EXIT_SUCCESS;
	}
	return usage();
}
