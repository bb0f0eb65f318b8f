/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_input.h - a fuzzer's input, taken piece by piece. Zeros follow its end.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct input {
	const uint8_t *data;
	size_t size;
};

static inline void must(int ret)
{
	if (ret)
		abort();
}

static inline uint8_t next(struct input *input)
{
	if (!input->size)
		return 0;
	input->size--;
	return *input->data++;
}

/* Take up to @length bytes; returns their number. */
static inline size_t bytes(struct input *input, size_t length, const uint8_t **at)
{
	if (length > input->size)
		length = input->size;
	*at = input->data;
	input->data += length;
	input->size -= length;
	return length;
}

#endif
