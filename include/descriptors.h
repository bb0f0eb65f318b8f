/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * descriptors.h - descriptors that go over a Unix socket, with a message.
 */
#ifndef TAPSNAP_DESCRIPTORS_H
#define TAPSNAP_DESCRIPTORS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "protocol.h"

/* What they need of memory besides the message. */
union descriptors {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * PROTOCOL_MAX_FDS)];
};

/* To be sent with @message, with its first byte; at most PROTOCOL_MAX_FDS. They stay the caller's. */
void descriptors_attach(struct msghdr *message, union descriptors *room, const int *fds, unsigned count);

/* To be received with @message: room for @count. */
void descriptors_expect(struct msghdr *message, union descriptors *room, unsigned count);
/* Those that came with it. What is left of @fds is -1; what is more than @count is closed. How many came. */
unsigned descriptors_take(struct msghdr *message, int *fds, unsigned count);

/* One, with a byte. @flags: sendmsg()'s. */
bool descriptor_send(int socket, int fd, int flags);

#endif
