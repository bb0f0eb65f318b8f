/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * snapshot-many.c - an example of the library (domain-snapshot.h): a snapshot
 * of each domain that is named, all at the same time, with one event loop.
 *
 *   snapshot-many NAME DOMAIN...
 *
 * Built by `make examples`, or with the library that is installed:
 *
 *   cc -o snapshot-many snapshot-many.c $(pkg-config --cflags --libs tapsnap)
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain-snapshot-libxl.h"

struct job {
	const char *domain;
	unsigned *left, *failed;
};

/* As what a disk of the snapshot could be attached to another domain. */
static void print_disk(const struct domain_snapshot_disk *disk)
{
	libxl_device_disk device;

	if (!domain_snapshot_device_disk(disk, disk->device, &device))
		printf("  vdev=%s,target=%s\n", device.vdev, device.pdev_path);
	libxl_device_disk_dispose(&device);
}

static void done(void *owner, const struct domain_snapshot_result *result)
{
	const struct job *job = owner;

	--*job->left;
	if (result->error) {
		++*job->failed;
		fprintf(stderr, "%s: %s\n", job->domain, *result->text ? result->text : strerror(-result->error));
		return;
	}
	printf("%s: snapshot %s, the disks stood still for %.1f ms\n", job->domain, result->snapshots[0].name,
	       result->disks_us / 1000);
	for (unsigned i = 0; i < result->snapshots[0].nr_disks; i++)
		print_disk(&result->snapshots[0].disks[i]);
}

static void progress(void *owner, const char *step, int percent)
{
	const struct job *job = owner;

	if (percent < 0)
		fprintf(stderr, "%s: %s\n", job->domain, step);
}

static unsigned take_all(struct domain_snapshots *session, const char *name, char **domains, unsigned count)
{
	struct pollfd poll_fd = { .fd = domain_snapshots_fd(session), .events = POLLIN };
	struct job *jobs = calloc(count, sizeof(*jobs));
	unsigned left = 0, failed = 0;

	if (!jobs)
		return count;
	for (unsigned i = 0; i < count; i++) {
		const struct domain_snapshot_request request = {
			.command = DOMAIN_SNAPSHOT_CREATE, .domain = domains[i], .name = name,
		};
		const struct domain_snapshot_callbacks callbacks = { done, progress, &jobs[i] };
		struct error_text text = { "" };

		jobs[i] = (struct job){ domains[i], &left, &failed };
		if (domain_snapshots_start(session, &request, &callbacks, NULL, &text)) {
			fprintf(stderr, "%s: %s\n", domains[i], text.text);
			failed++;
		} else {
			left++;
		}
	}
	while (left && poll(&poll_fd, 1, -1) >= 0)
		domain_snapshots_dispatch(session);
	free(jobs);
	return failed;
}

int main(int argc, char **argv)
{
	struct domain_snapshots *session;
	struct error_text text = { "" };
	unsigned failed;

	if (argc < 3) {
		fprintf(stderr, "usage: snapshot-many NAME DOMAIN...\n");
		return 2;
	}
	if (domain_snapshots_open(&session, &text)) {
		fprintf(stderr, "%s\n", text.text);
		return 1;
	}
	failed = take_all(session, argv[1], argv + 2, (unsigned)argc - 2);
	domain_snapshots_close(session);
	return failed != 0;
}
