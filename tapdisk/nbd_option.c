/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_option.c - the replies of an NBD handshake, and the options about
 * metadata contexts for BLOCK_STATUS.
 *
 *   base:allocation         holes and zeros
 *   tapsnap:changed:NAME    changes since the snapshot NAME
 *
 * A context keeps the snapshot's id: it never refers to a later snapshot of the
 * same name.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_handshake.h"
#include "nbd_protocol.h"

#define ALLOCATION	"base:allocation"
#define CHANGED		"tapsnap:changed:"
#define MAX_REPLY	(2 * NBD_LIST_PART)	/* a part of a list is full when NBD_LIST_PART is reached */

enum nbd_handshake_result nbd_handshake_bad(struct nbd_handshake *handshake, const char *problem)
{
	handshake->problem = problem;
	return NBD_HANDSHAKE_BAD;
}

void nbd_reply_append(struct nbd_handshake *handshake, const void *data, size_t length)
{
	size_t room = handshake->reply_room ? handshake->reply_room : 512;
	uint8_t *grown;

	while (room - handshake->reply_length < length && room < MAX_REPLY)
		room *= 2;
	if (room != handshake->reply_room) {
		grown = realloc(handshake->reply, room);
		if (grown) {
			handshake->reply = grown;
			handshake->reply_room = room;
		}
	}
	if (handshake->reply_room - handshake->reply_length < length) {
		handshake->out_of_memory = true;
		return;
	}
	memcpy(handshake->reply + handshake->reply_length, data, length);
	handshake->reply_length += length;
}

void nbd_reply_begin(struct nbd_handshake *handshake, uint32_t option, uint32_t type, uint32_t length)
{
	const struct nbd_option_reply reply = {
		.magic = htobe64(NBD_OPTION_REPLY_MAGIC),
		.option = htobe32(option),
		.type = htobe32(type),
		.length = htobe32(length),
	};

	nbd_reply_append(handshake, &reply, sizeof(reply));
}

void nbd_reply_option(struct nbd_handshake *handshake, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
	nbd_reply_begin(handshake, option, type, length);
	if (length > 0)
		nbd_reply_append(handshake, data, length);
}

enum nbd_handshake_result nbd_reply_error(struct nbd_handshake *handshake, uint32_t option, uint32_t type,
					  const char *text)
{
	nbd_reply_option(handshake, option, type, text, (uint32_t)strlen(text));
	return NBD_HANDSHAKE_CONTINUE;
}

bool nbd_list_takes(struct nbd_handshake *handshake, uint32_t id)
{
	if (id < handshake->list.id)
		return false;
	handshake->list.unfinished = handshake->reply_length >= NBD_LIST_PART;
	if (!handshake->list.unfinished)
		handshake->list.id = id + 1ull;
	return !handshake->list.unfinished;
}

static bool take_number(const uint8_t **data, uint32_t *length, uint32_t *number)
{
	if (*length < sizeof(*number))
		return false;
	memcpy(number, *data, sizeof(*number));
	*number = be32toh(*number);
	*data += sizeof(*number);
	*length -= (uint32_t)sizeof(*number);
	return true;
}

bool nbd_option_name(const uint8_t **data, uint32_t *length, char name[NBD_MAX_NAME + 1], bool *unknown)
{
	uint32_t bytes;

	if (!take_number(data, length, &bytes) || bytes > *length)
		return false;
	*unknown = bytes > NBD_MAX_NAME || memchr(*data, '\0', bytes);
	memset(name, 0, NBD_MAX_NAME + 1);
	if (!*unknown)
		memcpy(name, *data, bytes);
	*data += bytes;
	*length -= bytes;
	return true;
}

struct query {
	struct nbd_handshake *handshake;
	uint32_t option;
	const char *text;		/* the query; not terminated */
	uint32_t length;
	bool list;
	bool too_many;
};

static bool query_is(const struct query *query, const char *text)
{
	return query->length == strlen(text) && !memcmp(query->text, text, query->length);
}

/* List or select a context that matches. One that is selected already keeps its id. */
static void context_found(struct query *query, uint32_t since, const char *prefix, const char *name)
{
	struct nbd_handshake *handshake = query->handshake;
	uint32_t id = 0, length = (uint32_t)strlen(prefix), name_length = (uint32_t)strlen(name);
	unsigned i;

	if (name_length > NBD_MAX_NAME)
		return;
	for (i = 0; !query->list && i < handshake->nr_contexts; i++) {
		if (handshake->contexts[i].since == since)
			return;
	}
	if (!query->list && i == NBD_MAX_CONTEXTS) {
		query->too_many = true;
		return;
	}
	if (query->list && !nbd_list_takes(handshake, since))
		return;
	if (!query->list) {
		handshake->contexts[handshake->nr_contexts++].since = since;
		id = htobe32(handshake->nr_contexts);
	}
	nbd_reply_begin(handshake, query->option, NBD_REP_META_CONTEXT, (uint32_t)sizeof(id) + length + name_length);
	nbd_reply_append(handshake, &id, sizeof(id));
	nbd_reply_append(handshake, prefix, length);
	nbd_reply_append(handshake, name, name_length);
}

/* A query matches a whole name; when listing, also the namespace alone, or nothing for all. */
static bool query_matches(const struct query *query, const char *snapshot)
{
	size_t prefix = strlen(CHANGED), length = strlen(snapshot);

	if (query->list && (!query->length || query_is(query, "tapsnap:") || query_is(query, CHANGED)))
		return true;
	return query->length == prefix + length && !memcmp(query->text, CHANGED, prefix) &&
		!memcmp(query->text + prefix, snapshot, length);
}

static int snapshot_is(void *arg, const char *snapshot, uint32_t id)
{
	struct query *query = arg;

	if (query_matches(query, snapshot))
		context_found(query, id, CHANGED, snapshot);
	return query->too_many || query->handshake->list.unfinished || query->handshake->out_of_memory;
}

static void query_answer(struct query *query, const struct nbd_offer *offer, const char *name)
{
	if (query_is(query, ALLOCATION) || (query->list && (!query->length || query_is(query, "base:"))))
		context_found(query, 0, ALLOCATION, "");
	if (!query->handshake->list.unfinished)
		offer->snapshots(offer->owner, name, query->handshake->list.id, snapshot_is, query);
}

/* The query @index of an option; those whose answer was sent in earlier parts have none. */
static void query_answer_next(struct query *query, uint32_t index, const struct nbd_offer *offer, const char *name)
{
	struct nbd_handshake *handshake = query->handshake;

	if (handshake->list.unfinished || index < handshake->list.query)
		return;
	if (query->length)
		query_answer(query, offer, name);
	if (!handshake->list.unfinished) {
		handshake->list.query = index + 1;
		handshake->list.id = 0;
	}
}

/* Each query is a length and a text. False: malformed. */
static bool queries_answer(struct query *query, const struct nbd_offer *offer, const char *name, const uint8_t *data,
			   uint32_t length, uint32_t count, bool answer)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!take_number(&data, &length, &query->length) || query->length > length)
			return false;
		query->text = (const char *)data;
		data += query->length;
		length -= query->length;
		if (answer)
			query_answer_next(query, i, offer, name);
	}
	return !length;
}

enum nbd_handshake_result nbd_option_context(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     uint32_t option, const uint8_t *data, uint32_t length)
{
	struct query query = { .handshake = handshake, .option = option, .list = option == NBD_OPT_LIST_META_CONTEXT };
	struct nbd_export_info info;
	char name[NBD_MAX_NAME + 1];
	bool unknown, continued;
	uint32_t count;

	if (!nbd_option_name(&data, &length, name, &unknown) || !take_number(&data, &length, &count) ||
	    !queries_answer(&query, offer, name, data, length, count, false))
		return nbd_reply_error(handshake, option, NBD_REP_ERR_INVALID, "malformed export name or list of contexts");
	if (!handshake->structured)
		return nbd_reply_error(handshake, option, NBD_REP_ERR_INVALID, "negotiate structured replies first");
	/* a later part of a list does not look for the export again: that walks the snapshots */
	continued = handshake->list.query || handshake->list.id;
	if (unknown || (!continued && offer->describe(offer->owner, name, &info)))
		return nbd_reply_error(handshake, option, NBD_REP_ERR_UNKNOWN, "there is no such export");

	if (!query.list) {
		strcpy(handshake->context_name, name);
		handshake->nr_contexts = 0;
	}
	query.too_many = count > NBD_MAX_QUERIES;
	if (query.list && !count)
		query_answer(&query, offer, name);
	else if (!query.too_many)
		queries_answer(&query, offer, name, data, length, count, true);
	if (!query.too_many) {
		if (!handshake->list.unfinished)
			nbd_reply_option(handshake, option, NBD_REP_ACK, NULL, 0);
		return NBD_HANDSHAKE_CONTINUE;
	}
	if (!query.list)
		handshake->nr_contexts = 0;
	return nbd_reply_error(handshake, option, NBD_REP_ERR_TOO_BIG, "too many contexts");
}
