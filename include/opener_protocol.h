/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opener_protocol.h - the protocol between path.h (drivers/path.c) and the
 * opener (tapdisk/opener.c).
 *
 * The socket preserves message boundaries. A request is a struct path_request
 * and its names, without NULs. With it come descriptors: a socket for the
 * answer, so that requests of several threads do not mix, and the descriptor
 * that the operation applies to, if any. The answer is one byte with a
 * descriptor, if the operation returns one, and then a struct path_reply and a
 * name. The opener closes its copy of the descriptor before it sends the reply:
 * the copy would keep the lock.
 */
#ifndef TAPSNAP_OPENER_PROTOCOL_H
#define TAPSNAP_OPENER_PROTOCOL_H

#include <stdint.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum path_operation {
	PATH_OPEN = 1, PATH_STAT, PATH_LSTAT, PATH_STATFS, PATH_REAL, PATH_MKDIR, PATH_RMDIR, PATH_REMOVE,
	PATH_RENAME, PATH_BIND,
};

struct path_request {
	uint32_t operation;		/* enum path_operation */
	int32_t flags;
	uint32_t mode;
	uint16_t length[2];		/* of the names, below PATH_MAX */
};

struct path_reply {
	int32_t error;			/* 0 or -errno */
	uint32_t length;		/* of the name that follows */
	union {
		struct stat st;
		struct statfs fs;
	};
};

#define PATH_OWN_FD "/proc/self/fd/"	/* with a descriptor in the request: refers to that */

#endif
