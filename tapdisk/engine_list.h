/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_list.h - a FIFO of engine_io, linked by io->next. For engines only:
 * they own the link.
 */
#ifndef TAPDISK_ENGINE_LIST_H
#define TAPDISK_ENGINE_LIST_H

#include "engine.h"

struct engine_list {
	struct engine_io *first, **end;
};

static inline void engine_list_init(struct engine_list *list)
{
	list->first = NULL;
	list->end = &list->first;
}

static inline void engine_list_add(struct engine_list *list, struct engine_io *io)
{
	io->next = NULL;
	*list->end = io;
	list->end = &io->next;
}

/* The first io, or NULL. */
static inline struct engine_io *engine_list_take(struct engine_list *list)
{
	struct engine_io *io = list->first;

	if (io) {
		list->first = io->next;
		if (!list->first)
			list->end = &list->first;
	}
	return io;
}

#endif
