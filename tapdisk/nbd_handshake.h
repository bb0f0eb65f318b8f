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

/* Option data: a name (at most 4096 bytes, proto.md "Conventions") and a list of requests. */
#define NBD_MAX_OPTION_DATA	8192u
/* An honest client sends a handful; one that goes on for ever is cut off. */
#define NBD_MAX_OPTIONS		64u
#define NBD_MAX_NAME		255u	/* of an export; longer ones there are none of */
#define NBD_MAX_CONTEXTS	8u	/* that one client can have */
#define NBD_MAX_QUERIES		16u	/* for contexts, in one option: each is a walk over all snapshots */

/* What the client is told about an export. */
struct nbd_export_info {
	uint64_t size;				/* bytes */
	uint16_t flags;				/* NBD_FLAG_*, transmission; but not SEND_DF */
	uint32_t minimum, preferred, maximum;	/* block sizes and largest payload, bytes */
};

/* Whom the handshake asks; @owner is theirs. */
struct nbd_offer {
	/* 0 and *@info, or -errno; -ENOENT: there is no such export. "" is the default one. */
	int (*describe)(void *owner, const char *name, struct nbd_export_info *info);
	/* Calls @each for every export until it returns non-zero, and returns that. */
	int (*list)(void *owner, int (*each)(void *arg, const char *name), void *arg);
	/* The same for every snapshot since which an export's changes are known. */
	int (*snapshots)(void *owner, const char *name, int (*each)(void *arg, const char *snapshot, uint32_t id),
			 void *arg);
	void *owner;
};

/* What a client wants to be told by BLOCK_STATUS. Its id on the wire is its number plus 1. */
struct nbd_context {
	uint32_t since;			/* 0: base:allocation; else a snapshot's id, see struct block_status */
};

enum nbd_handshake_result {
	NBD_HANDSHAKE_MORE,		/* not a whole message yet; nothing consumed */
	NBD_HANDSHAKE_CONTINUE,		/* one message consumed; its reply has to go out before the next is looked at */
	NBD_HANDSHAKE_TRANSMISSION,	/* the same, and requests follow, to the export called name */
	NBD_HANDSHAKE_END,		/* the same, and the client wants to leave */
	NBD_HANDSHAKE_BAD,		/* hang up; why is in problem */
};

struct nbd_handshake {
	bool got_flags, no_zeroes;
	bool structured;		/* replies; agreed on */
	unsigned options;		/* seen so far */
	char name[NBD_MAX_NAME + 1];	/* of the export that was chosen, */
	char context_name[NBD_MAX_NAME + 1];	/* or for which contexts were */
	struct nbd_context contexts[NBD_MAX_CONTEXTS];
	unsigned nr_contexts;
	const char *problem;
	uint8_t *reply;			/* the caller sends it, and sets reply_length to 0 before the next step */
	size_t reply_length, reply_room;
	bool out_of_memory;
};

/* Begin: leaves the server's greeting in reply. 0 or -ENOMEM. */
int nbd_handshake_begin(struct nbd_handshake *handshake);
/* Gives its memory back. */
void nbd_handshake_end(struct nbd_handshake *handshake);

/* Look at @length bytes from the client; *@consumed of them are done with. */
enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     const uint8_t *data, size_t length, size_t *consumed);

/* nbd_option.c, for nbd_handshake.c: replies to options, and contexts. */
enum nbd_handshake_result nbd_handshake_bad(struct nbd_handshake *handshake, const char *problem);
void nbd_reply_append(struct nbd_handshake *handshake, const void *data, size_t length);
/* The head of a reply; its @length bytes are appended then. */
void nbd_reply_begin(struct nbd_handshake *handshake, uint32_t option, uint32_t type, uint32_t length);
void nbd_reply_option(struct nbd_handshake *handshake, uint32_t option, uint32_t type, const void *data, uint32_t length);
enum nbd_handshake_result nbd_reply_error(struct nbd_handshake *handshake, uint32_t option, uint32_t type,
					  const char *text);
/* A 32-bit length and a name. Moves *@data on; false when it is malformed, "" with *@unknown for one that is too long. */
bool nbd_option_name(const uint8_t **data, uint32_t *length, char name[NBD_MAX_NAME + 1], bool *unknown);
/* LIST_META_CONTEXT and SET_META_CONTEXT. */
enum nbd_handshake_result nbd_option_context(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     uint32_t option, const uint8_t *data, uint32_t length);

#endif
