/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * descriptors.h - descriptors sent with a message over a Unix socket.
 */
#ifndef TAPSNAP_DESCRIPTORS_H
#define TAPSNAP_DESCRIPTORS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "protocol.h"

/* Buffer for the control data of a message. */
union descriptors {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(sizeof(int) * PROTOCOL_MAX_FDS)];
};

/* Attach descriptors to @message, sent with its first byte; at most PROTOCOL_MAX_FDS. They stay the caller's. */
void descriptors_attach(struct msghdr *message, union descriptors *room, const int *fds, unsigned count);

/* Prepare @message to receive up to @count descriptors. */
void descriptors_expect(struct msghdr *message, union descriptors *room, unsigned count);
/* Store the received descriptors in @fds, the rest is set to -1; close any beyond @count. Returns how many came. */
unsigned descriptors_take(struct msghdr *message, int *fds, unsigned count);

/* Send one descriptor with one byte. @flags: for sendmsg(). */
bool descriptor_send(int socket, int fd, int flags);

#endif
