/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * commands.h - the commands of docs/protocol.md for the disks of this process,
 * and the end of the process.
 */
#ifndef TAPDISK_COMMANDS_H
#define TAPDISK_COMMANDS_H

#include "control.h"
#include "engine.h"
#include "loop.h"

struct commands;

/* Open the control socket and serve it. 0 or -errno with a text. */
int commands_start(struct commands **commands, struct loop *loop, struct engine *engine, struct error_text *text);
/* Call loop_quit() unless a disk is attached within @seconds: an unused tapdisk must not stay. */
int commands_expire(struct commands *commands, unsigned seconds);
/* How long an open or a close may wait for storage that does not answer; default PROBE_TIMEOUT_S; 0: no limit. */
void commands_limit_opens(struct commands *commands, unsigned seconds);
/* Drain and close all disks, even in use, then call loop_quit(). */
void commands_shutdown(struct commands *commands);
/* True if any image is open or paused. @commands may be NULL. */
bool commands_have_open(const struct commands *commands);
/* Call after loop_run() has returned. Disks still open (the loop failed) stay open until the process ends. */
void commands_stop(struct commands *commands);

#endif
