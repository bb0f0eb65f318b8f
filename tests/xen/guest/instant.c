/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * instant.c - are the memory of a guest and its disks of one instant?
 *
 *   instant run DEVICE-A DEVICE-B     in a guest: writes number n to A, then n to B, then n + 1 ...
 *   instant order IMAGE-A IMAGE-B LEAST
 *                                     in dom0: what both images hold is of one instant, not before number LEAST
 *   instant gap                       in a guest: no disk, only the clock
 *
 * Memory knows which numbers were acknowledged. Write n goes to block
 * (n * STRIDE) % BLOCKS, so memory knows what each block holds, too. Each block
 * is read and compared before it is written again, and all of them on SIGUSR1:
 * "@@instant ok N gap MS@@", or "@@instant wrong ...@@" and the end. The gap
 * is the longest time between two turns since the last such line: how
 * long the guest stood still; with "gap" nothing else is done and looked at. B never holds a number that A has not, and is at most one behind.
 */
#define _GNU_SOURCE	/* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_SIZE	4096
#define WORDS		(BLOCK_SIZE / sizeof(uint64_t))
#define BLOCKS		1024u		/* 4 MiB; a power of two */
#define READ_BLOCKS	64u		/* read at a time when all are checked; divides BLOCKS */
#define STRIDE		389u		/* odd, so that every block is written once in BLOCKS numbers */

struct disk {
	const char *name;
	int fd;
	uint64_t acknowledged;		/* the last number */
};

static volatile sig_atomic_t asked;

static void on_signal(int signal)
{
	asked = 1;
}

static unsigned block_of(uint64_t number)
{
	return (number * STRIDE) % BLOCKS;
}

/* The last number up to @acknowledged that was written to @block; 0: none. */
static uint64_t last_of(unsigned block, uint64_t acknowledged)
{
	uint64_t number = acknowledged;

	while (number && number + BLOCKS > acknowledged && block_of(number) != block)
		number--;
	return number + BLOCKS > acknowledged ? number : 0;
}

static uint64_t *buffer(void)
{
	static uint64_t words[READ_BLOCKS * WORDS] __attribute__((aligned(BLOCK_SIZE)));

	return words;
}

static int write_number(struct disk *disk, uint64_t number)
{
	uint64_t *words = buffer();

	for (size_t i = 0; i < WORDS; i++)
		words[i] = number;
	if (pwrite(disk->fd, words, BLOCK_SIZE, (off_t)block_of(number) * BLOCK_SIZE) != BLOCK_SIZE) {
		printf("@@instant wrong: write %llu to %s: %s@@\n", (unsigned long long)number, disk->name, strerror(errno));
		return 1;
	}
	disk->acknowledged = number;
	return 0;
}

/* Reads @count blocks from @block on into the buffer. */
static int read_blocks(const struct disk *disk, unsigned block, unsigned count)
{
	ssize_t length = (ssize_t)count * BLOCK_SIZE;

	if (pread(disk->fd, buffer(), length, (off_t)block * BLOCK_SIZE) == length)
		return 0;
	printf("@@instant wrong: reading block %u of %s: %s@@\n", block, disk->name, strerror(errno));
	return 1;
}

/* The number that a block holds; all its words must agree. */
static int number_in(const struct disk *disk, unsigned block, const uint64_t *words, uint64_t *number)
{
	*number = words[0];
	for (size_t i = 1; i < WORDS; i++) {
		if (words[i] != words[0]) {
			printf("@@instant wrong: block %u of %s is torn@@\n", block, disk->name);
			return 1;
		}
	}
	return 0;
}

/* @words: what was read of it */
static int check_block(const struct disk *disk, unsigned block, const uint64_t *words)
{
	uint64_t expected = last_of(block, disk->acknowledged), number;

	if (number_in(disk, block, words, &number))
		return 1;
	if (number == expected)
		return 0;
	printf("@@instant wrong: block %u of %s holds %llu, %llu is the last that was acknowledged for it, of %llu@@\n", block,
	       disk->name, (unsigned long long)number, (unsigned long long)expected, (unsigned long long)disk->acknowledged);
	return 1;
}

static int check_disk(const struct disk *disk)
{
	for (unsigned block = 0; block < BLOCKS; block++) {
		unsigned at = block % READ_BLOCKS;

		if ((!at && read_blocks(disk, block, READ_BLOCKS)) || check_block(disk, block, buffer() + at * WORDS))
			return 1;
	}
	return 0;
}

static int check_all(const struct disk *disks)
{
	return check_disk(&disks[0]) || check_disk(&disks[1]);
}

static int step(struct disk *disk, uint64_t number)
{
	unsigned block = block_of(number);

	return read_blocks(disk, block, 1) || check_block(disk, block, buffer()) || write_number(disk, number);
}

static double clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* The longest time between two calls since answer() was given. */
static struct { double last, longest; } gap;

static void note_time(void)
{
	double now = clock_ms();

	if (gap.last && now - gap.last > gap.longest)
		gap.longest = now - gap.last;
	gap.last = now;
}

static void answer(uint64_t number)
{
	printf("@@instant ok %llu gap %.0f@@\n", (unsigned long long)number, gap.longest);
	fflush(stdout);
	asked = 0;
	gap.longest = gap.last = 0;
}

static int run(struct disk *disks)
{
	for (uint64_t number = 1; ; number++) {
		if (step(&disks[0], number) || step(&disks[1], number))
			return 1;
		note_time();
		if (!asked)
			continue;
		if (check_all(disks))
			return 1;
		answer(number);
	}
}

static _Noreturn void run_gap(void)
{
	for (uint64_t turns = 0; ; turns++) {
		usleep(1000);
		note_time();
		if (asked)
			answer(turns);
	}
}

static int find_last(struct disk *disk)
{
	uint64_t number;

	for (unsigned block = 0; block < BLOCKS; block++) {
		if (read_blocks(disk, block, 1) || number_in(disk, block, buffer(), &number))
			return 1;
		if (number > disk->acknowledged)
			disk->acknowledged = number;
	}
	return 0;
}

/* Without @least two empty images, or those of an old snapshot, would be of one instant, too. */
static int check_order(struct disk *disks, unsigned long long least)
{
	unsigned long long a, b;

	if (find_last(&disks[0]) || find_last(&disks[1]) || check_all(disks))
		return 1;
	a = disks[0].acknowledged;
	b = disks[1].acknowledged;
	printf("@@instant order: %llu and %llu, %llu was acknowledged before@@\n", a, b, least);
	return b < least || (a != b && a != b + 1);
}

/* 0: not a number, or 0, which nothing would be before */
static unsigned long long parse_least(const char *text)
{
	char *end;
	unsigned long long least = strtoull(text, &end, 10);

	return *end ? 0 : least;
}

int main(int argc, char **argv)
{
	struct disk disks[2] = { 0 };
	int running = argc == 4 && !strcmp(argv[1], "run");
	unsigned long long least = argc == 5 && !strcmp(argv[1], "order") ? parse_least(argv[4]) : 0;

	signal(SIGUSR1, on_signal);
	if (argc == 2 && !strcmp(argv[1], "gap"))
		run_gap();
	if (!running && !least) {
		fprintf(stderr, "usage: instant run DEVICE-A DEVICE-B | instant order IMAGE-A IMAGE-B LEAST | instant gap\n");
		return 2;
	}
	for (unsigned i = 0; i < 2; i++) {
		disks[i].name = argv[2 + i];
		disks[i].fd = open(disks[i].name, running ? O_RDWR | O_DIRECT | O_CLOEXEC : O_RDONLY | O_CLOEXEC);
		if (disks[i].fd < 0) {
			perror(disks[i].name);
			return 1;
		}
	}
	return running ? run(disks) : check_order(disks, least);
}
