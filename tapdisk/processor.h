/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * processor.h - the thread runs where its event channel's interrupts arrive.
 *
 * Xen's driver spreads event channels over the processors, and Linux leaves a
 * thread that sleeps where it ran last. Where the two differ each signal of
 * the guest crosses to another processor, which may be asleep itself.
 *
 * It stays there only while that costs nothing: a tenth of the time in which
 * it could have run and had to wait for somebody else, and it may run
 * everywhere again, for a while. Only with one channel: several have no one
 * place. Called by the thread that serves them.
 */
#ifndef TAPDISK_PROCESSOR_H
#define TAPDISK_PROCESSOR_H

#include <stdio.h>
#include <sys/types.h>

/*
 * What the channels' interrupts are called in /proc/interrupts is "evtchn:" and
 * the name of the thread that opened the driver: that is to be this.
 */
void processor_channel_name(char name[16], pid_t pid);

void processor_channel_bound(void);
void processor_channel_unbound(void);
/* Once for each turn of the loop; looks every 100 ms at what it costs. */
void processor_turn(void);
/* For now: before a thread is made, which would have to stay there as well. */
void processor_leave(void);

/*
 * The number of the interrupt of that name in @interrupts, which is what
 * /proc/interrupts has. -ENOENT: there is none; -ENOTUNIQ: several.
 */
int processor_find_interrupt(FILE *interrupts, const char *name);

#endif
