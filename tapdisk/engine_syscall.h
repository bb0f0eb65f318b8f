/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_syscall.h - does one engine_io with blocking system calls.
 */
#ifndef TAPDISK_ENGINE_SYSCALL_H
#define TAPDISK_ENGINE_SYSCALL_H

#include "engine.h"

/* Do the rest of @io. Returns bytes moved (READ, WRITE; may be short), 0, or -errno. */
long engine_syscall(const struct engine_io *io);

#endif
