/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *              bound alone                      waits too long
 *   anywhere ──────────────► where the         ──────────────► resting: anywhere,
 *      ▲                     interrupts arrive ◄────────────── for 1, 2, ... 64 s
 *      └─── unbound, or a second one bound ────┘   rested
 *
 * If that processor is unknown or not allowed: as if it had waited too long.
 */
#include "processor.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
#define LOOK_NS (100 * MS)
#define ASK_NS (10000 * MS)		/* look up the processor again: irqbalance may have moved the interrupt */
#define FIRST_REST_NS (1000 * MS)
#define LAST_REST_NS (64000 * MS)
#define MAX_INTERRUPT (1 << 24)		/* more than Linux has */

static unsigned channels;
static bool used;
static struct {
	bool here;			/* the thread stays where the interrupts arrive */
	int interrupt;			/* its number; -1: not known yet */
	cpu_set_t all, one;		/* affinity otherwise; affinity while `here` */
	uint64_t look, ask, rest_until;	/* when to do so next, ns */
	uint64_t rest_ns;		/* length of the next rest */
	uint64_t looked, waited;	/* last look, and how long the thread had waited for a processor by then, ns */
} stay = { .interrupt = -1, .rest_ns = FIRST_REST_NS };

void processor_channel_name(char name[16], pid_t pid)
{
	snprintf(name, 16, "tapdisk-%d", (int)pid);
}

/* " 52:  1  3  xen-dyn-lateeoi  -event  evtchn:tapdisk-315": the number if the name matches, else -1. */
static int line_number(char *line, const char *name)
{
	char *end, *last;
	long number = strtol(line, &end, 10);

	line[strcspn(line, "\n")] = '\0';
	last = strrchr(line, ' ');
	if (end == line || *end != ':' || !last || strcmp(last + 1, name) || number < 0 || number > MAX_INTERRUPT)
		return -1;
	return (int)number;
}

int processor_find_interrupt(FILE *interrupts, const char *name)
{
	int found = -ENOENT, number;
	char *line = NULL;
	size_t room = 0;

	while (getline(&line, &room, interrupts) > 0) {
		number = line_number(line, name);
		if (number >= 0)
			found = found == -ENOENT ? number : -ENOTUNIQ;
	}
	free(line);
	return found;
}

/* -1: none, or several. Reads the table of all interrupts, so call it rarely. */
static int channel_interrupt(void)
{
	char name[32] = "evtchn:";
	FILE *file = fopen("/proc/interrupts", "re");
	int number = -1;

	processor_channel_name(name + strlen(name), getpid());
	if (file) {
		number = processor_find_interrupt(file, name);
		fclose(file);
	}
	return number < 0 ? -1 : number;
}

/* The processor of the channel's interrupts; -1: unknown. */
static int interrupt_processor(void)
{
	int processor = -1;
	char path[64];
	FILE *file;

	if (stay.interrupt < 0)
		stay.interrupt = channel_interrupt();
	if (stay.interrupt < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/irq/%d/effective_affinity_list", stay.interrupt);
	file = fopen(path, "re");
	if (!file) {
		stay.interrupt = -1;
		return -1;
	}
	if (fscanf(file, "%d", &processor) != 1 || processor >= CPU_SETSIZE)
		processor = -1;
	fclose(file);
	return processor;
}

/* Total time that this thread was runnable and did not run; false: the kernel does not count it. */
static bool thread_waited(uint64_t *ns)
{
	FILE *file = fopen("/proc/thread-self/schedstat", "re");
	unsigned long long ran, waited;
	bool known = file && fscanf(file, "%llu %llu", &ran, &waited) == 2 && ran;

	if (file)
		fclose(file);
	if (known)
		*ns = waited;
	return known;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

/* Read the thread's affinity. All online processors means all, also those that come online later. */
static bool learn_all(void)
{
	if (sched_getaffinity(0, sizeof(stay.all), &stay.all))
		return false;
	if (CPU_COUNT(&stay.all) == sysconf(_SC_NPROCESSORS_ONLN))
		memset(&stay.all, 0xff, sizeof(stay.all));
	return true;
}

/* Does not change the affinity if another program has set it meanwhile. */
void processor_leave(void)
{
	cpu_set_t current;

	if (stay.here && !sched_getaffinity(0, sizeof(current), &current) && CPU_EQUAL(&current, &stay.one))
		sched_setaffinity(0, sizeof(stay.all), &stay.all);
	stay.here = false;
}

static void rest(uint64_t now)
{
	processor_leave();
	stay.rest_until = now + stay.rest_ns;
	stay.rest_ns = stay.rest_ns < LAST_REST_NS ? 2 * stay.rest_ns : LAST_REST_NS;
}

static void come(uint64_t now)
{
	int processor = interrupt_processor();

	processor_leave();
	CPU_ZERO(&stay.one);
	stay.here = processor >= 0 && thread_waited(&stay.waited) && learn_all() && CPU_ISSET(processor, &stay.all);
	if (stay.here) {
		CPU_SET(processor, &stay.one);
		stay.here = !sched_setaffinity(0, sizeof(stay.one), &stay.one);
	}
	stay.looked = now;
	stay.ask = now + ASK_NS;
	if (!stay.here)
		rest(now);
}

static bool waits_too_long(uint64_t waited, uint64_t time)
{
	return waited > time / 10;
}

static void look(uint64_t now)
{
	uint64_t waited;

	if (!stay.here) {
		if (now >= stay.rest_until)
			come(now);
		return;
	}
	if (!thread_waited(&waited) || waits_too_long(waited - stay.waited, now - stay.looked)) {
		rest(now);
		return;
	}
	stay.waited = waited;
	stay.looked = now;
	if (now >= stay.ask) {
		stay.rest_ns = FIRST_REST_NS;
		come(now);
	}
}

void processor_channel_bound(void)
{
	channels++;
	stay.interrupt = -1;
	if (channels == 1)
		come(now_ns());
	else
		processor_leave();
}

void processor_channel_unbound(void)
{
	channels--;
	stay.interrupt = -1;
	processor_leave();
}

void processor_used(void)
{
	used = true;
}

void processor_turn(void)
{
	uint64_t now;

	if (channels != 1 || !used)
		return;
	now = now_ns();
	if (now < stay.look)
		return;
	used = false;
	stay.look = now + LOOK_NS;
	look(now);
}
