/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hostile_nodes.c - scenario: a frontend writes nonsense where its rings
 * should be. Each time the backend says why, connects nothing, harms nobody,
 * and connects the same frontend once it makes sense.
 */
#include <xengnttab.h>

#include "array.h"
#include "frontend.h"

/* Longer than any number, shorter than xenstore's limit. */
static char long_value[3001];

struct nonsense {
	const char *node, *value;	/* NULL: the node is missing */
	const char *expected;		/* in the error node */
};

/* The same text is not reported twice, so neighbours differ in it. */
static const struct nonsense plain[] = {
	{ "ring-ref", NULL, "no ring-ref" },
	{ "ring-ref", "4294967296", "ring-ref is not a 32-bit number" },
	{ "ring-ref", "4294967295", "cannot map the ring of queue 0" },
	{ "ring-ref", "-1", "ring-ref is not a 32-bit number" },
	{ "ring-ref", "0", "cannot map the ring of queue 0" },
	{ "ring-ref", "", "ring-ref is not a 32-bit number" },
	{ "ring-page-order", "5", "ring-page-order is not a number from 0 to 4" },
	{ "ring-ref", "8 or so", "ring-ref is not a 32-bit number" },
	{ "ring-page-order", "99", "ring-page-order is not a number from 0 to 4" },
	{ "ring-ref", long_value, "ring-ref is not a 32-bit number" },
	{ "ring-page-order", "-1", "ring-page-order is not a number from 0 to 4" },
	{ "multi-queue-num-queues", "0", "multi-queue-num-queues is 0" },
	{ "multi-queue-num-queues", "17", "multi-queue-num-queues is not a number" },
	{ "ring-page-order", long_value, "ring-page-order is not a number from 0 to 4" },
	{ "multi-queue-num-queues", "1000000", "multi-queue-num-queues is not a number" },
	{ "event-channel", NULL, "no event-channel" },
	{ "multi-queue-num-queues", "abc", "multi-queue-num-queues is not a number" },
	{ "event-channel", "0", "event-channel is 0" },
	{ "event-channel", "abc", "event-channel is not a 32-bit number" },
	{ "event-channel", "100000", "cannot bind event channel 100000" },
	{ "event-channel", "4294967295", "cannot bind event channel 4294967295" },
	{ "protocol", "vax-abi", "protocol \"vax-abi\" is unknown" },
	{ "feature-persistent", "2", "feature-persistent is not a number from 0 to 1" },
	{ "protocol", long_value, "11111\" is unknown" },
	{ "feature-persistent", "perhaps", "feature-persistent is not a number from 0 to 1" },
}, large[] = {
	{ "ring-ref3", NULL, "no ring-ref3" },
	{ "ring-ref3", "4294967295", "cannot map the ring of queue 0" },
}, several[] = {
	{ "queue-1/ring-ref", NULL, "no ring-ref" },
	{ "queue-1/ring-ref", "4294967295", "cannot map the ring of queue 1" },
	{ "queue-1/event-channel", NULL, "no event-channel" },
	{ "queue-1", NULL, "no ring-ref" },
};

static void write_or_remove(const struct disk *disk, const char *node, const char *value)
{
	char path[256];

	if (value) {
		disk_write_node(disk->frontend, node, value);
		return;
	}
	snprintf(path, sizeof(path), "%s/%s", disk->frontend, node);
	if (!xs_rm(store, XBT_NULL, path))
		fail("cannot remove %s: %m", path);
}

/* The frontend is refused, the error is reported, and no resources are kept. */
static void expect_refusal(struct disk *disk, struct blkfront *front, const char *expected, struct resources before)
{
	disk_wait_error(disk, expected);
	if (blkfront_xen_backend_state(front) != BLKFRONT_INIT_WAIT)
		fail("'%s', and the backend is in state %u", expected, blkfront_xen_backend_state(front));
	disk_same_resources(disk, before);
}

/* With corrected nodes the same frontend is served, and the error nodes are gone. */
static void expect_service(struct disk *disk, struct blkfront *front, unsigned queues, struct resources before)
{
	struct load load;

	check_witnesses();
	must(blkfront_xen_set_state(front, BLKFRONT_INITIALISING), "state Initialising");
	must(blkfront_xen_publish(front), "publish");
	must(blkfront_xen_finish(front), "backend Connected");
	disk_no_error(disk);
	load_init(&load, disk, front, queues);
	load_run(&load, SLOTS);
	load_drain(&load);
	disk_disconnect(disk, front);
	disk_same_resources(disk, before);
}

/* Tries each of @nonsense, with a frontend of @shape that is correct otherwise. */
static void try_all(struct disk *disk, struct blkfront_options shape, const struct nonsense *nonsense, unsigned count)
{
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_prepare(disk, shape);

	for (unsigned i = 0; i < count; i++, nonsense++) {
		step("%s is %.20s", nonsense->node, nonsense->value ? nonsense->value : "missing");
		must(blkfront_xen_set_state(front, BLKFRONT_INITIALISING), "state Initialising");
		must(blkfront_xen_write_nodes(front), "nodes");
		write_or_remove(disk, nonsense->node, nonsense->value);
		must(blkfront_xen_set_state(front, BLKFRONT_INITIALISED), "state Initialised");
		expect_refusal(disk, front, nonsense->expected, before);
	}
	expect_service(disk, front, shape.queues, before);
}

/* Both rings have the same event channel, which can be bound only once. */
static void try_same_channel(struct disk *disk)
{
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_prepare(disk, (struct blkfront_options){ .queues = 2 });
	char port[16];

	step("one event channel for two queues");
	snprintf(port, sizeof(port), "%u", blkfront_xen_port(front, 0));
	must(blkfront_xen_write_nodes(front), "nodes");
	disk_write_node(disk->frontend, "queue-1/event-channel", port);
	must(blkfront_xen_set_state(front, BLKFRONT_INITIALISED), "state Initialised");
	expect_refusal(disk, front, "cannot bind event channel", before);
	expect_service(disk, front, 2, before);
}

/*
 * The backend's node points out of its domain's part of xenstore. The frontend there, which is correct, is not looked at; with
 * its own path again the disk is served.
 */
static void try_elsewhere(struct disk *disk)
{
	static const char *const domains[] = { "/local/domain/1", "/local/domain/00", "local/domain/0", "/local/domain/0x", "" };
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_prepare(disk, (struct blkfront_options){ 0 });
	char path[64], expected[128];

	for (unsigned i = 0; i < ARRAY_SIZE(domains); i++) {
		snprintf(path, sizeof(path), "%s/test-frontends/%u", domains[i], disk->devid);
		step("a frontend at %s", path);
		must(blkfront_xen_set_state(front, BLKFRONT_INITIALISING), "state Initialising");
		disk_write_node(disk->backend, "frontend", path);
		must(blkfront_xen_write_nodes(front), "nodes");
		must(blkfront_xen_set_state(front, BLKFRONT_INITIALISED), "state Initialised");
		snprintf(expected, sizeof(expected), "frontend %s is not domain 0's", path);
		expect_refusal(disk, front, expected, before);
	}
	must(blkfront_xen_set_state(front, BLKFRONT_INITIALISING), "state Initialising");
	disk_write_node(disk->backend, "frontend", disk->frontend);
	expect_service(disk, front, 1, before);
}

/* A page that is granted, but not for writing, or not to the backend. */
static void try_page(struct disk *disk, uint32_t domid, int writable)
{
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_prepare(disk, (struct blkfront_options){ 0 });
	xengntshr_handle *grants = xengntshr_open(NULL, 0);
	char value[16];
	uint32_t ref;
	void *page = grants ? xengntshr_share_pages(grants, domid, 1, &ref, writable) : NULL;

	if (!page)
		fail("cannot grant a page: %m");
	step("a ring in a page granted to domain %u%s", domid, writable ? "" : " read-only");
	snprintf(value, sizeof(value), "%u", ref);
	must(blkfront_xen_write_nodes(front), "nodes");
	disk_write_node(disk->frontend, "ring-ref", value);
	must(blkfront_xen_set_state(front, BLKFRONT_INITIALISED), "state Initialised");
	expect_refusal(disk, front, "cannot map the ring of queue 0", before);
	expect_service(disk, front, 1, before);
	xengntshr_unshare(grants, page, 1);
	xengntshr_close(grants);
}

/* A ring that claims to hold more requests than it can. */
static void try_indices(struct disk *disk)
{
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_prepare(disk, (struct blkfront_options){ 0 });
	volatile uint32_t *req_prod = blkfront_ring(front, 0);

	step("a ring whose indices are impossible");
	*req_prod = 33;
	must(blkfront_xen_publish(front), "publish");
	expect_refusal(disk, front, "impossible indices", before);
	*req_prod = 0;
	expect_service(disk, front, 1, before);
}

/* An invalid state must not cause any action. */
static void try_states(struct disk *disk)
{
	static const char *const states[] = { "99", "abc", "", "-1", "3 ", "0", "7", long_value };
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_connect(disk, (struct blkfront_options){ .persistent = true });
	struct load load;

	step("a state that is none, while connected");
	load_init(&load, disk, front, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(states); i++) {
		disk_write_node(disk->frontend, "state", states[i]);
		load_run(&load, 2 * SLOTS);
		if (blkfront_xen_backend_state(front) != BLKFRONT_CONNECTED)
			fail("state '%.20s' made the backend go to %u", states[i], blkfront_xen_backend_state(front));
	}
	load_drain(&load);
	must(blkfront_xen_set_state(front, BLKFRONT_CONNECTED), "state Connected");
	disk_no_error(disk);
	disk_disconnect(disk, front);
	disk_same_resources(disk, before);
}

#define ALL(nonsense) nonsense, ARRAY_SIZE(nonsense)

void scenario_nodes(struct disk *disk)
{
	memset(long_value, '1', sizeof(long_value) - 1);
	try_all(disk, (struct blkfront_options){ .queues = 1 }, ALL(plain));
	try_all(disk, (struct blkfront_options){ .queues = 1, .ring_page_order = 2 }, ALL(large));
	if (disk_read_number(disk->backend, "multi-queue-max-queues") > 1) {
		try_all(disk, (struct blkfront_options){ .queues = 2 }, ALL(several));
		try_same_channel(disk);
	}
	try_elsewhere(disk);
	try_page(disk, 0, 0);
	try_page(disk, 1, 1);
	try_indices(disk);
	try_states(disk);
	disk_verify_image(disk);
}
