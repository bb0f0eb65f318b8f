/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fake_tapdisk.h - a tapdisk's control socket for tests of tapback: it answers
 * commands, remembers them, and misbehaves on demand. It runs in the test's
 * event loop.
 */
#ifndef TESTS_FAKE_TAPDISK_H
#define TESTS_FAKE_TAPDISK_H

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

struct fake_tapdisk {
	int pid;
	bool silent;			/* reads commands, answers nothing */
	bool silent_at_connect;		/* from the next `connect` on */
	int refuse_connect;		/* errno for `connect`, 0: accept */
	json_int_t grow_at_connect;	/* sectors of the disk from the next `connect` on, 0: as before */
	json_t *disk;			/* the disk object of minor 0, connections included */
	json_t *last_connect;		/* the last `connect` command, or NULL */
	void (*on_connect)(const json_t *command);	/* NULL: nothing to look at */
	unsigned infos, connects, disconnects, closes, detaches;
	/* inside */
	int listener;
	sd_event *event;
	sd_event_source *accept;
	struct fake_connection *connections;
};

/* Listen in the run directory as the process @pid. */
void fake_tapdisk_start(struct fake_tapdisk *tapdisk, sd_event *event, int pid);
/* Stop like a killed process: the socket file stays. */
void fake_tapdisk_die(struct fake_tapdisk *tapdisk);
void fake_tapdisk_event(struct fake_tapdisk *tapdisk, json_t *event);
/* Answer the commands that came while it was silent. */
void fake_tapdisk_speak(struct fake_tapdisk *tapdisk);
/* Number of connected frontends. */
unsigned fake_tapdisk_rings(const struct fake_tapdisk *tapdisk);

#endif
