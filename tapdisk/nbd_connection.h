/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_connection.h - what the parts of the NBD server share: the server
 * (nbd.c), its exports (nbd_export.c), a connection's bytes
 * (nbd_connection.c), its requests (nbd_request.c) and their replies
 * (nbd_reply.c).
 */
#ifndef TAPDISK_NBD_CONNECTION_H
#define TAPDISK_NBD_CONNECTION_H

#include "nbd.h"
#include "nbd_export.h"
#include "nbd_handshake.h"
#include "nbd_protocol.h"

#define NBD_MAX_CONNECTIONS	16u		/* to one disk; one more is turned away */
#define NBD_MAX_HELD		32u		/* those, and the gone ones whose I/O goes on; nobody is accepted meanwhile */
#define NBD_MAX_PAYLOAD		(32u << 20)	/* bytes in one READ or WRITE; told to the client */
#define NBD_MAX_REQUESTS	128u		/* of one connection, from header to reply sent */
#define NBD_MAX_BYTES		(NBD_MAX_PAYLOAD + (1u << 20))	/* of one connection's buffers, from header to reply sent */
#define NBD_SOCKET_ROOM		(2u << 20)	/* bytes of replies in a Unix socket; the kernel takes twice as much for it */
#define NBD_PIECE_SIZE		(1u << 20)	/* bytes at a time, of zeroes that have to be real, and of CACHE */
#define NBD_MAX_EXTENTS		512u		/* in one answer to BLOCK_STATUS, for each context */
#define NBD_LOOKS_A_PASS	4u		/* BLOCK_STATUS requests of a connection that are begun in one round of the loop */
#define NBD_READ_EXTENTS	32u		/* parts of a READ's reply; what more there are is data */
#define NBD_READ_STATUS_MIN	(128u << 10)	/* bytes; for less it does not pay to ask for holes first */
#define NBD_INPUT_SIZE		16384u
#define NBD_HANDSHAKE_MS	30000u		/* a client that takes longer than this to choose an export is gone */

static_assert(NBD_INPUT_SIZE >= NBD_MAX_OPTION_DATA + sizeof(struct nbd_option), "an option fits the input buffer");
static_assert(NBD_MAX_BYTES >= NBD_MAX_PAYLOAD, "the largest request alone fits the budget");

/* What a request asks to be told about its range, and the answer. */
struct nbd_look {
	struct block_status status;
	struct block_extent extents[NBD_MAX_EXTENTS];
	unsigned context;		/* BLOCK_STATUS: the one that is looked for */
	size_t used;			/* bytes of wire */
	uint8_t wire[];			/* BLOCK_STATUS: a chunk for each context */
};

/*
 * One request. It is in exactly one place at a time:
 *
 *   receiving --> waiting --> at the disk --> replies --> (freed)
 *       |            ^___________|              ^
 *       |            next step                  |
 *       +--------- refused ---------------------+
 *
 * Its steps: READ may begin with a look for holes; BLOCK_STATUS is one for
 * each context; zeroes that have to be real, and CACHE, go in pieces; FUA
 * ends with a flush.
 */
struct nbd_request {
	struct block_request block;
	struct iovec iov;
	struct nbd_connection *connection;
	struct nbd_request *next;
	uint16_t type;			/* NBD_CMD_* */
	enum block_op op;		/* what it is on the disk: for the statistics, too */
	bool fua;			/* a flush still has to follow */
	bool fast;			/* zeroes: or not at all */
	int error;			/* known before it was submitted: -errno */
	void *buffer;			/* page-aligned; NULL: no data (any more) */
	struct nbd_look *look;		/* NULL: nothing is asked */
	bool looking;			/* the step at the disk is a look */
	bool over;			/* before it began: there is nothing to do */
	size_t charged;			/* bytes of connection->bytes */
	uint64_t offset;		/* bytes */
	uint32_t length;		/* bytes: of the payload, or of the range */
	uint32_t pieces_left;		/* bytes still to be done in pieces */
	uint64_t received;		/* bytes of a WRITE's data */
	bool begun;			/* was at the disk already, and goes on though the vbd has stopped us */
	uint64_t started;		/* loop clock, ns */
	bool counted;			/* submitted in the statistics, not yet completed */

	/* The reply: made when it goes to the replies, sent from the front. */
	uint64_t cookie;
	struct iovec *out;
	unsigned out_count;
	struct iovec out_few[3];
	union {
		struct nbd_wire_reply simple;
		struct nbd_chunk_data data;
		struct nbd_chunk_hole hole;
		struct nbd_chunk_error error;
	} header;
	void *headers;			/* of a reply with many chunks */
};

struct nbd_queue {
	struct nbd_request *first, **last;
};

enum nbd_phase { NBD_HANDSHAKE, NBD_TRANSMISSION, NBD_FINISHING, NBD_CLOSED };

struct nbd_connection {
	struct nbd_server *server;
	struct nbd_connection *next;
	enum nbd_phase phase;
	struct nbd_export *export;	/* NULL: not chosen yet */
	int fd;				/* -1: the peer is gone */
	struct loop_source *source, *timer;
	uint32_t events;		/* what the loop watches */
	bool blocked;			/* the socket took no more output */
	bool held;			/* input waits for output to leave, or for room in the budget */
	bool pumping;

	struct nbd_handshake handshake;
	size_t handshake_sent;

	uint8_t input[NBD_INPUT_SIZE];	/* bytes start..end are not looked at yet */
	size_t start, end;

	struct nbd_request *receiving;	/* a WRITE whose data are arriving */
	struct nbd_queue waiting;	/* to be submitted */
	struct nbd_queue replies;	/* to be sent */
	unsigned looks;			/* begun in this round of the loop */
	unsigned submitted, replied;	/* since the socket was read from; since the loop slept */
	size_t unsent;			/* bytes of data in replies that were made since something was sent */
	unsigned in_flight;		/* at the disk */
	unsigned requests;		/* everywhere */
	uint64_t bytes;			/* in their buffers */
};

struct nbd_server {
	struct vbd_client client;
	struct nbd_server *next;	/* of the same disk */
	char *path;			/* of the socket that is removed in the end, or NULL */
	int fd;				/* listening */
	struct loop_source *listener, *accept_retry, *prepare;
	bool accepting;			/* the loop watches the listener */
	struct nbd_connection *connections;
	struct nbd_export *exports;	/* those that are in use */
	bool is_client;			/* of the vbd: while there is a connection */
	bool stopped;			/* between the vbd's stop() and start() */
	uint8_t store[16];		/* the disk's when it was stopped; zeroes: none was open */
	bool dirty;			/* some connection needs nbd_connection_service() */
	void *zeroes;			/* NBD_PIECE_SIZE bytes of it, read-only */
	struct queue_stats stats;

	/* nbd_publish.c; of the disk's own, id is 0 */
	unsigned id, last_id;		/* last_id: the disk's own has it */
	char *address, *snapshot;
	bool read_only;
	int overlay;
	const void *holder;
	struct nbd_export *pinned;	/* the snapshot's, open from beginning to end */
	bool ending;			/* when nothing of its connections is left */
};

/* nbd.c, for nbd_publish.c */
/* NULL: no memory. */
struct nbd_server *nbd_server_create(struct vbd *vbd);
void nbd_server_free(struct nbd_server *server);
/* Takes over @fd when it works. @name: for messages. */
int nbd_server_listen_on(struct nbd_server *server, int fd, const char *name, struct error_text *text);
/* Become a client of the vbd. */
int nbd_server_join(struct nbd_server *server);
/* nbd_publish.c, for nbd.c: the last connection of one that is ending is gone; so is the server. */
void nbd_publication_ended(struct nbd_server *server);

/* nbd_connection.c */
/* Takes over @fd, whether it works or not. */
int nbd_connection_create(struct nbd_server *server, int fd);
/* Send, take up held input, watch what is to be watched. */
void nbd_connection_service(struct nbd_connection *connection);
/* Hang up and forget everything that is not in flight. */
void nbd_connection_close(struct nbd_connection *connection);
/* A request went to the disk: perhaps the disk is told to begin. */
void nbd_connection_submitted(struct nbd_connection *connection);
/* There is one more reply, with so many bytes of data: perhaps they are sent. May close the connection. */
void nbd_connection_replied(struct nbd_connection *connection, size_t bytes);
/* Nothing is left of it but the memory. */
bool nbd_connection_is_over(const struct nbd_connection *connection);
/* Then this gives that back, too. */
void nbd_connection_free(struct nbd_connection *connection);
/* After a pause. @moved: to another store, in which a snapshot's id means another one. */
void nbd_connection_go_on(struct nbd_connection *connection, bool moved);
/* Is there something that could be sent now? */
bool nbd_connection_can_send(const struct nbd_connection *connection);

/* nbd_request.c */
void nbd_queue_init(struct nbd_queue *queue);
struct nbd_request *nbd_queue_pop(struct nbd_queue *queue);
/* Is there room for this request and its data? */
bool nbd_request_fits(const struct nbd_connection *connection, const struct nbd_wire_request *wire);
/*
 * A header has come in (not a DISC); room was made sure of. 0 or
 * -ENOMEM. A request with data to come is left in connection->receiving.
 */
int nbd_request_begin(struct nbd_connection *connection, const struct nbd_wire_request *wire);
/* All its data are there: on to the vbd, or to the reply if it was refused. */
void nbd_request_received(struct nbd_request *request);
/* Submit what waits; while the vbd has stopped us only what was begun before. */
void nbd_request_pump(struct nbd_connection *connection);
/* For a request that is in no queue and not at the disk. */
void nbd_request_free(struct nbd_request *request);
void nbd_request_drop_all(struct nbd_queue *queue);
/* For what waits at the disk: its client is still there. */
bool nbd_request_is_wanted(const struct block_request *block);

/* nbd_reply.c */
/* Makes the reply to a request that is over with @error. */
void nbd_reply_make(struct nbd_request *request, int error);
/* A look of BLOCK_STATUS is over: what was seen goes into its chunk. */
void nbd_reply_add_extents(struct nbd_request *request);
/* Bytes of struct nbd_look for @contexts of them. */
size_t nbd_look_size(unsigned contexts);

#endif
