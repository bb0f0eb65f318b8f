/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_handshake.h - an NBD client's way from its first byte to the export:
 * bytes in, bytes out, no socket.
 */
#ifndef TAPDISK_NBD_HANDSHAKE_H
#define TAPDISK_NBD_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Option data: a name (at most 4096 bytes, proto.md "Conventions") and a list of information requests. */
#define NBD_MAX_OPTION_DATA	8192u
/* An honest client sends three or four; one that goes on for ever is cut off. */
#define NBD_MAX_OPTIONS		64u

/* What the client is told about the disk. */
struct nbd_export {
	uint64_t size;				/* bytes */
	uint16_t flags;				/* NBD_FLAG_*, transmission */
	uint32_t minimum, preferred, maximum;	/* block sizes and largest payload, bytes */
};

enum nbd_handshake_result {
	NBD_HANDSHAKE_MORE,		/* not a whole message yet; nothing consumed */
	NBD_HANDSHAKE_CONTINUE,		/* one message consumed; its reply has to go out before the next is looked at */
	NBD_HANDSHAKE_TRANSMISSION,	/* the same, and requests follow */
	NBD_HANDSHAKE_END,		/* the same, and the client wants to leave */
	NBD_HANDSHAKE_BAD,		/* hang up; why is in problem */
};

struct nbd_handshake {
	bool got_flags, no_zeroes;
	unsigned options;		/* seen so far */
	const char *problem;
	uint8_t reply[512];		/* the caller empties it (sets reply_length to 0) before the next step */
	size_t reply_length;
};

/* Begin: leaves the server's greeting in reply. */
void nbd_handshake_begin(struct nbd_handshake *handshake);

/* Look at @length bytes from the client; *@consumed of them are done with. */
enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_export *export,
					     const uint8_t *data, size_t length, size_t *consumed);

#endif
