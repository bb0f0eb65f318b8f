/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_connection.h - what the three parts of the NBD server share: the
 * server (nbd.c), a connection's bytes (nbd_connection.c) and its requests
 * (nbd_request.c).
 */
#ifndef TAPDISK_NBD_CONNECTION_H
#define TAPDISK_NBD_CONNECTION_H

#include "nbd.h"
#include "nbd_handshake.h"
#include "nbd_protocol.h"

#define NBD_MAX_CONNECTIONS	16u		/* to one disk; one more is turned away */
#define NBD_MAX_HELD		32u		/* those, and the gone ones whose I/O goes on; nobody is accepted meanwhile */
#define NBD_MAX_PAYLOAD		(32u << 20)	/* bytes in one READ or WRITE; told to the client */
#define NBD_MAX_REQUESTS	128u		/* of one connection, from header to reply sent */
#define NBD_MAX_BYTES		NBD_MAX_PAYLOAD	/* of one connection's buffers, from header to reply sent */
#define NBD_ZEROES_SIZE		(1u << 20)	/* bytes written at a time where zeroes have to be real */
#define NBD_INPUT_SIZE		16384u
#define NBD_HANDSHAKE_MS	30000u		/* a client that takes longer than this to choose an export is gone */

static_assert(NBD_INPUT_SIZE >= NBD_MAX_OPTION_DATA + sizeof(struct nbd_option), "an option fits the input buffer");
static_assert(NBD_MAX_BYTES >= NBD_MAX_PAYLOAD, "the largest request alone fits the budget");

/*
 * One request. It is in exactly one place at a time:
 *
 *   receiving --> waiting --> at the vbd --> replies --> (freed)
 *       |            ^___________|             ^
 *       |     next piece, or the FUA flush     |
 *       +--------- refused --------------------+
 */
struct nbd_request {
	struct block_request block;
	struct iovec iov;
	struct nbd_connection *connection;
	struct nbd_request *next;
	enum block_op op;		/* what the client wanted: for the statistics */
	bool fua;			/* a flush still has to follow */
	int error;			/* known before it was submitted: -errno */
	void *buffer;			/* page-aligned; NULL: no data (any more) */
	uint32_t length;		/* bytes: of the payload, or of the range */
	uint32_t zeroes_left;		/* bytes still to be written as zeroes */
	uint64_t received;		/* bytes of a WRITE's data */
	bool begun;			/* was at the vbd already */
	uint64_t started;		/* loop clock, ns */
	bool counted;			/* submitted in the statistics, not yet completed */
	struct nbd_wire_reply reply;
	size_t reply_data;		/* bytes that follow the reply */
	size_t sent;			/* of reply and data */
};

struct nbd_queue {
	struct nbd_request *first, **last;
};

enum nbd_phase { NBD_HANDSHAKE, NBD_TRANSMISSION, NBD_FINISHING, NBD_CLOSED };

struct nbd_connection {
	struct nbd_server *server;
	struct nbd_connection *next;
	enum nbd_phase phase;
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
	unsigned in_flight;		/* at the vbd */
	unsigned requests;		/* everywhere */
	uint64_t bytes;			/* in their buffers */
};

struct nbd_server {
	struct vbd_client client;
	char *path;
	int fd;
	struct loop_source *listener, *accept_retry, *prepare;
	bool accepting;			/* the loop watches the listener */
	struct nbd_connection *connections;
	bool is_client;			/* of the vbd: while there is a connection */
	bool stopped;			/* between the vbd's stop() and start() */
	bool dirty;			/* some connection needs nbd_connection_service() */
	void *zeroes;			/* NBD_ZEROES_SIZE bytes of it, read-only */
	struct queue_stats stats;
};

/* nbd_connection.c */
/* Takes over @fd, whether it works or not. */
int nbd_connection_create(struct nbd_server *server, int fd);
/* Send, take up held input, watch what is to be watched. */
void nbd_connection_service(struct nbd_connection *connection);
/* Hang up and forget everything that is not in flight. */
void nbd_connection_close(struct nbd_connection *connection);
/* Nothing is left of it but the memory. */
bool nbd_connection_is_over(const struct nbd_connection *connection);
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
/* For a request that is in no queue and not at the vbd. */
void nbd_request_free(struct nbd_request *request);
void nbd_request_drop_all(struct nbd_queue *queue);

#endif
