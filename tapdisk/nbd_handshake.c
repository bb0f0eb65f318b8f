/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_handshake.c - fixed newstyle negotiation of the NBD protocol.
 *
 *      greeting sent
 *           | client flags
 *           v
 *      +-> option --EXPORT_NAME, GO--> transmission
 *      |    |  \------ABORT----------> end
 *      +----+ LIST, INFO, contexts, anything unknown
 *
 * Invariants:
 *  1. A message is parsed only when it is complete, and it is never longer than
 *     NBD_MAX_OPTION_DATA plus its header.
 *  2. A reply is bounded (nbd_option.c) and is sent before the next message is
 *     parsed. A longer list is sent in parts: its message is not consumed, but
 *     answered again after each, from handshake->list on. So the memory that a
 *     client can use is bounded, however many snapshots there are.
 *  3. Contexts count only for the export for which they were chosen.
 */
#include "nbd_handshake.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nbd_protocol.h"

static const char unknown_export[] = "there is no such export";

int nbd_handshake_begin(struct nbd_handshake *handshake)
{
	const struct nbd_greeting greeting = {
		.init_magic = htobe64(NBD_INIT_MAGIC),
		.option_magic = htobe64(NBD_OPTION_MAGIC),
		.flags = htobe16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
	};

	memset(handshake, 0, sizeof(*handshake));
	nbd_reply_append(handshake, &greeting, sizeof(greeting));
	return handshake->out_of_memory ? -ENOMEM : 0;
}

void nbd_handshake_end(struct nbd_handshake *handshake)
{
	free(handshake->reply);
	handshake->reply = NULL;
	handshake->reply_length = handshake->reply_room = 0;
}

/* The don't-fragment flag only applies to structured replies. */
static uint16_t export_flags(const struct nbd_handshake *handshake, const struct nbd_export_info *info)
{
	return info->flags | (handshake->structured ? NBD_FLAG_SEND_DF : 0);
}

static void export_choose(struct nbd_handshake *handshake, const char *name)
{
	strcpy(handshake->name, name);
	if (strcmp(handshake->name, handshake->context_name))
		handshake->nr_contexts = 0;
}

static enum nbd_handshake_result option_export_name(struct nbd_handshake *handshake, const struct nbd_offer *offer,
						    const uint8_t *data, uint32_t length)
{
	struct nbd_export_info info;
	struct nbd_export_reply reply;
	char name[NBD_MAX_NAME + 1] = "";

	if (length > NBD_MAX_NAME || memchr(data, '\0', length))
		return nbd_handshake_bad(handshake, "unknown export name");	/* this option has no reply for errors */
	memcpy(name, data, length);
	if (offer->describe(offer->owner, name, &info))
		return nbd_handshake_bad(handshake, "unknown export name");

	reply = (struct nbd_export_reply){ .size = htobe64(info.size), .flags = htobe16(export_flags(handshake, &info)) };
	nbd_reply_append(handshake, &reply, handshake->no_zeroes ? sizeof(reply) - sizeof(reply.zeroes) : sizeof(reply));
	export_choose(handshake, name);
	return NBD_HANDSHAKE_TRANSMISSION;
}

static int list_one(void *arg, const char *name, uint32_t id)
{
	struct nbd_handshake *handshake = arg;
	uint32_t length = (uint32_t)strlen(name), wire_length = htobe32(length);

	if (length > NBD_MAX_NAME || !nbd_list_takes(handshake, id))
		return handshake->list.unfinished;
	nbd_reply_begin(handshake, NBD_OPT_LIST, NBD_REP_SERVER, (uint32_t)sizeof(wire_length) + length);
	nbd_reply_append(handshake, &wire_length, sizeof(wire_length));
	nbd_reply_append(handshake, name, length);
	return handshake->out_of_memory;
}

static enum nbd_handshake_result option_list(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     uint32_t length)
{
	if (length != 0)
		return nbd_reply_error(handshake, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "list takes no data");
	offer->list(offer->owner, handshake->list.id, list_one, handshake);
	if (!handshake->list.unfinished)
		nbd_reply_option(handshake, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
	return NBD_HANDSHAKE_CONTINUE;
}

/* Format: 16-bit number of information requests, then 16 bits each. */
static bool info_requests_fit(const uint8_t *data, uint32_t length)
{
	uint16_t requests;

	if (length < sizeof(requests))
		return false;
	memcpy(&requests, data, sizeof(requests));
	return length - sizeof(requests) == be16toh(requests) * sizeof(requests);
}

/*
 * INFO and GO: a name and a list of information requests. The list is ignored:
 * the reply has all information, which the protocol permits.
 */
static enum nbd_handshake_result option_info(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     uint32_t option, const uint8_t *data, uint32_t length)
{
	struct nbd_info_export export = { .type = htobe16(NBD_INFO_EXPORT) };
	struct nbd_info_block_size sizes = { .type = htobe16(NBD_INFO_BLOCK_SIZE) };
	struct nbd_export_info info;
	char name[NBD_MAX_NAME + 1];
	bool unknown;

	if (!nbd_option_name(&data, &length, name, &unknown) || !info_requests_fit(data, length))
		return nbd_reply_error(handshake, option, NBD_REP_ERR_INVALID,
				       "malformed export name or list of requests");
	if (unknown || offer->describe(offer->owner, name, &info))
		return nbd_reply_error(handshake, option, NBD_REP_ERR_UNKNOWN, unknown_export);

	export.size = htobe64(info.size);
	export.flags = htobe16(export_flags(handshake, &info));
	sizes.minimum = htobe32(info.minimum);
	sizes.preferred = htobe32(info.preferred);
	sizes.maximum = htobe32(info.maximum);
	nbd_reply_option(handshake, option, NBD_REP_INFO, &export, sizeof(export));
	nbd_reply_option(handshake, option, NBD_REP_INFO, &sizes, sizeof(sizes));
	nbd_reply_option(handshake, option, NBD_REP_ACK, NULL, 0);
	if (option != NBD_OPT_GO)
		return NBD_HANDSHAKE_CONTINUE;
	export_choose(handshake, name);
	return NBD_HANDSHAKE_TRANSMISSION;
}

static enum nbd_handshake_result option_structured(struct nbd_handshake *handshake, uint32_t length)
{
	if (length != 0)
		return nbd_reply_error(handshake, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ERR_INVALID,
				       "structured reply takes no data");
	handshake->structured = true;
	nbd_reply_option(handshake, NBD_OPT_STRUCTURED_REPLY, NBD_REP_ACK, NULL, 0);
	return NBD_HANDSHAKE_CONTINUE;
}

static enum nbd_handshake_result option_any(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					    uint32_t option, const uint8_t *data, uint32_t length)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(handshake, offer, data, length);
	case NBD_OPT_ABORT:
		nbd_reply_option(handshake, option, NBD_REP_ACK, NULL, 0);
		return NBD_HANDSHAKE_END;
	case NBD_OPT_LIST:
		return option_list(handshake, offer, length);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return option_info(handshake, offer, option, data, length);
	case NBD_OPT_STRUCTURED_REPLY:
		return option_structured(handshake, length);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return nbd_option_context(handshake, offer, option, data, length);
	default:
		return nbd_reply_error(handshake, option, NBD_REP_ERR_UNSUP, "option not supported");
	}
}

static enum nbd_handshake_result client_flags(struct nbd_handshake *handshake, const uint8_t *data, size_t length,
					      size_t *consumed)
{
	uint32_t flags;

	if (length < sizeof(flags))
		return NBD_HANDSHAKE_MORE;
	memcpy(&flags, data, sizeof(flags));
	flags = be32toh(flags);
	*consumed = sizeof(flags);
	if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
		return nbd_handshake_bad(handshake, "unknown client flags");

	handshake->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	handshake->got_flags = true;
	return NBD_HANDSHAKE_CONTINUE;
}

enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_offer *offer,
					     const uint8_t *data, size_t length, size_t *consumed)
{
	enum nbd_handshake_result result;
	struct nbd_option option;
	uint32_t data_length;

	*consumed = 0;
	if (!handshake->got_flags)
		return client_flags(handshake, data, length, consumed);

	if (length < sizeof(option))
		return NBD_HANDSHAKE_MORE;
	memcpy(&option, data, sizeof(option));
	data_length = be32toh(option.length);
	if (be64toh(option.magic) != NBD_OPTION_MAGIC)
		return nbd_handshake_bad(handshake, "bad option magic");
	if (data_length > NBD_MAX_OPTION_DATA)
		return nbd_handshake_bad(handshake, "option data too long");
	if (length - sizeof(option) < data_length)
		return NBD_HANDSHAKE_MORE;

	if (!handshake->list.unfinished && ++handshake->options > NBD_MAX_OPTIONS)
		return nbd_handshake_bad(handshake, "too many options");
	handshake->list.unfinished = false;
	result = option_any(handshake, offer, be32toh(option.option), data + sizeof(option), data_length);
	if (!handshake->list.unfinished) {
		*consumed = sizeof(option) + data_length;
		memset(&handshake->list, 0, sizeof(handshake->list));
	}
	return handshake->out_of_memory ? nbd_handshake_bad(handshake, "no memory for the reply") : result;
}
