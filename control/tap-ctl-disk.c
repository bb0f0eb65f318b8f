/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-disk.c - commands about one attached disk: open, close, pause,
 * unpause, resize, throttle, info, stats.
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "block.h"
#include "tap-ctl.h"

/* With force wait only for a limited time, whatever the device does; tapdisk continues with the command. */
static int force_into(const struct arguments *args, const char *command, json_t *result, struct error_text *text)
{
	json_t *request = call_request(command, args->minor);
	struct arguments forced = *args;

	if (args->force && args->timeout_ms < 0)
		forced.timeout_ms = FORCED_WAIT_MS;
	if (request)
		json_object_set_new(request, "force", json_boolean(args->force));
	return call_into(&forced, request, result, text);
}

static int run_open(const struct arguments *args, json_t *result, struct error_text *text)
{
	const struct disk_options options = call_disk_options(args);

	return call_into(args, disk_open_request(&options, args->minor), result, text);
}

const struct command command_open = {
	.name = "open", .options = "pmaRDqbMPte2rsCE", .required = "pma", .words = "",
	.summary = "open an image on an attached minor",
	.run = run_open,
};

static int run_close(const struct arguments *args, json_t *result, struct error_text *text)
{
	return force_into(args, "close", result, text);
}

const struct command command_close = {
	.name = "close", .options = "pmft", .required = "pm", .words = "",
	.summary = "drain a disk and close its image",
	.run = run_close,
};

static int run_pause(const struct arguments *args, json_t *result, struct error_text *text)
{
	return force_into(args, "pause", result, text);
}

const struct command command_pause = {
	.name = "pause", .options = "pmft", .required = "pm", .words = "",
	.summary = "drain a disk and keep its requests waiting in the ring",
	.run = run_pause,
};

static int run_unpause(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *request = call_request("unpause", args->minor);

	/* without it the disk would continue with its old image */
	if (args->target && json_object_set_new(request, "target", json_string(args->target))) {
		json_decref(request);
		request = NULL;
	}
	return call_into(args, request, result, text);
}

const struct command command_unpause = {
	.name = "unpause", .options = "pmat2c", .required = "pm", .words = "",
	.summary = "unpause a disk, on another image if one is given",
	.run = run_unpause,
};

static int run_resize(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *request = call_request("resize", args->minor);

	if (args->size && json_object_set_new(request, "sectors", json_integer(args->size >> SECTOR_SHIFT))) {
		json_decref(request);
		request = NULL;
	}
	return call_into(args, request, result, text);
}

static void print_resize(const json_t *result, bool terminal)
{
	json_int_t sectors = json_integer_value(json_object_get(result, "sectors"));
	char size[32];

	print_size(size, sizeof(size), sectors);
	if (terminal)
		printf("%s, %lld sectors\n", size, (long long)sectors);
	else
		printf("%lld\n", (long long)sectors);
}

const struct command command_resize = {
	.name = "resize", .options = "pmst", .required = "pm", .words = "",
	.summary = "reread the image's size, or enlarge the disk of a snapshot store, and tell the guest",
	.run = run_resize, .print = print_resize,
};

static int run_throttle(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *request = call_request("throttle", args->minor);

	if (request && args->iops >= 0)
		json_object_set_new(request, "iops", json_integer(args->iops));
	if (request && args->bytes >= 0)
		json_object_set_new(request, "bytes", json_integer(args->bytes));
	if (request && args->burst_ms)
		json_object_set_new(request, "burst_ms", json_integer(args->burst_ms));
	return call_into(args, request, result, text);
}

static void print_throttle(const json_t *result, bool terminal)
{
	json_int_t iops, bytes, burst_ms, waiting, delayed;

	if (json_unpack((json_t *)result, "{s:{s:I, s:I, s:I, s:I, s:I}}", "throttle", "iops", &iops, "bytes", &bytes,
			"burst_ms", &burst_ms, "waiting", &waiting, "delayed", &delayed))
		return;
	if (!terminal)
		printf("iops=%lld bytes=%lld burst_ms=%lld waiting=%lld delayed=%lld\n", (long long)iops, (long long)bytes,
		       (long long)burst_ms, (long long)waiting, (long long)delayed);
	else if (!iops && !bytes)
		printf("no limits\n");
	else
		printf("at most %lld requests and %lld bytes a second (0: no limit), bursts of %lld ms; %lld wait, %lld have "
		       "waited\n",
		       (long long)iops, (long long)bytes, (long long)burst_ms, (long long)waiting, (long long)delayed);
}

const struct command command_throttle = {
	.name = "throttle", .options = "pmiBut", .required = "pm", .words = "",
	.summary = "limit a disk's requests and bytes a second, or show the limits",
	.run = run_throttle, .print = print_throttle,
};

static int run_info(const struct arguments *args, json_t *result, struct error_text *text)
{
	return call_into(args, call_request("info", args->minor), result, text);
}

const struct command command_info = {
	.name = "info", .options = "pmt", .required = "pm", .words = "",
	.summary = "show everything about a disk",
	.run = run_info, .print = print_disk,
};

static int run_stats(const struct arguments *args, json_t *result, struct error_text *text)
{
	return call_into(args, call_request("stats", args->minor), result, text);
}

static void print_stats(const json_t *result, bool terminal)
{
	json_dumpf(json_object_get(result, "stats"), stdout, terminal ? JSON_INDENT(2) : 0);
	putchar('\n');
}

const struct command command_stats = {
	.name = "stats", .options = "pmt", .required = "pm", .words = "",
	.summary = "print a disk's statistics (JSON)",
	.run = run_stats, .print = print_stats,
};
