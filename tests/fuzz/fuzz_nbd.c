/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_nbd.c - an NBD client that sends arbitrary data to the real server, over
 * a disk in a store with snapshots.
 *
 * An input is a byte of switches, then actions of a byte each, modulo 8,
 * followed by what they need:
 *   0  an option: its number (1), length of its data (1), data
 *   1  an option about contexts: its number (1), the export (1), how many (1), which (1 each)
 *   2  GO or INFO (1), the export (1)
 *   3  a request: type (1), flags (1), sector (2), bytes (3), and a WRITE's data;
 *      the action divided by 8 is the number of times that it is sent, up to 16
 *   4  bytes: how many (1), bytes
 *   5  let the server run, and take its replies
 *   6  let the server run, and take nothing
 *   7  pause and resume
 * 0xf6 and 0xfe differ from 6: the client takes nothing from then on, or hangs
 * up; the server does not run.
 * Switches: 1 no flags are sent, 2 structured replies, 4 GO to the disk, 8 to a
 * snapshot, 16 no zeroes after an old-style reply. Lengths, magics and names are
 * right, except in action 4, so that a few bytes get far.
 *
 * At the end it prints the number of answered requests.
 */
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cow_internal.h"
#include "fuzz_input.h"
#include "log.h"
#include "metrics.h"
#include "nbd_connection.h"

#define SECTORS 8192u
#define TURNS 8			/* of the loop, when the server runs */
#define MAX_BYTES (256u << 10)	/* of most requests: longer ones are refused, or slow */

static const char *const exports[] = { "", "one", "two", "none" };
static const char *const contexts[] = { "base:allocation", "tapsnap:changed:one", "tapsnap:changed:two", "base:",
					"tapsnap:", "tapsnap:changed:", "", "tapsnap:changed:none" };

static struct loop *loop;
static struct engine *engine;
static struct vbd *vbd;
static int client;
static unsigned turns;
static char directory[64], image[80];

/* Run the loop without sleeping. */
static bool turn(void *arg)
{
	engine_commit(engine);
	engine_reap(engine);
	if (!--turns)
		loop_quit(loop);
	return true;
}

static void run(void)
{
	turns = TURNS;
	must(loop_run(loop));
}

static void take(void)
{
	static uint8_t data[65536];

	while (recv(client, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
}

/* Send; data that the server has not taken after some tries is lost, as when a client hangs up in the middle. */
static void give(const void *data, size_t length)
{
	const uint8_t *at = data;

	for (unsigned tries = 0; length && tries < 4; tries++) {
		ssize_t sent = send(client, at, length, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent > 0) {
			at += sent;
			length -= sent;
		} else {
			run();
			take();
		}
	}
}

static void give_option(uint32_t number, const void *data, uint32_t length)
{
	const struct nbd_option header = { htobe64(NBD_OPTION_MAGIC), htobe32(number), htobe32(length) };

	give(&header, sizeof(header));
	give(data, length);
}

static size_t put_text(uint8_t *data, const char *text)
{
	uint32_t length = htobe32(strlen(text));

	memcpy(data, &length, sizeof(length));
	memcpy(data + sizeof(length), text, strlen(text));
	return sizeof(length) + strlen(text);
}

static void give_go(uint32_t number, const char *export)
{
	uint8_t data[64] = { 0 };

	give_option(number, data, put_text(data, export) + 2);
}

static void give_contexts(struct input *input)
{
	uint32_t number = next(input) & 1 ? NBD_OPT_SET_META_CONTEXT : NBD_OPT_LIST_META_CONTEXT, count;
	uint8_t data[1024];
	size_t length = put_text(data, exports[next(input) % 4]);
	unsigned queries = next(input) % 24;

	count = htobe32(queries);
	memcpy(data + length, &count, sizeof(count));
	for (length += sizeof(count); queries; queries--)
		length += put_text(data + length, contexts[next(input) % 8]);
	give_option(number, data, length);
}

/* Most requests are of whole sectors and not too long; offsets go a little beyond the end. */
static void give_request(struct input *input, unsigned times)
{
	static uint8_t data[MAX_BYTES];
	uint8_t type = next(input), flags = next(input);
	uint64_t offset = next(input);
	uint32_t length;
	struct nbd_wire_request request;

	offset = (offset | (uint64_t)next(input) << 8) % (SECTORS + 16) * 512;
	length = next(input);
	length |= (uint32_t)next(input) << 8;
	length |= (uint32_t)next(input) << 16;
	if (flags & 0x80)
		offset += length & 511;		/* not a whole sector, or beyond all ends */
	else
		length = (length % MAX_BYTES & ~511u) + 512;
	if (flags & 0x40)
		offset = ~offset;
	request = (struct nbd_wire_request){ htobe32(NBD_REQUEST_MAGIC), htobe16(flags & 0x3f), htobe16(type % 10), type,
					     htobe64(offset), htobe32(length) };
	while (times--) {
		give(&request, sizeof(request));
		if (type % 10 == NBD_CMD_WRITE)
			give(data, length < sizeof(data) ? length : sizeof(data));
	}
}

static void note_end(void *arg, int error)
{
	*(bool *)arg = true;
}

static void pause_and_go_on(void)
{
	struct error_text error = { "" };
	bool paused = false;

	must(vbd_pause(vbd, false, note_end, &paused, &error));
	while (!paused)
		run();		/* a hang is a finding, too */
	must(vbd_unpause(vbd, NULL, &error));
}

static void act(struct input *input)
{
	uint8_t action = next(input);
	const uint8_t *at;
	uint32_t number;
	size_t length;

	switch (action % 8) {
	case 0:
		number = next(input);
		length = next(input);
		length = bytes(input, length, &at);
		give_option(number, at, length);
		break;
	case 1:
		give_contexts(input);
		break;
	case 2:
		number = next(input) & 1 ? NBD_OPT_INFO : NBD_OPT_GO;
		give_go(number, exports[next(input) % 4]);
		break;
	case 3:
		give_request(input, action / 8 % 16 + 1);
		break;
	case 4:
		length = next(input);
		length = bytes(input, length, &at);
		give(at, length);
		break;
	case 5:
		run();
		take();
		break;
	case 6:
		if (action >= 0xf0)
			shutdown(client, action & 8 ? SHUT_RDWR : SHUT_RD);
		else
			run();
		break;
	case 7:
		pause_and_go_on();
		break;
	}
}

static void begin(uint8_t switches)
{
	const uint32_t flags = htobe32(NBD_FLAG_FIXED_NEWSTYLE | (switches & 16 ? NBD_FLAG_NO_ZEROES : 0));
	int pair[2];

	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair));
	client = pair[0];
	must(nbd_server_join(vbd->nbd));
	must(nbd_connection_create(vbd->nbd, pair[1]));
	if (!(switches & 1))
		give(&flags, sizeof(flags));
	if (switches & 2)
		give_option(NBD_OPT_STRUCTURED_REPLY, "", 0);
	if (switches & 12)
		give_go(NBD_OPT_GO, switches & 4 ? "" : "one");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };

	begin(next(&input));
	while (input.size)
		act(&input);
	run();
	take();
	run();
	close(client);
	while (vbd->nbd->connections)
		run();
	return 0;
}

/* check adds up the printed numbers. */
static void end(void)
{
	struct queue_stats stats = { 0 };
	unsigned long long count;
	char path[128];

	nbd_server_stats(vbd->nbd, &stats);
	count = stats.invalid;
	for (unsigned op = 0; op < BLOCK_NR_OPS; op++)
		count += stats.ops[op].completed;
	printf("counted %llu requests\n", count);
	fflush(stdout);
	snprintf(path, sizeof(path), NBD_SOCKET_FORMAT, directory, (int)getpid(), vbd->minor);
	unlink(path);
	unlink(image);
	rmdir(directory);
	metrics_remove_directory();
}

static void make_store(void)
{
	const struct cow_create_options create = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	const struct cow_open_options options = { 0 };
	static uint8_t data[1 << 20];
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;

	memset(data, 7, sizeof(data));
	must(cow_file_create(&device, image, &error));
	must(cow_create(device, &create, &error));
	must(cow_open(&store, device, &options, &error));
	must(cow_write(store, data, 0, 2048));
	must(cow_snapshot_create(store, "one", NULL, &error));
	must(cow_write(store, data, 1024, 2048));
	must(cow_snapshot_create(store, "two", NULL, &error));
	must(cow_close(store));
	cow_file_close(device);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	char target[100];

	strcpy(directory, access("/dev/shm", W_OK) ? "/tmp/tapsnap-fuzz.XXXXXX" : "/dev/shm/tapsnap-fuzz.XXXXXX");
	if (!mkdtemp(directory))
		abort();
	setenv(RUN_DIR_ENV, directory, 1);
	log_open("fuzz", true);
	snprintf(image, sizeof(image), "%s/image", directory);
	snprintf(target, sizeof(target), "cow:%s", image);
	make_store();
	must(loop_create(&loop));
	must(loop_add_prepare(loop, &(struct loop_source *){ NULL }, turn, NULL));
	must(engine_open(&engine, "sync", 64));
	must(vbd_create(&vbd, loop, engine, 0));
	must(vbd_open(vbd, target, &options, &error));
	must(atexit(end));
	return 0;
}
