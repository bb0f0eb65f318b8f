/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "processor.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_LOOK 256u		/* batches */
#define LAST_LOOK 65536u

static unsigned channels, batches, next_look = FIRST_LOOK;

void processor_channel_name(char name[16], pid_t pid)
{
	snprintf(name, 16, "tapdisk-%d", (int)pid);
}

/* " 52:  1  3  xen-dyn-lateeoi  -event  evtchn:tapdisk-315": is it that one? Then its number, else -1. */
static int line_number(char *line, const char *name)
{
	char *end, *last;
	long number = strtol(line, &end, 10);

	line[strcspn(line, "\n")] = '\0';
	last = strrchr(line, ' ');
	if (end == line || *end != ':' || !last || strcmp(last + 1, name) || number < 0 || number > 1 << 24)
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

/* Where the channel's interrupts go; -1: not to be known. */
static int interrupt_processor(void)
{
	char name[32] = "evtchn:", path[64];
	int number = -1, processor = -1;
	FILE *file;

	processor_channel_name(name + strlen(name), getpid());
	file = fopen("/proc/interrupts", "re");
	if (file) {
		number = processor_find_interrupt(file, name);
		fclose(file);
	}
	if (number < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/irq/%d/effective_affinity_list", number);
	file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%d", &processor) != 1)
			processor = -1;
		fclose(file);
	}
	return processor;
}

/* There, and then free to go. */
static void go_to(int processor)
{
	cpu_set_t all, one;

	if (processor < 0 || processor >= CPU_SETSIZE || processor == sched_getcpu())
		return;
	if (sched_getaffinity(0, sizeof(all), &all) || !CPU_ISSET(processor, &all))
		return;
	CPU_ZERO(&one);
	CPU_SET(processor, &one);
	if (!sched_setaffinity(0, sizeof(one), &one))
		sched_setaffinity(0, sizeof(all), &all);
}

void processor_channel_bound(void)
{
	channels++;
	batches = 0;
	next_look = FIRST_LOOK;
	if (channels == 1)
		go_to(interrupt_processor());
}

void processor_channel_unbound(void)
{
	channels--;
}

void processor_batch(void)
{
	if (channels != 1 || ++batches < next_look)
		return;
	batches = 0;
	next_look = next_look < LAST_LOOK ? 2 * next_look : LAST_LOOK;
	go_to(interrupt_processor());
}
