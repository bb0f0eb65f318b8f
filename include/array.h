/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * array.h - the number of elements of an array. gcc warns of an argument that
 * is a pointer.
 */
#ifndef TAPSNAP_ARRAY_H
#define TAPSNAP_ARRAY_H

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

#endif
