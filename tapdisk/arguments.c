/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * arguments.c - parses the members of a command. Clients are not trusted: every
 * member has a type and a range.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "arguments.h"
#include "blkif_frontend.h"

int argument_require(const json_t *message, const char *name, struct error_text *error)
{
	return json_object_get(message, name) ? 0 : error_set(error, -EINVAL, "'%s' is missing", name);
}

int argument_bool(const json_t *message, const char *name, bool *value, struct error_text *error)
{
	const json_t *member = json_object_get(message, name);

	if (!member)
		return 0;
	if (!json_is_boolean(member))
		return error_set(error, -EINVAL, "'%s' must be true or false", name);
	*value = json_is_true(member);
	return 0;
}

static int check_integer(const json_t *member, const char *name, int64_t min, int64_t max, int64_t *value,
			 struct error_text *error)
{
	if (!json_is_integer(member) || json_integer_value(member) < min || json_integer_value(member) > max)
		return error_set(error, -EINVAL, "'%s' must be a number from %" PRId64 " to %" PRId64, name, min, max);
	*value = json_integer_value(member);
	return 0;
}

int argument_integer(const json_t *message, const char *name, int64_t min, int64_t max, int64_t *value,
		     struct error_text *error)
{
	const json_t *member = json_object_get(message, name);

	return member ? check_integer(member, name, min, max, value, error) : 0;
}

int argument_string(const json_t *message, const char *name, const char **value, struct error_text *error)
{
	const json_t *member = json_object_get(message, name);

	if (!member)
		return 0;
	if (!json_is_string(member))
		return error_set(error, -EINVAL, "'%s' must be a string", name);
	*value = json_string_value(member);
	return 0;
}

static bool has_control_character(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			return true;
	}
	return false;
}

int argument_line(const json_t *message, const char *name, size_t max, const char **value, struct error_text *error)
{
	if (argument_string(message, name, value, error))
		return -EINVAL;
	if (*value && has_control_character(*value))
		return error_set(error, -EINVAL, "'%s' contains a control character", name);
	if (*value && strlen(*value) > max)
		return error_set(error, -EINVAL, "'%s' is longer than %zu bytes", name, max);
	return 0;
}

int argument_target(const json_t *message, const char **target, struct error_text *error)
{
	if (argument_string(message, "target", target, error))
		return -EINVAL;
	if (*target && has_control_character(*target))
		return error_set(error, -EINVAL, "'target' contains a control character: rename the image");
	return 0;
}

/* One queue: its ring's grant references, ring_pages of them, and its event channel. */
static int parse_queue(const json_t *member, struct blkif_params *params, unsigned queue, struct error_text *error)
{
	const json_t *refs = json_object_get(member, "refs");
	int64_t number = 0;
	size_t i;

	if (!json_is_array(refs) || json_array_size(refs) != params->ring_pages)
		return error_set(error, -EINVAL, "queue %u: 'refs' must be an array of %u grant references", queue,
				 params->ring_pages);
	for (i = 0; i < params->ring_pages; i++) {
		if (check_integer(json_array_get(refs, i), "refs", 0, UINT32_MAX, &number, error))
			return -EINVAL;
		params->queues[queue].refs[i] = (uint32_t)number;
	}
	if (check_integer(json_object_get(member, "port"), "port", 0, UINT32_MAX, &number, error))
		return -EINVAL;
	params->queues[queue].port = (uint32_t)number;
	return 0;
}

static int parse_queues(const json_t *message, struct blkif_params *params, struct error_text *error)
{
	const json_t *queues = json_object_get(message, "queues");
	int64_t ring_pages = 1;
	unsigned i;

	if (argument_integer(message, "ring_pages", 1, 1 << MAX_RING_PAGE_ORDER, &ring_pages, error))
		return -EINVAL;
	if (ring_pages & (ring_pages - 1))
		return error_set(error, -EINVAL, "'ring_pages' must be a power of two");
	params->ring_pages = (unsigned)ring_pages;
	if (!json_is_array(queues) || !json_array_size(queues) || json_array_size(queues) > MAX_QUEUES)
		return error_set(error, -EINVAL, "'queues' must be an array of 1 to %d queues", MAX_QUEUES);
	params->nr_queues = (unsigned)json_array_size(queues);
	for (i = 0; i < params->nr_queues; i++) {
		if (parse_queue(json_array_get(queues, i), params, i, error))
			return -EINVAL;
	}
	return 0;
}

static int parse_transport(const json_t *message, struct blkif_params *params, struct error_text *error)
{
	const char *transport = "";

	if (argument_require(message, "transport", error) || argument_string(message, "transport", &transport, error))
		return -EINVAL;
	params->shm = !strcmp(transport, "shm");
	if (!params->shm && strcmp(transport, "xen"))
		return error_set(error, -EINVAL, "transport '%s' is neither \"xen\" nor \"shm\"", transport);
	return 0;
}

int argument_connect(const json_t *message, struct blkif_params *params, struct error_text *error)
{
	int64_t domid = 0, devid = 0;

	memset(params, 0, sizeof(*params));
	if (parse_transport(message, params, error) ||
	    argument_require(message, "domid", error) ||
	    argument_integer(message, "domid", 0, UINT32_MAX, &domid, error) ||
	    argument_require(message, "devid", error) ||
	    argument_integer(message, "devid", 0, UINT32_MAX, &devid, error) ||
	    argument_string(message, "protocol", &params->protocol, error) ||
	    argument_bool(message, "persistent", &params->persistent, error) ||
	    argument_bool(message, "direct_io_safe", &params->direct_io_safe, error) ||
	    argument_bool(message, "read_only", &params->read_only, error) ||
	    argument_bool(message, "take_over", &params->take_over, error) ||
	    parse_queues(message, params, error))
		return -EINVAL;
	params->domid = (uint32_t)domid;
	params->devid = (uint32_t)devid;
	return 0;
}
