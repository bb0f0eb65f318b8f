/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * commands.h - the commands of docs/protocol.md, onto the disks of this
 * process; and with them when the process ends.
 */
#ifndef TAPDISK_COMMANDS_H
#define TAPDISK_COMMANDS_H

#include "control.h"
#include "engine.h"
#include "loop.h"

struct commands;

/* Open the control socket and serve it. 0 or -errno with a text. */
int commands_start(struct commands **commands, struct loop *loop, struct engine *engine, struct error_text *text);
/* loop_quit() unless a disk is attached within @seconds: a tapdisk that nobody uses must not stay for ever. */
int commands_expire(struct commands *commands, unsigned seconds);
/* How long an image that is to be opened may not answer: PROBE_TIMEOUT_S unless said otherwise; 0: as long as it likes. */
void commands_limit_opens(struct commands *commands, unsigned seconds);
/* Drain and close all disks, whoever uses them, then loop_quit(). */
void commands_shutdown(struct commands *commands);
/* Is an image open, or paused? @commands may be NULL. */
bool commands_have_open(const struct commands *commands);
/* After loop_run() has returned. Disks still open (a loop that failed) are left to the end of the process. */
void commands_stop(struct commands *commands);

#endif
