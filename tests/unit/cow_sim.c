/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_sim.c - see cow_sim.h.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cow_sim.h"

#define PUNCHED 0xdb		/* contents of what was punched are undefined */

uint64_t sim_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1dull >> 16;
}

static struct sim *sim_of(struct cow_device *device)
{
	return (struct sim *)device;
}

/* True if this call fails, because the power is off or because of an injected fault. */
static bool sim_fails(struct sim *sim, bool is_step, bool is_sync, int *error)
{
	*error = -EIO;
	if (sim->off)
		return true;
	if (is_step && sim->cut && ++sim->steps == sim->cut)
		sim->off = true;
	else if (is_step && !sim->cut)
		sim->steps++;
	if (sim->fail_syncs_only ? !is_sync : sim->fail_writes_only && (!is_step || is_sync))
		return false;
	if (++sim->calls >= sim->fail_at && sim->fail_at && sim->calls - sim->fail_at <= sim->fail_more) {
		*error = sim->fail_error;
		return true;
	}
	return false;
}

static int sim_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	struct sim *sim = sim_of(device);
	int error;

	assert(offset + length <= sim->size);
	if (sim_fails(sim, false, false, &error))
		return error;
	memcpy(data, sim->now + offset, length);
	return 0;
}

int sim_read_beside(struct sim *sim)
{
	int error;

	return sim_fails(sim, false, false, &error) ? error : 0;
}

static void sim_remember(struct sim *sim, const void *data, uint64_t offset, size_t length)
{
	struct sim_write *write;

	if (!length)
		return;
	if (sim->nr_writes == sim->room) {
		sim->room = sim->room ? sim->room * 2 : 64;
		sim->writes = reallocarray(sim->writes, sim->room, sizeof(*sim->writes));
		assert(sim->writes);
	}
	write = &sim->writes[sim->nr_writes++];
	*write = (struct sim_write){ .offset = offset, .length = length, .data = malloc(length) };
	assert(write->data);
	memcpy(write->data, data, length);
	memcpy(sim->now + offset, data, length);
}

static int sim_write(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	struct sim *sim = sim_of(device);
	int error;

	assert(offset + length <= sim->size && !(offset % 512) && !(length % 512));
	if (sim_fails(sim, true, false, &error)) {
		if (!sim->off)		/* it may have been done in part */
			sim_remember(sim, data, offset, sim_random(&sim->random) % (length / 512 + 1) * 512);
		return error;
	}
	sim_remember(sim, data, offset, length);
	return sim->off ? -EIO : 0;
}

static void sim_forget(struct sim *sim, size_t count)
{
	size_t i;

	if (!count)
		return;
	for (i = 0; i < count; i++)
		free(sim->writes[i].data);
	memmove(sim->writes, sim->writes + count, (sim->nr_writes - count) * sizeof(*sim->writes));
	sim->nr_writes -= count;
}

static int sim_sync(struct cow_device *device)
{
	struct sim *sim = sim_of(device);
	size_t covered = sim->nr_writes, i;
	int error;

	if (sim_fails(sim, true, true, &error))
		return error;
	if (sim->off)
		return -EIO;
	if (sim->on_sync)
		sim->on_sync(sim->on_sync_owner);
	for (i = 0; i < covered; i++)
		memcpy(sim->durable + sim->writes[i].offset, sim->writes[i].data, sim->writes[i].length);
	sim_forget(sim, covered);
	sim->durable_size = sim->size;
	return 0;
}

/* Only this write becomes durable: earlier ones need not be. */
static int sim_write_durable(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	struct sim *sim = sim_of(device);
	int ret = sim_write(device, data, offset, length);

	if (ret)
		return ret;
	memcpy(sim->durable + offset, data, length);
	free(sim->writes[--sim->nr_writes].data);
	return 0;
}

static int sim_punch(struct cow_device *device, uint64_t offset, uint64_t length)
{
	uint8_t *junk = malloc(length);
	int ret;

	assert(junk);
	memset(junk, PUNCHED, length);
	ret = sim_write(device, junk, offset, length);
	free(junk);
	return ret;
}

static uint64_t sim_size(struct cow_device *device)
{
	return sim_of(device)->size;
}

static int sim_resize(struct cow_device *device, uint64_t size)
{
	struct sim *sim = sim_of(device);
	int error;

	if (sim_fails(sim, true, false, &error))
		return error;
	if (size > sim->max_size)
		return -ENOSPC;
	sim->size = size;
	return sim->off ? -EIO : 0;
}

static const struct cow_device_ops sim_ops = {
	.read = sim_read, .write = sim_write, .write_durable = sim_write_durable, .sync = sim_sync, .punch = sim_punch,
	.size = sim_size,
};

static const struct cow_device_ops sim_growing_ops = {
	.read = sim_read, .write = sim_write, .write_durable = sim_write_durable, .sync = sim_sync, .punch = sim_punch,
	.size = sim_size, .resize = sim_resize,
};

static uint8_t *map_memory(uint64_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(memory != MAP_FAILED);
	return memory;
}

void sim_init(struct sim *sim, uint64_t size, uint64_t max_size, uint64_t seed)
{
	*sim = (struct sim){ .device = { max_size ? &sim_growing_ops : &sim_ops, "sim" }, .size = size, .durable_size = size };
	sim->max_size = max_size ? max_size : size;
	sim->now = map_memory(sim->max_size);
	sim->durable = map_memory(sim->max_size);
	sim->random = seed * 2 + 1;
}

void sim_free(struct sim *sim)
{
	sim_forget(sim, sim->nr_writes);
	free(sim->writes);
	munmap(sim->now, sim->max_size);
	munmap(sim->durable, sim->max_size);
}

static void sim_settle(struct sim *sim, const struct sim_write *write, bool (*keeps)(const struct sim_write *write))
{
	uint64_t fate = keeps ? keeps(write) : sim_random(&sim->random) % 4;	/* 0 lost, 1 and 3 kept, 2 torn */
	size_t at;

	for (at = 0; at < write->length; at += 512) {
		if (fate % 2 || (fate == 2 && sim_random(&sim->random) % 2))
			memcpy(sim->durable + write->offset + at, write->data + at, 512);
	}
}

/* Only durable data can be read afterwards: sectors that a lost write touched get their old contents back. */
static void sim_restore(struct sim *sim, const struct sim_write *write)
{
	memcpy(sim->now + write->offset, sim->durable + write->offset, write->length);
}

void sim_power_cycle_picking(struct sim *sim, bool (*keeps)(const struct sim_write *write))
{
	struct sim_write swap;
	size_t i, other;

	for (i = 0; !keeps && i + 1 < sim->nr_writes; i++) {
		other = i + sim_random(&sim->random) % (sim->nr_writes - i);
		swap = sim->writes[i];
		sim->writes[i] = sim->writes[other];
		sim->writes[other] = swap;
	}
	for (i = 0; i < sim->nr_writes; i++)
		sim_settle(sim, &sim->writes[i], keeps);
	for (i = 0; i < sim->nr_writes; i++)
		sim_restore(sim, &sim->writes[i]);
	sim_forget(sim, sim->nr_writes);
	if (!keeps && sim_random(&sim->random) % 2)
		sim->durable_size = sim->size;
	sim->size = sim->durable_size;
	sim->off = false;
	sim->cut = sim->steps = 0;
}

void sim_power_cycle(struct sim *sim)
{
	sim_power_cycle_picking(sim, NULL);
}

void sim_fill_sector(uint8_t *data, uint64_t tag)
{
	size_t i;

	for (i = 0; i < 512; i += sizeof(tag))
		memcpy(data + i, &tag, sizeof(tag));
}
