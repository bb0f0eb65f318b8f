/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_disk.h - sends one command to one tapdisk, and creates and destroys
 * a whole disk. For tap-ctl, and for snapshots of domains that are shut off,
 * which open the disks themselves.
 */
#ifndef TAPSNAP_CLIENT_DISK_H
#define TAPSNAP_CLIENT_DISK_H

#include <stdbool.h>
#include <jansson.h>

#include "tapctl.h"

/* How long a forced command waits for a device by default. */
#define FORCED_WAIT_MS 10000

/* How a disk is opened. */
struct disk_options {
	const char *target;		/* TYPE:PATH, the path absolute */
	int timeout_ms;			/* for each answer; -1: wait for ever */
	bool read_only, no_direct;
	bool beside_qemu;		/* the guest's QEMU opens the image, too */
	int sector_size;		/* bytes; 0: the default */
	int cache_mib;			/* 0: the default */
	const char *on_error;		/* "report", "enospc", "stop"; NULL: the default */
};

/* A request for command @name on @minor (-1: none). NULL: no memory. */
json_t *call_request(const char *name, int minor);
/* Connect to @pid, send @request (taken over; NULL is -EINVAL), close. @reply may be NULL. */
int call_tapdisk(int pid, json_t *request, int timeout_ms, json_t **reply, struct error_text *text);

/* The request `open`. NULL: no memory, or a string is not UTF-8. */
json_t *disk_open_request(const struct disk_options *options, int minor);
/* Allocate, spawn, attach, open; a failure undoes all of it. *@disk is tapdisk's disk object; the caller frees it. */
int disk_create(const struct disk_options *options, int *pid, int *minor, json_t **disk, struct error_text *text);
/* The timeout of a wait that cannot be interrupted, for a command's @timeout_ms. */
int disk_undo_timeout(int timeout_ms);
/* Detach; if that was the tapdisk's last disk, wait until it has ended. */
int disk_detach(struct tapctl *ctl, int minor, int timeout_ms, struct error_text *text);
/*
 * Close, detach and free, also if the tapdisk has died. With @force, a tapdisk that has no other disk is killed
 * when its device does not answer for @timeout_ms (-1: FORCED_WAIT_MS).
 */
int disk_destroy(int pid, int minor, bool force, int timeout_ms, struct error_text *text);

#endif
