/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_interrupt.h - signals that end a program which has to clean up first.
 */
#ifndef TAPSNAP_CLIENT_INTERRUPT_H
#define TAPSNAP_CLIENT_INTERRUPT_H

#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP, unless ignored, end waits with -EINTR. */
void interrupts_catch(void);
/* A signal has come: long work must stop at its next step. */
bool interrupts_caught(void);
/* From now on they end no waits, so that the program can undo or complete its work. True if one has come. */
bool interrupts_stop(void);
/* If one has come, die of it. */
void interrupts_die(void);

#endif
