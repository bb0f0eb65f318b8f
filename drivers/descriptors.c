/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * descriptors.c - pass descriptors over sockets (descriptors.h).
 */
#include "descriptors.h"

#include <string.h>
#include <unistd.h>

void descriptors_attach(struct msghdr *message, union descriptors *room, const int *fds, unsigned count)
{
	size_t bytes = count * sizeof(*fds);

	memset(room, 0, sizeof(*room));
	room->header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(bytes), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(&room->header), fds, bytes);
	message->msg_control = room;
	message->msg_controllen = CMSG_SPACE(bytes);
}

void descriptors_expect(struct msghdr *message, union descriptors *room, unsigned count)
{
	message->msg_control = room;
	message->msg_controllen = CMSG_SPACE(count * sizeof(int));
}

unsigned descriptors_take(struct msghdr *message, int *fds, unsigned count)
{
	struct cmsghdr *header;
	unsigned came = 0;
	size_t bytes;
	int fd;

	for (unsigned i = 0; i < count; i++)
		fds[i] = -1;
	for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		for (bytes = 0; CMSG_LEN(bytes + sizeof(fd)) <= header->cmsg_len; bytes += sizeof(fd)) {
			memcpy(&fd, CMSG_DATA(header) + bytes, sizeof(fd));
			if (came < count)
				fds[came] = fd;
			else
				close(fd);
			came++;
		}
	}
	return came;
}

bool descriptor_send(int socket, int fd, int flags)
{
	union descriptors room;
	struct iovec part = { "", 1 };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	descriptors_attach(&message, &room, &fd, 1);
	return sendmsg(socket, &message, flags) == 1;
}
