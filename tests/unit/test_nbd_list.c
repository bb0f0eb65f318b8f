/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_nbd_list.c - lists of exports and of metadata contexts that are longer
 * than a reply: complete in spite of what happens between two parts, with
 * little memory, and each snapshot is looked at once.
 */
#include "cow.h"
#include "driver.h"
#include "engine_run.h"
#include "nbd_client.h"
#include "nbd_connection.h"

#define MANY 5000u
#define ON_MANY(test) cmocka_unit_test_setup_teardown(test, start_many, end)
#define ON_COUNTED(test) cmocka_unit_test_setup_teardown(test, open_counted, close_counted)

/* A name of the greatest length. */
static void many_name(char name[NBD_MAX_NAME + 1], unsigned i)
{
	snprintf(name, NBD_MAX_NAME + 1, "%04u-%0*u", i * 7 % MANY, (int)NBD_MAX_NAME - 5, i);
}

/* Each snapshot waits for its sync; this store need not survive a power cut. */
static int no_sync(struct cow_device *device)
{
	return 0;
}

/* A store with so many snapshots that their names fit into no single reply. */
static void make_many(char target[100])
{
	const struct cow_create_options create = { .sectors = DISK_BYTES / 512 };
	const struct cow_open_options options = { 0 };
	char name[NBD_MAX_NAME + 1];
	struct error_text text = { "" };
	struct cow_device_ops ops;
	struct cow_device *device;
	struct cow_store *store;

	unlink(image);
	assert_int_equal(cow_file_create(&device, image, &text), 0);
	assert_int_equal(cow_create(device, &create, &text), 0);
	ops = *device->ops;
	ops.write_durable = ops.write;
	ops.sync = no_sync;
	device->ops = &ops;
	assert_int_equal(cow_open(&store, device, &options, &text), 0);
	for (unsigned i = 0; i < MANY; i++) {
		many_name(name, i);
		assert_int_equal(cow_snapshot_create(store, name, NULL, &text), 0);
	}
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
	snprintf(target, 100, "cow:%s", image);
}

static int start_many(void **state)
{
	char target[100];

	make_many(target);
	server_start(target, false, 0);
	return 0;
}

static int offer_many(void *owner, uint64_t from, int (*each)(void *arg, const char *name, uint32_t id), void *arg)
{
	char name[NBD_MAX_NAME + 1];
	int ret = 0;

	for (unsigned i = from; i < 10 * MANY && !ret; i++) {
		many_name(name, i);
		ret = each(arg, name, i);
	}
	return ret;
}

static const uint8_t list_message[] = { 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, NBD_OPT_LIST, 0, 0, 0, 0 };

/* What a list of any length uses is a part of it. */
static void test_list_uses_little_memory(void **state)
{
	const size_t all = 10 * MANY * (sizeof(struct nbd_option_reply) + 4 + NBD_MAX_NAME) + sizeof(struct nbd_option_reply);
	const struct nbd_offer offer = { .list = offer_many };
	struct nbd_handshake handshake;
	size_t consumed, sum = 0;

	assert_int_equal(nbd_handshake_begin(&handshake), 0);
	handshake.got_flags = true;
	do {
		handshake.reply_length = 0;
		assert_int_equal(nbd_handshake_step(&handshake, &offer, list_message, sizeof(list_message), &consumed),
				 NBD_HANDSHAKE_CONTINUE);
		assert_in_range(handshake.reply_room, handshake.reply_length, 2 * NBD_LIST_PART);
		sum += handshake.reply_length;
	} while (!consumed);
	assert_int_equal(consumed, sizeof(list_message));
	assert_int_equal(sum, all);
	nbd_handshake_end(&handshake);
}

/* Every export is listed, once, however many there are. */
static void test_list_of_many(void **state)
{
	char expected[NBD_MAX_NAME + 1] = "";
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet(NBD_FLAG_FIXED_NEWSTYLE);

	client_option(fd, NBD_OPT_LIST, "", 0);
	client_option(fd, NBD_OPT_ABORT, "", 0);
	for (unsigned i = 0; i <= MANY; i++) {
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_SERVER);
		assert_int_equal(length, 4 + strlen(expected));
		assert_memory_equal(data + 4, expected, length - 4);
		many_name(expected, i);
	}
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST, data, &length), NBD_REP_ACK);
	assert_int_equal(client_option_reply(fd, NBD_OPT_ABORT, data, &length), NBD_REP_ACK);
	client_expect_end(fd);
}

static void expect_context(int fd, const char *prefix, const char *name)
{
	uint8_t data[512];
	uint32_t length;

	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_META_CONTEXT);
	assert_int_equal(length, 4 + strlen(prefix) + strlen(name));
	assert_memory_equal(data + 4, prefix, strlen(prefix));
	assert_memory_equal(data + 4 + strlen(prefix), name, strlen(name));
}

/* The rest of a list of each snapshot's context, from @i on. */
static void expect_contexts(int fd, unsigned i)
{
	char name[NBD_MAX_NAME + 1];

	for (; i < MANY; i++) {
		many_name(name, i);
		expect_context(fd, "tapsnap:changed:", name);
	}
}

/* Each query's answer is longer than a reply. */
static void test_contexts_of_many(void **state)
{
	char last[16 + NBD_MAX_NAME + 1] = "tapsnap:changed:";
	const char *const queries[] = { "base:", "tapsnap:", "", "nothing:", last, "tapsnap:changed:", "base:allocation", NULL };
	uint8_t data[512];
	uint32_t length;
	int fd = client_greet_structured();

	many_name(last + strlen(last), MANY - 1);
	client_send_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries);
	expect_context(fd, "base:", "allocation");
	expect_contexts(fd, 0);
	expect_context(fd, "", last);
	expect_contexts(fd, 0);
	expect_context(fd, "base:", "allocation");
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_ACK);

	client_send_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries + 7);	/* none: all contexts */
	expect_context(fd, "base:", "allocation");
	expect_contexts(fd, 0);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_ACK);
	assert_int_equal(client_go_to(fd, ""), NBD_REP_ACK);
	client_leave(fd);
}

#define LONGEST (NBD_MAX_QUERIES * MANY)

/* Begin a list that no socket holds, and pause the disk; then take what comes of it until nothing does. */
static unsigned pause_in_a_list(int fd)
{
	const char *queries[NBD_MAX_QUERIES + 1] = { NULL };
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	unsigned count = 0;
	uint8_t data[512];
	uint32_t length;

	for (unsigned i = 0; i < NBD_MAX_QUERIES; i++)
		queries[i] = "tapsnap:";
	client_send_contexts(fd, NBD_OPT_LIST_META_CONTEXT, "", queries);
	assert_int_equal(poll(&ready, 1, TIMEOUT_MS), 1);
	assert_int_equal(server_command('p'), 'k');
	for (; poll(&ready, 1, 200) > 0; count++)
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_META_CONTEXT);
	assert_in_range(count, 1, LONGEST - 1);
	return count;
}

/* While the disk is paused nobody knows its snapshots: what is missing of the list follows afterwards. */
static void test_pause_in_a_list(void **state)
{
	int fd = client_greet_structured();
	uint8_t data[512];
	uint32_t length;
	unsigned count;

	count = pause_in_a_list(fd);
	assert_int_equal(server_command('u'), 'k');
	for (; count < LONGEST; count++)
		assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_META_CONTEXT);
	assert_int_equal(client_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, data, &length), NBD_REP_ACK);
	close(fd);
}

/* The rest would be the list of another store. */
static void test_another_store_in_a_list(void **state)
{
	int fd = client_greet_structured();
	char more;

	pause_in_a_list(fd);
	make_store();
	assert_int_equal(server_command('u'), 'k');
	assert_int_equal(recv(fd, &more, 1, 0), 0);
	close(fd);
	expect_service();
}

/* A disk whose driver counts the snapshots that it looks at, and its exports, in this process. */
static struct {
	struct engine *engine;
	struct driver_ops ops;
	struct vbd vbd;
	struct nbd_server server;
	struct nbd_offer offer;
	int (*each)(void *owner, const struct snapshot_info *info);
	unsigned visited;
	unsigned seen[MANY + 1];	/* how often each snapshot was in the list */
	unsigned entries, parts;
} counted;

static int count_visit(void *owner, const struct snapshot_info *info)
{
	counted.visited++;
	return counted.each(owner, info);
}

static int counted_list(void *handle, uint64_t from, int (*each)(void *owner, const struct snapshot_info *info), void *owner)
{
	counted.each = each;
	return driver_cow.snapshot_list(handle, from, count_visit, owner);
}

static int open_counted(void **state)
{
	struct driver_options options = { 0 };
	struct error_text text = { "" };
	struct backend *backend;
	char target[100];

	make_many(target);
	memset(&counted, 0, sizeof(counted));
	assert_int_equal(engine_open(&counted.engine, "sync", 16), 0);
	if (backend_open(&backend, counted.engine, target, &options, &text))
		fail_msg("%s", text.text);
	counted.ops = *backend->ops;
	counted.ops.snapshot_list = counted_list;
	backend->ops = &counted.ops;
	counted.vbd.backend = backend;
	counted.vbd.geometry = backend->geometry;
	counted.vbd.state = VBD_RUNNING;
	counted.server.client.vbd = &counted.vbd;
	counted.server.overlay = -1;
	counted.offer = nbd_exports;
	counted.offer.owner = &counted.server;
	return 0;
}

static int close_counted(void **state)
{
	backend_close(counted.vbd.backend);
	engine_close(counted.engine);
	unlink(image);
	return 0;
}

/* Snapshot 12 is named "...-00...012"; others that are made later have an index behind all of these. */
static void note_names(const uint8_t *reply, size_t length)
{
	struct nbd_option_reply header;
	char name[NBD_MAX_NAME + 1];
	uint32_t bytes;

	for (size_t at = 0; at < length; at += sizeof(header) + bytes) {
		memcpy(&header, reply + at, sizeof(header));
		bytes = be32toh(header.length);
		if (bytes < NBD_MAX_NAME)
			continue;
		memcpy(name, reply + at + sizeof(header) + bytes - NBD_MAX_NAME, NBD_MAX_NAME);
		name[NBD_MAX_NAME] = '\0';
		counted.seen[strtoul(strchr(name, '-') + 1, NULL, 10)]++;
		counted.entries++;
	}
}

/* The whole answer to @message; @after is called after each part of it. */
static void answer(const uint8_t *message, size_t length, void (*after)(void))
{
	struct nbd_handshake handshake;
	size_t consumed;

	assert_int_equal(nbd_handshake_begin(&handshake), 0);
	handshake.got_flags = handshake.structured = true;
	counted.visited = counted.entries = counted.parts = 0;
	memset(counted.seen, 0, sizeof(counted.seen));
	do {
		handshake.reply_length = 0;
		assert_int_equal(nbd_handshake_step(&handshake, &counted.offer, message, length, &consumed),
				 NBD_HANDSHAKE_CONTINUE);
		assert_in_range(handshake.reply_room, handshake.reply_length, 2 * NBD_LIST_PART);
		note_names(handshake.reply, handshake.reply_length);
		counted.parts++;
		if (after)
			after();
	} while (!consumed);
	assert_int_equal(consumed, length);
	assert_true(counted.parts > 10);
	nbd_handshake_end(&handshake);
}

static void expect_each_once(void)
{
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(counted.seen[i], 1);
	assert_int_equal(counted.entries, MANY);
}

/* A part of the list looks at those that it sends and at one more, which was too many. */
static void test_list_looks_once(void **state)
{
	answer(list_message, sizeof(list_message), NULL);
	expect_each_once();
	assert_in_range(counted.visited, MANY, MANY + counted.parts);
}

/* The same for contexts, where the export itself has to be found once before. */
static void test_contexts_look_once(void **state)
{
	struct {
		uint8_t head[12];
		uint32_t length, name_length;
		char name[NBD_MAX_NAME];
		uint32_t queries;
	} __attribute__((packed)) message = { .head = { 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0,
							NBD_OPT_LIST_META_CONTEXT } };
	char name[NBD_MAX_NAME + 1];

	many_name(name, MANY - 1);
	message.length = htobe32(sizeof(message) - sizeof(message.head) - sizeof(message.length));
	message.name_length = htobe32(NBD_MAX_NAME);
	memcpy(message.name, name, NBD_MAX_NAME);
	answer((const uint8_t *)&message, sizeof(message), NULL);
	expect_each_once();
	assert_in_range(counted.visited, 2 * MANY, 2 * MANY + counted.parts);
}

static void command_done(struct snapshot_command *command, int error)
{
	*(int *)command->owner = error;
}

static void change(enum snapshot_op op, unsigned i)
{
	char name[NBD_MAX_NAME + 1];
	int error = 1;
	struct snapshot_command command = { .op = op, .name = name, .done = command_done, .owner = &error };

	many_name(name, i);
	backend_snapshot(counted.vbd.backend, &command);
	while (error == 1)
		engine_run(counted.engine);
	assert_int_equal(error, 0);
}

/* The one that was sent last, the next one, and one that comes later; one is made. */
static void change_after_first_part(void)
{
	unsigned sent = counted.entries;

	if (counted.parts > 1)
		return;
	change(SNAPSHOT_DELETE, sent - 1);
	change(SNAPSHOT_DELETE, sent);
	change(SNAPSHOT_DELETE, MANY - 1);
	change(SNAPSHOT_CREATE, MANY);
}

/* What is there from the beginning to the end is listed once, whatever comes and goes beside it. */
static void test_list_that_changes(void **state)
{
	unsigned missing = 0;

	answer(list_message, sizeof(list_message), change_after_first_part);
	for (unsigned i = 0; i <= MANY; i++) {
		assert_in_range(counted.seen[i], 0, 1);
		missing += !counted.seen[i];
	}
	assert_int_equal(missing, 2);
	assert_int_equal(counted.seen[MANY - 1], 0);
	assert_int_equal(counted.seen[MANY], 1);
	assert_in_range(counted.visited, MANY - 2, MANY + counted.parts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list_uses_little_memory),
		ON_MANY(test_list_of_many),
		ON_MANY(test_contexts_of_many),
		ON_MANY(test_pause_in_a_list),
		ON_MANY(test_another_store_in_a_list),
		ON_COUNTED(test_list_looks_once),
		ON_COUNTED(test_contexts_look_once),
		ON_COUNTED(test_list_that_changes),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
