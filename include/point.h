/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * point.h - names for instants at which a test ends the process: between two
 * stores that outlive it. In the programs that are built and installed they
 * are nothing at all; tests/unit/point.c is what they are in
 * build/tests/tapdisk-points, point_steps.c in build/tests/xl-snapshot-points.
 */
#ifndef TAPSNAP_POINT_H
#define TAPSNAP_POINT_H

#ifdef TEST_POINTS
void test_point(const char *name);
#else
#define test_point(name) ((void)0)
#endif

#endif
