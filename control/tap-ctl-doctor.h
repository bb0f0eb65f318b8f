/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-doctor.h - shared by the two files of tap-ctl doctor.
 */
#ifndef TAPSNAP_TAP_CTL_DOCTOR_H
#define TAPSNAP_TAP_CTL_DOCTOR_H

#include <jansson.h>

/* @state: "ok", "note" or "wrong". */
void doctor_find(json_t *findings, const char *name, const char *state, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* tap-ctl-doctor-process.c: the findings about tapdisk @pid, and the numbers they are based on. */
json_t *doctor_process(int pid);

#endif
