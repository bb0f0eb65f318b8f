/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * size.h - parse a size as users write it: "10G".
 */
#ifndef TAPSNAP_SIZE_H
#define TAPSNAP_SIZE_H

#include <stdint.h>

#include "error.h"

/* Digits and one of b k M G T P, powers of 1024; a multiple of a sector, below 2^63. 0 or -errno with a text. */
int size_parse(const char *text, uint64_t *bytes, struct error_text *error);

#endif
