/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * nbd_client.h - an NBD client for tests: sends valid and invalid messages.
 */
#ifndef TEST_NBD_CLIENT_H
#define TEST_NBD_CLIENT_H

#include <endian.h>
#include <errno.h>
#include <sys/un.h>

#include "nbd_handshake.h"
#include "nbd_process.h"
#include "nbd_protocol.h"

static inline int client_connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = TIMEOUT_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)), 0);
	return fd;
}

static inline int client_connect(void)
{
	return client_connect_to(socket_path);
}

static inline void client_send(int fd, const void *data, size_t length)
{
	const char *bytes = data;

	while (length > 0) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);

		assert_true(sent > 0);
		bytes += sent;
		length -= sent;
	}
}

static inline void client_receive(int fd, void *data, size_t length)
{
	char *bytes = data;

	while (length > 0) {
		ssize_t got = recv(fd, bytes, length, 0);

		assert_true(got > 0);
		bytes += got;
		length -= got;
	}
}

/* The server must hang up; data before that is skipped. */
static inline void client_expect_end(int fd)
{
	char rest[4096];
	ssize_t got;

	do
		got = recv(fd, rest, sizeof(rest), 0);
	while (got > 0);
	assert_true(got == 0 || errno == ECONNRESET);
	close(fd);
}

static inline int client_greet_on(const char *path, uint32_t flags)
{
	struct nbd_greeting greeting;
	int fd = client_connect_to(path);

	client_receive(fd, &greeting, sizeof(greeting));
	assert_true(be64toh(greeting.init_magic) == NBD_INIT_MAGIC);
	assert_true(be64toh(greeting.option_magic) == NBD_OPTION_MAGIC);
	assert_int_equal(be16toh(greeting.flags), NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	flags = htobe32(flags);
	client_send(fd, &flags, sizeof(flags));
	return fd;
}

static inline int client_greet(uint32_t flags)
{
	return client_greet_on(socket_path, flags);
}

static inline void client_option(int fd, uint32_t option, const void *data, uint32_t length)
{
	struct nbd_option header = { htobe64(NBD_OPTION_MAGIC), htobe32(option), htobe32(length) };

	client_send(fd, &header, sizeof(header));
	client_send(fd, data, length);
}

/* Return the reply's type; its data go to @data, their length to @length. */
static uint32_t client_option_reply(int fd, uint32_t option, uint8_t data[512], uint32_t *length)
{
	struct nbd_option_reply reply;

	client_receive(fd, &reply, sizeof(reply));
	assert_true(be64toh(reply.magic) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(be32toh(reply.option), option);
	*length = be32toh(reply.length);
	assert_true(*length <= 512);
	client_receive(fd, data, *length);
	return be32toh(reply.type);
}

static const uint8_t no_name[6];	/* name length 0, no information requests */

/* INFO or GO for the default export; returns the transmission flags. */
static uint16_t client_info(int fd, uint32_t option, struct nbd_info_block_size *sizes)
{
	struct nbd_info_export export;
	uint8_t data[512];
	uint32_t length;

	client_option(fd, option, no_name, sizeof(no_name));
	assert_int_equal(client_option_reply(fd, option, data, &length), NBD_REP_INFO);
	assert_int_equal(length, sizeof(export));
	memcpy(&export, data, sizeof(export));
	assert_int_equal(be16toh(export.type), NBD_INFO_EXPORT);
	assert_true(be64toh(export.size) == DISK_BYTES);
	assert_int_equal(client_option_reply(fd, option, data, &length), NBD_REP_INFO);
	assert_int_equal(length, sizeof(*sizes));
	memcpy(sizes, data, sizeof(*sizes));
	assert_int_equal(be16toh(sizes->type), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(client_option_reply(fd, option, data, &length), NBD_REP_ACK);
	return be16toh(export.flags);
}

static inline int client_go(void)
{
	struct nbd_info_block_size sizes;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);

	client_info(fd, NBD_OPT_GO, &sizes);
	return fd;
}

/* Negotiate structured replies. */
static inline int client_greet_structured(void)
{
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);

	client_option(fd, NBD_OPT_STRUCTURED_REPLY, "", 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_STRUCTURED_REPLY, data, &length), NBD_REP_ACK);
	return fd;
}

static inline size_t client_put_text(uint8_t *data, const char *text)
{
	uint32_t length = htobe32(strlen(text));

	memcpy(data, &length, sizeof(length));
	memcpy(data + sizeof(length), text, strlen(text));
	return sizeof(length) + strlen(text);
}

/* LIST_ or SET_META_CONTEXT; @contexts ends with a NULL. */
static inline void client_send_contexts(int fd, uint32_t option, const char *export, const char *const *contexts)
{
	static uint8_t data[NBD_MAX_OPTION_DATA];
	size_t length = client_put_text(data, export), count_at = length;
	uint32_t count = 0;

	for (length += sizeof(count); contexts[count]; count++)
		length += client_put_text(data + length, contexts[count]);
	count = htobe32(count);
	memcpy(data + count_at, &count, sizeof(count));
	client_option(fd, option, data, length);
}

/* The number of contexts in the server's reply, or its error. */
static inline uint32_t client_contexts(int fd, uint32_t option, const char *export, const char *const *contexts)
{
	uint32_t type, length, count = 0;
	uint8_t data[512];

	client_send_contexts(fd, option, export, contexts);
	while ((type = client_option_reply(fd, option, data, &length)) == NBD_REP_META_CONTEXT)
		count++;
	return type == NBD_REP_ACK ? count : type;
}

/* GO to @export; the reply to a success is skipped. */
static inline uint32_t client_go_to(int fd, const char *export)
{
	uint8_t data[512];
	size_t length = client_put_text(data, export);
	uint32_t type, bytes;

	memset(data + length, 0, 2);
	client_option(fd, NBD_OPT_GO, data, length + 2);
	do
		type = client_option_reply(fd, NBD_OPT_GO, data, &bytes);
	while (type == NBD_REP_INFO);
	return type;
}

static inline struct nbd_wire_request wire(uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length)
{
	return (struct nbd_wire_request){
		htobe32(NBD_REQUEST_MAGIC), htobe16(flags), htobe16(type), cookie, htobe64(offset), htobe32(length)
	};
}

static inline void client_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset, uint32_t length)
{
	struct nbd_wire_request request = wire(type, flags, cookie, offset, length);

	client_send(fd, &request, sizeof(request));
}

static uint32_t client_reply(int fd, uint64_t *cookie)
{
	struct nbd_wire_reply reply;

	client_receive(fd, &reply, sizeof(reply));
	assert_int_equal(be32toh(reply.magic), NBD_REPLY_MAGIC);
	*cookie = reply.cookie;
	return be32toh(reply.error);
}

/* Receive a chunk of a structured reply; its payload goes to @data. True if it is the last one. */
static inline bool client_chunk(int fd, uint64_t cookie, uint16_t *type, void *data, uint32_t room, uint32_t *length)
{
	struct nbd_wire_chunk chunk;

	client_receive(fd, &chunk, sizeof(chunk));
	assert_int_equal(be32toh(chunk.magic), NBD_CHUNK_MAGIC);
	assert_true(chunk.cookie == cookie);
	*type = be16toh(chunk.type);
	*length = be32toh(chunk.length);
	assert_true(*length <= room);
	client_receive(fd, data, *length);
	return be16toh(chunk.flags) & NBD_CHUNK_FLAG_DONE;
}

/* Do one request; returns the reply's error. @data: the data to write, or the buffer to read into. */
static uint32_t client_command(int fd, uint16_t type, uint16_t flags, uint64_t offset, uint32_t length, void *data)
{
	static uint64_t last_cookie;
	uint64_t cookie, sent = ++last_cookie * 0x0123456789abcdefULL;
	uint32_t error;

	client_request(fd, type, flags, sent, offset, length);
	if (type == NBD_CMD_WRITE)
		client_send(fd, data, length);
	error = client_reply(fd, &cookie);
	assert_true(cookie == sent);
	if (type == NBD_CMD_READ && !error)
		client_receive(fd, data, length);
	return error;
}

static inline void client_leave(int fd)
{
	client_request(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	client_expect_end(fd);
}

/* Check that an honest client is served. */
static inline void expect_service(void)
{
	uint8_t data[4096];
	int fd = client_go();

	assert_int_equal(client_command(fd, NBD_CMD_READ, 0, DISK_BYTES - sizeof(data), sizeof(data), data), 0);
	client_leave(fd);
}

#endif
