/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_interrupt.h - signals that end a program, of one that has something to take away first.
 */
#ifndef TAPSNAP_CLIENT_INTERRUPT_H
#define TAPSNAP_CLIENT_INTERRUPT_H

#include <stdbool.h>

/* SIGINT, SIGTERM and SIGHUP, unless they are ignored, end waits for others with -EINTR from here on. */
void interrupts_catch(void);
/* One has come: work that takes long is to end at its next step. */
bool interrupts_caught(void);
/* They end no waits any more: there is something to undo, or all is done. True when one has come. */
bool interrupts_stop(void);
/* When one has come, it ends the program. */
void interrupts_die(void);

#endif
