/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * minor.h - a tapdisk claims a minor by a lock on its marker file.
 */
#ifndef TAPDISK_MINOR_H
#define TAPDISK_MINOR_H

#include "error.h"

/*
 * Lock @minor's marker. 0 and the descriptor that holds the lock in *@fd;
 * -EINVAL: out of range, -ENOENT: not allocated, -EBUSY: locked by another tapdisk.
 * A process must not lock a minor twice: closing either would drop the lock.
 */
int minor_lock(int minor, int *fd, struct error_text *text);
void minor_unlock(int fd);

#endif
