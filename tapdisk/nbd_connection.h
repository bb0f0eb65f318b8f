/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_connection.h - shared by the parts of the NBD server: the server
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

#define NBD_MAX_CONNECTIONS	16u		/* per server; further ones are refused */
#define NBD_MAX_HELD		32u		/* those and closed ones with I/O in flight; then none is accepted */
#define NBD_MAX_PAYLOAD		(32u << 20)	/* bytes of one READ or WRITE; announced to the client */
#define NBD_MAX_REQUESTS	128u		/* per connection, from header to reply sent */
#define NBD_MAX_BYTES		(NBD_MAX_PAYLOAD + (1u << 20))	/* buffers per connection, from header to reply sent */
#define NBD_SOCKET_ROOM		(2u << 20)	/* bytes of replies in a Unix socket; the kernel takes twice as much for it */
#define NBD_PIECE_SIZE		(1u << 20)	/* bytes per step of WRITE_ZEROES with NO_HOLE, and of CACHE */
#define NBD_MAX_EXTENTS		512u		/* in one reply to BLOCK_STATUS, per context */
#define NBD_LOOKS_A_PASS	4u		/* BLOCK_STATUS requests of a connection started per round of the loop */
#define NBD_READ_EXTENTS	32u		/* extents in a READ's reply; the rest is sent as data */
#define NBD_READ_STATUS_MIN	(128u << 10)	/* bytes; a smaller READ does not look for holes first */
#define NBD_INPUT_SIZE		16384u
#define NBD_HANDSHAKE_MS	30000u		/* a client that has not chosen an export by then is disconnected */

static_assert(NBD_INPUT_SIZE >= NBD_MAX_OPTION_DATA + sizeof(struct nbd_option), "an option fits the input buffer");
static_assert(NBD_MAX_BYTES >= NBD_MAX_PAYLOAD, "the largest request alone fits the budget");

/* A look: a block status request for the range of an NBD request, and its result. */
struct nbd_look {
	struct block_status status;
	struct block_extent extents[NBD_MAX_EXTENTS];
	unsigned context;		/* BLOCK_STATUS: the context of this look */
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
 * Its steps: READ may begin with a look for holes; BLOCK_STATUS has one look
 * per context; WRITE_ZEROES with NO_HOLE, and CACHE, go in pieces; FUA ends
 * with a flush.
 */
struct nbd_request {
	struct block_request block;
	struct iovec iov;
	struct nbd_connection *connection;
	struct nbd_request *next;
	uint16_t type;			/* NBD_CMD_* */
	enum block_op op;		/* on the disk; for the statistics, too */
	bool fua;			/* a flush has to follow */
	bool fast;			/* FAST_ZERO: fail if it would be slow */
	int error;			/* -errno found before the submission */
	void *buffer;			/* page-aligned, owned; NULL: no data */
	struct nbd_look *look;		/* owned; NULL: none */
	bool looking;			/* the current step is a look */
	bool over;			/* complete without any step */
	size_t charged;			/* its share of connection->bytes */
	uint64_t offset;		/* bytes */
	uint32_t length;		/* bytes: of the payload, or of the range */
	uint32_t pieces_left;		/* bytes left to do in pieces */
	uint64_t received;		/* bytes of a WRITE's data */
	bool begun;			/* was submitted before, so it continues while the vbd has stopped us */
	uint64_t started;		/* loop clock, ns */
	bool counted;			/* submitted in the statistics, not yet completed */

	/* The reply: made when the request enters the replies queue; out: what is left to send. */
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
	int fd;				/* -1: closed */
	struct loop_source *source, *timer;
	uint32_t events;		/* as watched by the loop */
	bool blocked;			/* the socket took no more output */
	bool held;			/* input waits until replies are sent or memory is free */
	bool pumping;

	struct nbd_handshake handshake;
	size_t handshake_sent;

	uint8_t input[NBD_INPUT_SIZE];	/* bytes start..end are not consumed yet */
	size_t start, end;

	struct nbd_request *receiving;	/* a WRITE whose data is arriving */
	struct nbd_queue waiting;	/* to be submitted */
	struct nbd_queue replies;	/* to be sent */
	unsigned looks;			/* BLOCK_STATUS requests started in this round of the loop */
	unsigned submitted, replied;	/* since the socket became ready; since the loop slept */
	size_t unsent;			/* bytes of data in replies made since the last send */
	unsigned in_flight;		/* requests at the disk */
	unsigned requests;		/* all, in any place */
	uint64_t bytes;			/* of their buffers */
};

struct nbd_server {
	struct vbd_client client;
	struct nbd_server *next;	/* of the same disk */
	char *path;			/* of the socket, removed at the end; or NULL */
	int fd;				/* listening */
	struct loop_source *listener, *accept_retry, *prepare;
	bool accepting;			/* the loop watches the listener */
	struct nbd_connection *connections;
	struct nbd_export *exports;	/* in use */
	bool is_client;			/* client is in the vbd's list: while there is a connection */
	bool stopped;			/* between the vbd's stop() and start() */
	uint8_t store[16];		/* UUID of the disk's store at stop(); zeroes: no store */
	bool dirty;			/* some connection needs nbd_connection_service() */
	void *zeroes;			/* NBD_PIECE_SIZE bytes, read-only */
	struct queue_stats stats;

	/* nbd_publish.c */
	unsigned id, last_id;		/* id: 0 for the disk's own server, which holds last_id */
	char *address, *snapshot;
	bool read_only;
	int overlay;
	const void *holder;
	struct nbd_export *pinned;	/* the snapshot's, open as long as the publication */
	bool ending;			/* it ends when its last connection is freed */
};

/* nbd.c, for nbd_publish.c */
/* NULL: no memory. */
struct nbd_server *nbd_server_create(struct vbd *vbd);
void nbd_server_free(struct nbd_server *server);
/* Takes ownership of @fd on success. @name: for messages. */
int nbd_server_listen_on(struct nbd_server *server, int fd, const char *name, struct error_text *text);
/* Become a client of the vbd. */
int nbd_server_join(struct nbd_server *server);
/* nbd_publish.c, for nbd.c: an ending publication has no connections left; frees the server. */
void nbd_publication_ended(struct nbd_server *server);

/* nbd_connection.c */
/* Takes ownership of @fd, on failure too. */
int nbd_connection_create(struct nbd_server *server, int fd);
/* Send replies, consume held input, update the watched events. */
void nbd_connection_service(struct nbd_connection *connection);
/* Disconnect and free all requests that are not in flight. */
void nbd_connection_close(struct nbd_connection *connection);
/* A request was submitted: commits to the engine now and then. */
void nbd_connection_submitted(struct nbd_connection *connection);
/* A reply with @bytes of data was queued: sends now and then. May close the connection. */
void nbd_connection_replied(struct nbd_connection *connection, size_t bytes);
/* True: closed and without requests; call nbd_connection_free(). */
bool nbd_connection_is_over(const struct nbd_connection *connection);
void nbd_connection_free(struct nbd_connection *connection);
/* After a pause. @moved: to another store, where snapshot ids have other meanings. */
void nbd_connection_go_on(struct nbd_connection *connection, bool moved);
/* True: output is pending and the socket takes it. */
bool nbd_connection_can_send(const struct nbd_connection *connection);

/* nbd_request.c */
void nbd_queue_init(struct nbd_queue *queue);
struct nbd_request *nbd_queue_pop(struct nbd_queue *queue);
/* True: the limits have room for this request and its data. */
bool nbd_request_fits(const struct nbd_connection *connection, const struct nbd_wire_request *wire);
/*
 * Start a request whose header has arrived (not DISC) and which fits. 0 or
 * -ENOMEM. A request whose data is still to come is in connection->receiving.
 */
int nbd_request_begin(struct nbd_connection *connection, const struct nbd_wire_request *wire);
/* All its data has arrived: submit it, or reply if it was refused. */
void nbd_request_received(struct nbd_request *request);
/* Submit waiting requests; while the vbd has stopped us, only those that were submitted before. */
void nbd_request_pump(struct nbd_connection *connection);
/* @request must be in no queue and not in flight. */
void nbd_request_free(struct nbd_request *request);
void nbd_request_drop_all(struct nbd_queue *queue);
/* vbd_client_ops.wanted: true while the connection is open. */
bool nbd_request_is_wanted(const struct block_request *block);

/* nbd_reply.c */
/* Make the reply to a request that completed with @error. */
void nbd_reply_make(struct nbd_request *request, int error);
/* Add the chunk of a completed BLOCK_STATUS look to the reply. */
void nbd_reply_add_extents(struct nbd_request *request);
/* Size in bytes of a struct nbd_look for @contexts contexts. */
size_t nbd_look_size(unsigned contexts);

#endif
