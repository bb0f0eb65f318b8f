/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-attach.c - an example of the library (domain-snapshot-libxl.h): what
 * a disk of a domain held at a snapshot becomes a read-only disk of another
 * domain. `xl block-detach OTHER NEWVDEV` takes it away again.
 *
 *   snapshot-attach NAME DOMAIN VDEV OTHER NEWVDEV
 *
 * Built by `make examples`, or with the library that is installed:
 *
 *   cc -o snapshot-attach snapshot-attach.c $(pkg-config --cflags --libs tapsnap)
 */
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <libxl_utils.h>

#include "domain-snapshot-libxl.h"

struct job {
	const char *vdev, *other, *new_vdev;
	bool over, failed;
};

static int attach(const struct job *job, const struct domain_snapshot_disk *disk)
{
	xentoollog_logger_stdiostream *logger = xtl_createlogger_stdiostream(stderr, XTL_ERROR, 0);
	libxl_device_disk device;
	libxl_ctx *ctx = NULL;
	uint32_t domid;
	int error = domain_snapshot_device_disk(disk, job->new_vdev, &device);

	if (!error)
		error = libxl_ctx_alloc(&ctx, LIBXL_VERSION, 0, (xentoollog_logger *)logger);
	if (!error)
		error = libxl_domain_qualifier_to_domid(ctx, job->other, &domid);
	if (!error)
		error = libxl_device_disk_add(ctx, domid, &device, NULL);
	libxl_device_disk_dispose(&device);
	libxl_ctx_free(ctx);
	xtl_logger_destroy((xentoollog_logger *)logger);
	return error;
}

static const struct domain_snapshot_disk *find_disk(const struct domain_snapshot *snapshot, const char *vdev)
{
	for (unsigned i = 0; i < snapshot->nr_disks; i++) {
		if (!strcmp(snapshot->disks[i].device, vdev))
			return &snapshot->disks[i];
	}
	return NULL;
}

static void done(void *owner, const struct domain_snapshot_result *result)
{
	const struct domain_snapshot_disk *disk = NULL;
	struct job *job = owner;

	job->over = true;
	job->failed = true;
	if (!result->error && result->count == 1)
		disk = find_disk(&result->snapshots[0], job->vdev);
	if (result->error)
		fprintf(stderr, "%s\n", *result->text ? result->text : strerror(-result->error));
	else if (!disk)
		fprintf(stderr, "%s is not in the snapshot\n", job->vdev);
	else if (attach(job, disk))
		fprintf(stderr, "%s: cannot be attached to %s\n", job->vdev, job->other);
	else
		job->failed = false;
}

int main(int argc, char **argv)
{
	struct domain_snapshots *session;
	struct error_text text = { "" };
	struct pollfd poll_fd = { .events = POLLIN };

	if (argc != 6) {
		fprintf(stderr, "usage: snapshot-attach NAME DOMAIN VDEV OTHER NEWVDEV\n");
		return 2;
	}
	struct job job = { .vdev = argv[3], .other = argv[4], .new_vdev = argv[5] };
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_QUERY, .name = argv[1], .domain = argv[2],
	};
	const struct domain_snapshot_callbacks callbacks = { .done = done, .owner = &job };

	if (domain_snapshots_open(&session, &text) ||
	    domain_snapshots_start(session, &request, &callbacks, NULL, &text)) {
		fprintf(stderr, "%s\n", text.text);
		return 1;
	}
	poll_fd.fd = domain_snapshots_fd(session);
	while (!job.over && poll(&poll_fd, 1, -1) >= 0)
		domain_snapshots_dispatch(session);
	domain_snapshots_close(session);
	return job.failed;
}
