/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * processor.h - binds the thread to the processor where its event channel's
 * interrupts arrive.
 *
 * Xen's driver spreads event channels over the processors, and Linux wakes a
 * thread on the processor where it ran last. If the two differ, each signal of
 * the guest has to wake another processor.
 *
 * The thread is bound only while that costs nothing: when it was runnable but
 * had to wait for the processor for a tenth of the time, it may run anywhere
 * for a while. It is only bound with a single channel. Called by the thread
 * that serves the channels.
 */
#ifndef TAPDISK_PROCESSOR_H
#define TAPDISK_PROCESSOR_H

#include <stdio.h>
#include <sys/types.h>

/*
 * The name that a thread must have while it opens the driver: the channels'
 * interrupts are then called "evtchn:" plus this name in /proc/interrupts.
 */
void processor_channel_name(char name[16], pid_t pid);

void processor_channel_bound(void);
void processor_channel_unbound(void);
/* A signal of the guest has arrived, or I/O has completed. */
void processor_used(void);
/* Call once per turn of the loop; checks the cost every 100 ms while it is used. */
void processor_turn(void);
/* Unbind for now: before starting a thread, which would inherit the affinity. */
void processor_leave(void);

/*
 * The number of the interrupt called @name in @interrupts, the contents of
 * /proc/interrupts. -ENOENT: none; -ENOTUNIQ: several.
 */
int processor_find_interrupt(FILE *interrupts, const char *name);

#endif
