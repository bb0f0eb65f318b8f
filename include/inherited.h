/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inherited.h - what a program got from the one that started it, and must not
 * take as it is: descriptors that are closed, signals that are ignored.
 */
#ifndef TAPSNAP_INHERITED_H
#define TAPSNAP_INHERITED_H

/*
 * The first thing that each program's main() does. No file that is opened
 * later gets the number of a standard descriptor, and children can be waited for.
 */
void process_sanitize_fds(void);

#endif
