/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * flushlog.c - does a completed flush mean what it says?
 *
 *   flushlog write DEVICE            in a guest: numbered block writes, and after each
 *                                    flush that succeeded the last number, on stdout
 *   flushlog verify IMAGE NUMBER     in dom0: everything up to NUMBER must be there
 *
 * Invariants: write number n goes to block (n * STRIDE) % BLOCKS and fills each
 * 512-byte sector with copies of n, so that a later, unflushed write may have
 * replaced any sector of it, and nothing else may have. STRIDE is odd and BLOCKS
 * a power of two, so every block is written once in BLOCKS numbers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_SIZE	4096
#define BLOCKS		4096u		/* 16 MiB */
#define STRIDE		1549u
#define BATCH		32		/* writes per flush: the page cache sends them at the same time */
#define WORDS		(512 / sizeof(uint64_t))

static unsigned block_of(uint64_t number)
{
	return (number * STRIDE) % BLOCKS;
}

static int write_numbered(int fd, uint64_t number)
{
	uint64_t words[BLOCK_SIZE / sizeof(uint64_t)];

	for (size_t i = 0; i < BLOCK_SIZE / sizeof(uint64_t); i++)
		words[i] = number;
	if (pwrite(fd, words, BLOCK_SIZE, (off_t)block_of(number) * BLOCK_SIZE) != BLOCK_SIZE)
		return -errno;
	return 0;
}

static int write_for_ever(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0) {
		perror(path);
		return 1;
	}
	for (uint64_t number = 1; !error; number++) {
		error = write_numbered(fd, number);
		if (error || number % BATCH)
			continue;
		if (fdatasync(fd)) {
			error = -errno;
			break;
		}
		printf("@@flushed %llu@@\n", (unsigned long long)number);
		fflush(stdout);
	}
	printf("@@stopped: %s@@\n", strerror(-error));
	close(fd);
	return 1;
}

/* The last number up to @flushed that was written to @block, or 0. */
static uint64_t last_flushed(unsigned block, uint64_t flushed)
{
	uint64_t number = flushed;

	while (number && number + BLOCKS > flushed && block_of(number) != block)
		number--;
	return number + BLOCKS > flushed ? number : 0;
}

static int verify_block(unsigned block, const uint64_t *words, uint64_t least)
{
	for (size_t sector = 0; sector < BLOCK_SIZE / 512; sector++) {
		const uint64_t *s = words + sector * WORDS;

		if (s[0] < least || (s[0] && block_of(s[0]) != block)) {
			fprintf(stderr, "block %u sector %zu: write %llu, expected %llu or a later one of this block\n",
				block, sector, (unsigned long long)s[0], (unsigned long long)least);
			return 1;
		}
		for (size_t i = 1; i < WORDS; i++) {
			if (s[i] != s[0]) {
				fprintf(stderr, "block %u sector %zu: torn inside the sector\n", block, sector);
				return 1;
			}
		}
	}
	return 0;
}

static int verify(const char *path, uint64_t flushed)
{
	uint64_t words[BLOCK_SIZE / sizeof(uint64_t)];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int bad = 0;

	if (fd < 0) {
		perror(path);
		return 1;
	}
	for (unsigned block = 0; block < BLOCKS; block++) {
		if (pread(fd, words, BLOCK_SIZE, (off_t)block * BLOCK_SIZE) != BLOCK_SIZE) {
			fprintf(stderr, "%s: block %u: short read\n", path, block);
			close(fd);
			return 1;
		}
		bad += verify_block(block, words, last_flushed(block, flushed));
	}
	close(fd);
	printf("%d of %u blocks lost a flushed write\n", bad, BLOCKS);
	return bad != 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "write"))
		return write_for_ever(argv[2]);
	if (argc == 4 && !strcmp(argv[1], "verify"))
		return verify(argv[2], strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: flushlog write DEVICE | flushlog verify IMAGE NUMBER\n");
	return 2;
}
