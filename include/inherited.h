/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inherited.h - undo what a program inherits from its parent and cannot
 * work with: closed standard descriptors, ignored signals.
 */
#ifndef TAPSNAP_INHERITED_H
#define TAPSNAP_INHERITED_H

/*
 * Each program's main() calls it first. Afterwards no opened file gets the
 * number of a standard descriptor, and children can be waited for.
 */
void process_sanitize_fds(void);

#endif
