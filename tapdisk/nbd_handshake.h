/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_handshake.h - the NBD handshake, up to the choice of an export: bytes in,
 * bytes out, no socket.
 */
#ifndef TAPDISK_NBD_HANDSHAKE_H
#define TAPDISK_NBD_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Option data: a name (at most 4096 bytes, proto.md "Conventions") and a list of requests. */
#define NBD_MAX_OPTION_DATA	8192u
/* A normal client sends a handful; one that sends more is disconnected. */
#define NBD_MAX_OPTIONS		64u
#define NBD_MAX_NAME		255u	/* of an export; no export has a longer one */
#define NBD_MAX_CONTEXTS	8u	/* per client */
#define NBD_MAX_QUERIES		16u	/* for contexts, in one option: each one walks all snapshots */
#define NBD_LIST_PART		(64u << 10)	/* bytes; a list whose reply is longer is sent in parts */

/* An export as announced to the client. */
struct nbd_export_info {
	uint64_t size;				/* bytes */
	uint16_t flags;				/* NBD_FLAG_*, transmission flags without SEND_DF */
	uint32_t minimum, preferred, maximum;	/* block sizes and largest payload, bytes */
};

/* Callbacks of the handshake; they get @owner. */
struct nbd_offer {
	/* 0 and *@info, or -errno; -ENOENT: no such export. "" is the default export. */
	int (*describe)(void *owner, const char *name, struct nbd_export_info *info);
	/*
	 * Calls @each for every export whose id is @from or more, ids ascending from 0, until it returns non-zero, and returns
	 * that. Exports that come and go between two calls do not change the ids of the others.
	 */
	int (*list)(void *owner, uint64_t from, int (*each)(void *arg, const char *name, uint32_t id), void *arg);
	/* The same for every snapshot since which the export's changes are known. */
	int (*snapshots)(void *owner, const char *name, uint64_t from,
			 int (*each)(void *arg, const char *snapshot, uint32_t id), void *arg);
	void *owner;
};

/* A metadata context for BLOCK_STATUS. Its id on the wire is its index plus 1. */
struct nbd_context {
	uint32_t since;			/* 0: base:allocation; else a snapshot's id, see struct block_status */
};

enum nbd_handshake_result {
	NBD_HANDSHAKE_MORE,		/* not a whole message yet; nothing consumed */
	NBD_HANDSHAKE_CONTINUE,		/* one message consumed, or nothing after a part of its reply; send that
					 * before the next step */
	NBD_HANDSHAKE_TRANSMISSION,	/* the same, and requests to the export `name` follow */
	NBD_HANDSHAKE_END,		/* the same, and the client ends the connection */
	NBD_HANDSHAKE_BAD,		/* disconnect; `problem` says why */
};

struct nbd_handshake {
	bool got_flags, no_zeroes;
	bool structured;		/* structured replies were negotiated */
	unsigned options;		/* seen so far */
	char name[NBD_MAX_NAME + 1];	/* the chosen export */
	char context_name[NBD_MAX_NAME + 1];	/* the export that `contexts` were selected for */
	struct nbd_context contexts[NBD_MAX_CONTEXTS];
	unsigned nr_contexts;
	struct {			/* a list that is sent in parts: what the next one begins with */
		bool unfinished;
		uint32_t query;		/* index in a list of contexts */
		uint64_t id;		/* all before it were sent */
	} list;
	const char *problem;
	uint8_t *reply;			/* the caller sends it, and sets reply_length to 0 before the next step */
	size_t reply_length, reply_room;
	bool out_of_memory;
};

/* Begin: leaves the server's greeting in reply. 0 or -ENOMEM. */
int nbd_handshake_begin(struct nbd_handshake *handshake);
/* Free its memory. */
void nbd_handshake_end(struct nbd_handshake *handshake);

/* Process @length bytes from the client; *@consumed of them were used. */
enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     const uint8_t *data, size_t length, size_t *consumed);

/* nbd_option.c, for nbd_handshake.c: replies to options, and contexts. */
enum nbd_handshake_result nbd_handshake_bad(struct nbd_handshake *handshake, const char *problem);
void nbd_reply_append(struct nbd_handshake *handshake, const void *data, size_t length);
/* True: the entry @id of a list belongs into this part of the reply. Else it was in an earlier one, or this one is full. */
bool nbd_list_takes(struct nbd_handshake *handshake, uint32_t id);
/* The header of a reply; append its @length bytes afterwards. */
void nbd_reply_begin(struct nbd_handshake *handshake, uint32_t option, uint32_t type, uint32_t length);
void nbd_reply_option(struct nbd_handshake *handshake, uint32_t option, uint32_t type, const void *data, uint32_t length);
enum nbd_handshake_result nbd_reply_error(struct nbd_handshake *handshake, uint32_t option, uint32_t type,
					  const char *text);
/* Parse a 32-bit length and a name, advance *@data. False: malformed. A name that no export can have: "" and *@unknown. */
bool nbd_option_name(const uint8_t **data, uint32_t *length, char name[NBD_MAX_NAME + 1], bool *unknown);
/* LIST_META_CONTEXT and SET_META_CONTEXT. */
enum nbd_handshake_result nbd_option_context(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     uint32_t option, const uint8_t *data, uint32_t length);

#endif
