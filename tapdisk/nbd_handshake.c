/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_handshake.c - fixed newstyle negotiation of the NBD protocol.
 *
 *      greeting sent
 *           | client flags
 *           v
 *      +-> option --EXPORT_NAME, GO--> transmission
 *      |    |  \------ABORT----------> end
 *      +----+ LIST, INFO, anything unknown
 *
 * There is one export, the default one, whose name is empty. Any other name
 * is refused: it comes from somebody who has the wrong disk in mind.
 *
 * Invariants:
 *  1. A message is looked at only when all of it is there, and it is never
 *     longer than NBD_MAX_OPTION_DATA plus its header.
 *  2. One message makes at most sizeof(reply) bytes of reply, and the reply
 *     is empty when the next message is looked at. So what a client can make
 *     us hold is bounded whatever it sends.
 */
#include "nbd_handshake.h"

#include <endian.h>
#include <string.h>

#include "nbd_protocol.h"

static const char unknown_export[] = "there is only the default export: leave the export name empty";

static enum nbd_handshake_result handshake_bad(struct nbd_handshake *handshake, const char *problem)
{
	handshake->problem = problem;
	return NBD_HANDSHAKE_BAD;
}

static void reply_append(struct nbd_handshake *handshake, const void *data, size_t length)
{
	assert(length <= sizeof(handshake->reply) - handshake->reply_length);	/* invariant 2 */
	memcpy(handshake->reply + handshake->reply_length, data, length);
	handshake->reply_length += length;
}

static void reply_option(struct nbd_handshake *handshake, uint32_t option, uint32_t type,
			 const void *data, uint32_t length)
{
	const struct nbd_option_reply reply = {
		.magic = htobe64(NBD_OPTION_REPLY_MAGIC),
		.option = htobe32(option),
		.type = htobe32(type),
		.length = htobe32(length),
	};

	reply_append(handshake, &reply, sizeof(reply));
	if (length > 0)
		reply_append(handshake, data, length);
}

static enum nbd_handshake_result reply_error(struct nbd_handshake *handshake, uint32_t option, uint32_t type,
					     const char *text)
{
	reply_option(handshake, option, type, text, strlen(text));
	return NBD_HANDSHAKE_CONTINUE;
}

void nbd_handshake_begin(struct nbd_handshake *handshake)
{
	const struct nbd_greeting greeting = {
		.init_magic = htobe64(NBD_INIT_MAGIC),
		.option_magic = htobe64(NBD_OPTION_MAGIC),
		.flags = htobe16(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES),
	};

	memset(handshake, 0, sizeof(*handshake));
	reply_append(handshake, &greeting, sizeof(greeting));
}

static enum nbd_handshake_result option_export_name(struct nbd_handshake *handshake, const struct nbd_export *export,
						    uint32_t length)
{
	struct nbd_export_reply reply = { .size = htobe64(export->size), .flags = htobe16(export->flags) };

	/* this option has no error reply: hanging up is what the protocol asks for */
	if (length != 0)
		return handshake_bad(handshake, unknown_export);

	reply_append(handshake, &reply,
		     handshake->no_zeroes ? offsetof(struct nbd_export_reply, zeroes) : sizeof(reply));
	return NBD_HANDSHAKE_TRANSMISSION;
}

static enum nbd_handshake_result option_list(struct nbd_handshake *handshake, uint32_t length)
{
	const uint32_t name_length = 0;

	if (length != 0)
		return reply_error(handshake, NBD_OPT_LIST, NBD_REP_ERR_INVALID, "list takes no data");

	reply_option(handshake, NBD_OPT_LIST, NBD_REP_SERVER, &name_length, sizeof(name_length));
	reply_option(handshake, NBD_OPT_LIST, NBD_REP_ACK, NULL, 0);
	return NBD_HANDSHAKE_CONTINUE;
}

/*
 * INFO and GO: 32 bits name length, name, 16 bits number of information
 * requests, 16 bits each. The requests are not looked at: all there is to
 * say is said, and the protocol lets a server say more than it was asked.
 */
static bool info_parse(const uint8_t *data, uint32_t length, uint32_t *name_length)
{
	uint32_t name;
	uint16_t requests;

	if (length < sizeof(name) + sizeof(requests))
		return false;
	memcpy(&name, data, sizeof(name));
	name = be32toh(name);
	if (name > length - sizeof(name) - sizeof(requests))
		return false;
	memcpy(&requests, data + sizeof(name) + name, sizeof(requests));
	*name_length = name;
	return length - sizeof(name) - sizeof(requests) - name == be16toh(requests) * sizeof(requests);
}

static enum nbd_handshake_result option_info(struct nbd_handshake *handshake, const struct nbd_export *export,
					     uint32_t option, const uint8_t *data, uint32_t length)
{
	const struct nbd_info_export info = {
		.type = htobe16(NBD_INFO_EXPORT),
		.size = htobe64(export->size),
		.flags = htobe16(export->flags),
	};
	const struct nbd_info_block_size sizes = {
		.type = htobe16(NBD_INFO_BLOCK_SIZE),
		.minimum = htobe32(export->minimum),
		.preferred = htobe32(export->preferred),
		.maximum = htobe32(export->maximum),
	};
	uint32_t name_length;

	if (!info_parse(data, length, &name_length))
		return reply_error(handshake, option, NBD_REP_ERR_INVALID, "malformed export name or list of requests");
	if (name_length != 0)
		return reply_error(handshake, option, NBD_REP_ERR_UNKNOWN, unknown_export);

	reply_option(handshake, option, NBD_REP_INFO, &info, sizeof(info));
	reply_option(handshake, option, NBD_REP_INFO, &sizes, sizeof(sizes));
	reply_option(handshake, option, NBD_REP_ACK, NULL, 0);
	return option == NBD_OPT_GO ? NBD_HANDSHAKE_TRANSMISSION : NBD_HANDSHAKE_CONTINUE;
}

static enum nbd_handshake_result option_any(struct nbd_handshake *handshake, const struct nbd_export *export,
					    uint32_t option, const uint8_t *data, uint32_t length)
{
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(handshake, export, length);
	case NBD_OPT_ABORT:
		reply_option(handshake, option, NBD_REP_ACK, NULL, 0);
		return NBD_HANDSHAKE_END;
	case NBD_OPT_LIST:
		return option_list(handshake, length);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return option_info(handshake, export, option, data, length);
	default:
		return reply_error(handshake, option, NBD_REP_ERR_UNSUP, "option not supported");
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
		return handshake_bad(handshake, "unknown client flags");

	handshake->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	handshake->got_flags = true;
	return NBD_HANDSHAKE_CONTINUE;
}

enum nbd_handshake_result nbd_handshake_step(struct nbd_handshake *handshake, const struct nbd_export *export,
					     const uint8_t *data, size_t length, size_t *consumed)
{
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
		return handshake_bad(handshake, "bad option magic");
	if (data_length > NBD_MAX_OPTION_DATA)
		return handshake_bad(handshake, "option data too long");
	if (length - sizeof(option) < data_length)
		return NBD_HANDSHAKE_MORE;

	if (++handshake->options > NBD_MAX_OPTIONS)
		return handshake_bad(handshake, "too many options");
	*consumed = sizeof(option) + data_length;
	return option_any(handshake, export, be32toh(option.option), data + sizeof(option), data_length);
}
