/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-export.c - `export` and `unexport`: serves a disk, or a snapshot of
 * it, over NBD on its own socket.
 *
 * Clients' writes to a snapshot go to an overlay: a store based on the
 * snapshot, in an unnamed file, which is freed when the export ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cow_base.h"
#include "hex.h"
#include "tap-ctl.h"

static json_t *find_snapshot(const json_t *reply, const char *name)
{
	json_t *snapshots = json_object_get(reply, "snapshots"), *snapshot;
	size_t i;

	json_array_foreach(snapshots, i, snapshot) {
		const char *other = json_string_value(json_object_get(snapshot, "name"));

		if (other && !strcmp(other, name))
			return snapshot;
	}
	return NULL;
}

/* Describe the snapshot, from tapdisk's reply, as a store based on it records it. */
static int describe_snapshot(const struct arguments *args, const json_t *reply, struct cow_base_fields *fields,
			     struct error_text *text)
{
	const char *store = json_string_value(json_object_get(reply, "store"));
	const char *uuid = json_string_value(json_object_get(reply, "uuid"));
	const json_t *snapshot = find_snapshot(reply, args->name);
	char path[PATH_MAX];

	if (!snapshot)
		return error_set(text, -ENOENT, "minor %d has no snapshot called \"%s\"", args->minor, args->name);
	if (!store || !realpath(store, path) ||
	    snprintf(fields->target, sizeof(fields->target), "cow:%s@%s", path, args->name) >= (int)sizeof(fields->target) ||
	    !uuid || !hex_parse(uuid, fields->uuid, sizeof(fields->uuid)))
		return error_set(text, -EINVAL, "tapdisk %d does not say which store the snapshot is in", args->pid);
	fields->version = (uint32_t)json_integer_value(json_object_get(snapshot, "id"));
	fields->time = (uint64_t)json_integer_value(json_object_get(snapshot, "time"));
	fields->sectors = (uint64_t)json_integer_value(json_object_get(snapshot, "sectors"));
	return 0;
}

static int create_overlay(int fd, const struct cow_base_fields *fields, unsigned sector_size, struct error_text *text)
{
	const struct cow_create_options options = { .sectors = fields->sectors, .sector_size = sector_size,
		.base_kind = COW_BASE_COW, .base = fields };
	struct cow_device *device;
	char path[64];
	int error;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	error = cow_file_create(&device, path, text);
	if (error)
		return error;
	error = cow_create(device, &options, text);
	cow_file_close(device);
	return error;
}

static int ask_sector_size(const struct arguments *args, unsigned *sector_size, struct error_text *text)
{
	json_t *reply;
	int error = call_tapdisk(args->pid, call_request("info", args->minor), args->timeout_ms, &reply, text);

	*sector_size = (unsigned)json_integer_value(json_object_get(json_object_get(reply, "disk"), "sector_size"));
	json_decref(reply);
	return error;
}

static int make_overlay(const struct arguments *args, int *fd, struct error_text *text)
{
	struct cow_base_fields fields = { 0 };
	json_t *request = call_request("snapshot-list", args->minor), *reply;
	unsigned sector_size;
	int error;

	if (request)
		json_object_set_new(request, "name", json_string(args->name));
	error = call_tapdisk(args->pid, request, args->timeout_ms, &reply, text);
	if (!error)
		error = describe_snapshot(args, reply, &fields, text);
	json_decref(reply);
	if (!error)
		error = ask_sector_size(args, &sector_size, text);
	if (error)
		return error;
	*fd = open(args->overlay, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (*fd < 0)
		return error_set(text, -errno, "%s: cannot create a file for the clients' writes: %s", args->overlay,
				 strerror(errno));
	return create_overlay(*fd, &fields, sector_size, text);
}

/* The descriptors and addresses of an export; -1 and NULL: none. */
struct export_parts {
	int listener;			/* clients connect here */
	char *address;
	int inner;			/* with TLS: tapdisk-tls connects here */
	char *inner_address;		/* "unix:PATH" */
	int overlay;
};

static bool wants_tls(const struct arguments *args)
{
	return args->tls_x509 || args->tls_psk;
}

/* The path of a Unix socket, which tapdisk removes when the export ends; NULL: a TCP address. */
static const char *socket_path(const char *address)
{
	return address && !strncmp(address, "unix:", 5) ? address + 5 : NULL;
}

static int call_export(const struct arguments *args, const struct export_parts *parts, json_t **reply,
		       struct error_text *text)
{
	int fds[2] = { wants_tls(args) ? parts->inner : parts->listener, parts->overlay };
	const char *path = socket_path(wants_tls(args) ? parts->inner_address : parts->address);
	json_t *request = json_pack("{s:s, s:i, s:s, s:b, s:s*, s:s*}", "command", "export", "minor", args->minor,
				    "address", parts->address, "read_only", args->read_only, "snapshot", args->name,
				    "path", path);
	struct tapctl *ctl;
	int error;

	if (!request)
		return error_set(text, -EINVAL, "an argument is not UTF-8, or out of memory");
	error = tapctl_connect(&ctl, args->pid, text);
	if (error) {
		json_decref(request);
		return error;
	}
	error = tapctl_call_fds(ctl, request, fds, fds[1] >= 0 ? 2 : 1, reply, args->timeout_ms, text);
	tapctl_close(ctl);
	return error;
}

/* Create the socket between tapdisk-tls and tapdisk, in the directory of the disk's own socket. */
static int setup_tls(const struct arguments *args, struct export_parts *parts, struct error_text *text)
{
	char address[PATH_MAX];
	int error;

	if (socket_path(parts->address))
		return error_set(text, -EINVAL, "%s: TLS is for tcp:[HOST]:PORT", parts->address);
	if (snprintf(address, sizeof(address), "unix:" NBD_SOCKET_FORMAT ".tls%d", tapctl_run_dir(), args->pid, args->minor,
		     (int)getpid()) >= (int)sizeof(address))
		return error_set(text, -ENAMETOOLONG, "%s: path too long", tapctl_run_dir());
	error = listen_at(address, &parts->inner, &parts->inner_address, text);
	return error ? error : tls_start(args, parts->listener, socket_path(parts->inner_address), text);
}

static int setup_parts(const struct arguments *args, struct export_parts *parts, struct error_text *text)
{
	int error = 0;

	if (args->overlay && !args->name)
		return error_set(text, -EINVAL, "an overlay needs a snapshot: name it with -n");
	if ((args->tls_x509 && args->tls_psk) || (args->tls_verify && !args->tls_x509))
		return error_set(text, -EINVAL, "give only one of -x and -k; -V needs -x");
	if (args->overlay)
		error = make_overlay(args, &parts->overlay, text);
	if (!error)
		error = listen_at(args->words[0], &parts->listener, &parts->address, text);
	if (!error && wants_tls(args))
		error = setup_tls(args, parts, text);
	return error;
}

/* Close our descriptors; tapdisk and tapdisk-tls have their own. @undo: also unlink the sockets, which ends tapdisk-tls. */
static void close_parts(struct export_parts *parts, bool undo)
{
	if (undo) {
		listen_undo(parts->listener, parts->address);
		listen_undo(parts->inner, parts->inner_address);
	} else {
		close(parts->listener);
		if (parts->inner >= 0)
			close(parts->inner);
	}
	if (parts->overlay >= 0)
		close(parts->overlay);
	free(parts->address);
	free(parts->inner_address);
}

static int run_export(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct export_parts parts = { .listener = -1, .inner = -1, .overlay = -1 };
	json_t *reply = NULL;
	int error = setup_parts(args, &parts, text);
	bool undo;

	if (!error)
		error = call_export(args, &parts, &reply, text);
	undo = error;
	if (!error && (json_object_set(result, "export", json_object_get(reply, "export")) ||
		       json_object_set_new(result, "address", json_string(parts.address))))
		error = error_set(text, -ENOMEM, "the export was created, but there is no memory to report it");
	json_decref(reply);
	close_parts(&parts, undo);
	return error;
}

static void print_export(const json_t *result, bool terminal)
{
	if (terminal)
		printf("export %lld on %s\n", (long long)json_integer_value(json_object_get(result, "export")),
		       json_string_value(json_object_get(result, "address")));
	else
		printf("%lld\n", (long long)json_integer_value(json_object_get(result, "export")));
}

const struct command command_export = {
	.name = "export", .options = "pmnROxVkt", .required = "pm", .words = "unix:PATH|tcp:[HOST]:PORT", .nr_words = 1,
	.summary = "serve a disk, or a snapshot of it, over NBD on a socket of its own",
	.run = run_export, .print = print_export,
};

static int run_unexport(const struct arguments *args, json_t *result, struct error_text *text)
{
	char *end;
	long id = strtol(args->words[0], &end, 10);
	json_t *request = call_request("unexport", args->minor);

	if (*end || end == args->words[0] || id < 1 || id > INT_MAX) {
		json_decref(request);
		return error_set(text, -EINVAL, "%s: not an export number", args->words[0]);
	}
	if (request && json_object_set_new(request, "export", json_integer(id))) {
		json_decref(request);
		request = NULL;
	}
	return call_tapdisk(args->pid, request, args->timeout_ms, NULL, text);
}

const struct command command_unexport = {
	.name = "unexport", .options = "pmt", .required = "pm", .words = "EXPORT", .nr_words = 1,
	.summary = "end an export; 'tap-ctl info' lists them",
	.run = run_unexport,
};
