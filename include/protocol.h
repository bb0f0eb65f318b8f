/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * protocol.h - what tapdisk, tap-ctl, tapback and scripts agree on: paths,
 * state bits, limits of the control socket. docs/protocol.md is the text.
 */
#ifndef TAPSNAP_PROTOCOL_H
#define TAPSNAP_PROTOCOL_H

/* Everything that lives while the machine runs. TAPSNAP_RUN_DIR in the
 * environment replaces it (tests). The path is part of tap-ctl's contract. */
#define RUN_DIR_DEFAULT		"/run/blktap-control"
#define RUN_DIR_ENV		"TAPSNAP_RUN_DIR"
/* What has to outlast a boot: groups/ has a file for each group snapshot that
 * is being decided. TAPSNAP_STATE_DIR replaces it (tests). */
#define STATE_DIR_DEFAULT	"/var/lib/tapsnap"
#define STATE_DIR_ENV		"TAPSNAP_STATE_DIR"
#define CONTROL_SOCKET_FORMAT	"%s/ctl%d"		/* run dir, pid */
#define NBD_SOCKET_FORMAT	"%s/nbd%d.%d"		/* run dir, pid, minor */
#define MINOR_DIR_FORMAT	"%s/tapdisk"		/* run dir */
#define MINOR_MARKER_FORMAT	"%s/tapdisk/tapdisk-%d"	/* run dir, minor */
#define MINOR_MAX		65535
/* What outlives a tapdisk that dies (docs/takeover.md): a directory for each disk that is open, with a record of how it
 * was opened, and a lock for each process that is free once all its I/O has ended. */
#define TAKEOVER_DIR_FORMAT	"%s/takeover"		/* run dir */
#define TAKEOVER_LOCK_FORMAT	"%s/takeover/lock-%s"	/* run dir, the process' name in the record */
#define TAKEOVER_DISK_FORMAT	"%s/takeover/%d"	/* run dir, minor */
#define TAKEOVER_RECORD		"disk"			/* in it: JSON */
#define TAKEOVER_JOURNAL	"journal"		/* in it: a snapshot store's map changes */
#define TAKEOVER_TABLE_FORMAT	"frontend-%u-%u"	/* in it: domid, devid */
#define TAKEOVER_NAME_MAX	48			/* bytes of a process' name, its end included */
#define TAKEOVER_VERSION	1

/* A control connection is a SOCK_STREAM; each message is one JSON object on
 * one line. Descriptors travel by SCM_RIGHTS with the line they belong to. */
#define PROTOCOL_VERSION	1
#define PROTOCOL_MAX_LINE	(1u << 20)		/* bytes of a request, newline included */
#define PROTOCOL_MAX_REPLY	(256u << 20)		/* bytes; a million snapshots fit */
#define PROTOCOL_MAX_FDS	33			/* memfd + 2 * 16 queues */

/* What `tap-ctl list` prints as state (blktap's bits). */
#define TD_DEAD			0x0001
#define TD_CLOSED		0x0002
#define TD_QUIESCE_REQUESTED	0x0004
#define TD_QUIESCED		0x0008
#define TD_PAUSE_REQUESTED	0x0010
#define TD_PAUSED		0x0020
#define TD_SHUTDOWN_REQUESTED	0x0040
#define TD_RESUME_FAILED	0x0200

/* What a frontend may ask for. */
#define MAX_RING_PAGE_ORDER	4			/* 16 pages */
#define MAX_QUEUES		16
#define MAX_INDIRECT_SEGMENTS	256

/* Limits of a disk's limits. */
#define THROTTLE_MAX_IOPS	1000000000		/* requests a second */
#define THROTTLE_MAX_BYTES	(1ll << 40)		/* bytes a second */
#define THROTTLE_MAX_BURST_MS	60000

#endif
