/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_syscall.h - one engine_io by plain, blocking system calls.
 */
#ifndef TAPDISK_ENGINE_SYSCALL_H
#define TAPDISK_ENGINE_SYSCALL_H

#include "engine.h"

/* Do what is left of @io: bytes moved (READ, WRITE; may be short), 0, or -errno. */
long engine_syscall(const struct engine_io *io);

#endif
