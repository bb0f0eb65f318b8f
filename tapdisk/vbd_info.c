/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* vbd_info.c - the disk object and the stats object of docs/protocol.md. */
#include <string.h>

#include "cow_base.h"
#include "nbd.h"
#include "vbd_internal.h"

/* Split "type:path"; @target has a colon, otherwise the open would have failed. */
static void vbd_info_target(json_t *info, const char *target)
{
	const char *colon = strchr(target, ':');

	json_object_set_new(info, "target", json_string(target));
	json_object_set_new(info, "type", json_stringn(target, colon - target));
	json_object_set_new(info, "path", json_string(colon + 1));
}

static json_t *vbd_info_connections(const struct vbd *vbd)
{
	json_t *connections = json_array();

	for (const struct vbd_client *client = vbd->clients; client; client = client->next)
		if (client->ops->info)
			json_array_append_new(connections, client->ops->info(client));
	return connections;
}

json_t *vbd_info(const struct vbd *vbd)
{
	const struct driver_geometry *geometry = &vbd->geometry;
	json_t *info = json_pack("{s:i, s:i}", "minor", vbd->minor, "state", (int)vbd_state_bits(vbd));
	json_t *shape;

	if (vbd->state == VBD_CLOSED)
		return info;
	vbd_info_target(info, vbd->target);
	shape = json_pack("{s:I, s:i, s:i, s:b, s:b, s:i, s:i, s:s, s:b, s:i, s:o}",
			  "sectors", (json_int_t)geometry->sectors,
			  "sector_size", (int)geometry->sector_size,
			  "physical_sector_size", (int)geometry->physical_sector_size,
			  "read_only", geometry->read_only,
			  "discard", geometry->discard,
			  "discard_granularity", (int)geometry->discard_granularity,
			  "discard_alignment", (int)geometry->discard_alignment,
			  "engine", vbd->engine->ops->name,
			  "no_space", vbd->no_space,
			  "nbd_connections", (int)nbd_server_connections(vbd->nbd),
			  "connections", vbd_info_connections(vbd));
	json_object_set_new(shape, "exports", nbd_publications(vbd));
	json_object_set_new(shape, "on_error", vbd_error_info(vbd));
	json_object_set_new(shape, "answering", json_boolean(!vbd->unresponsive.told && !vbd_is_stuck(vbd)));
	if (vbd->backend && vbd->backend->overlay)
		json_object_set_new(shape, "store", json_string(vbd->backend->overlay));
	if (vbd->commit.state != COMMIT_NONE)
		json_object_set_new(shape, "commit", vbd_commit_info(vbd));
	json_object_update(info, shape);
	json_decref(shape);
	return info;
}

json_t *vbd_stats(const struct vbd *vbd)
{
	struct queue_stats sum = vbd->past, nbd = { 0 };
	json_t *connections = json_array();
	struct cow_leftover leftover;
	json_t *stats;

	for (const struct vbd_client *client = vbd->clients; client; client = client->next)
		if (client->ops->stats)
			json_array_append_new(connections, client->ops->stats(client, &sum));
	nbd_server_stats(vbd->nbd, &nbd);
	stats_add(&sum, &nbd);
	stats = json_pack("{s:i, s:i, s:o, s:o, s:o}",
			  "minor", vbd->minor,
			  "in_flight", (int)(vbd->backend ? vbd->backend->in_flight : 0),
			  "stalls", stats_stall_json(&vbd->stalls),
			  "total", stats_queue_json(&sum),
			  "connections", connections);
	if (vbd->throttle.iops || vbd->throttle.bytes)
		json_object_set_new(stats, "throttle", vbd_throttle_info(vbd));
	if (vbd->nbd)
		json_object_set_new(stats, "nbd", stats_queue_json(&nbd));
	if (vbd->backend && cow_backend_leftover(vbd->backend, &leftover))
		json_object_update_new(stats, json_pack("{s:i, s:I}", "deletions", (int)leftover.deletions,
							"unpunched", (json_int_t)leftover.unpunched));
	return stats;
}
