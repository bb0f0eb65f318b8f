/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point.h - named points at which a test kills the process: between two
 * writes that outlive it. In the installed programs they are nothing;
 * tests/unit/point.c defines them for build/tests/tapdisk-points,
 * point_steps.c for build/tests/xl-snapshot-points.
 */
#ifndef TAPSNAP_POINT_H
#define TAPSNAP_POINT_H

#ifdef TEST_POINTS
void test_point(const char *name);
#else
#define test_point(name) ((void)0)
#endif

#endif
