/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opener_protocol.h - what goes over the socket between who uses path.h
 * (drivers/path.c) and its opener (tapdisk/opener.c).
 *
 * The socket keeps messages apart: a request, with the names behind it,
 * without their ends; with it comes a socket for the answer, so that requests
 * of several threads do not meet, and what an operation is about, if that is a
 * descriptor. Answers are a descriptor with one byte, if the operation gives
 * one, and then, when the opener has no copy of that any more (its lock would
 * be kept, too), a struct path_reply and a name.
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
	uint32_t length;		/* of the name behind this */
	union {
		struct stat st;
		struct statfs fs;
	};
};

#define PATH_OWN_FD "/proc/self/fd/"	/* with a descriptor in the request: that one */

#endif
