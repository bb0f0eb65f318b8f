/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_disk.h - one command to one tapdisk, and a whole disk: made from
 * nothing, and ended to the last trace. For tap-ctl and for what opens disks
 * of domains that are shut off.
 */
#ifndef TAPSNAP_CLIENT_DISK_H
#define TAPSNAP_CLIENT_DISK_H

#include <stdbool.h>
#include <jansson.h>

#include "tapctl.h"

/* What is done by force does not wait longer for a device, unless told to. */
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

/* A command about @minor (-1: none). NULL: no memory. */
json_t *call_request(const char *name, int minor);
/* Connect to @pid, send @request, which may be NULL for want of memory, close. @reply may be NULL. */
int call_tapdisk(int pid, json_t *request, int timeout_ms, json_t **reply, struct error_text *text);

/* The request `open`. NULL: no memory, or a string is not UTF-8. */
json_t *disk_open_request(const struct disk_options *options, int minor);
/* Allocate, spawn, attach, open; undoes what it did when it fails. *@disk is what the tapdisk says of it, the caller's. */
int disk_create(const struct disk_options *options, int *pid, int *minor, json_t **disk, struct error_text *text);
/* How long something is waited for that nobody can interrupt. */
int disk_undo_timeout(int timeout_ms);
/* Detach, and when that was the tapdisk's last disk wait for its end. */
int disk_detach(struct tapctl *ctl, int minor, int timeout_ms, struct error_text *text);
/*
 * Close, detach and free, also after a tapdisk that has died. By force a tapdisk that has no other disk is killed
 * when its device answers nothing for @timeout_ms (-1: FORCED_WAIT_MS).
 */
int disk_destroy(int pid, int minor, bool force, int timeout_ms, struct error_text *text);

#endif
