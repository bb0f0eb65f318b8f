/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * request_list.h - block requests that wait in tapdisk, linked by req->next.
 */
#ifndef TAPDISK_REQUEST_LIST_H
#define TAPDISK_REQUEST_LIST_H

#include <stddef.h>

#include "block.h"

struct request_list {
	struct block_request *first, *last;
	unsigned count;
};

static inline void request_list_append(struct request_list *list, struct block_request *req)
{
	req->next = NULL;
	if (list->first)
		list->last->next = req;
	else
		list->first = req;
	list->last = req;
	list->count++;
}

static inline void request_list_prepend(struct request_list *list, struct block_request *req)
{
	req->next = list->first;
	list->first = req;
	if (!req->next)
		list->last = req;
	list->count++;
}

/* Remove and return the first one; NULL: the list is empty. */
static inline struct block_request *request_list_take(struct request_list *list)
{
	struct block_request *req = list->first;

	if (req) {
		list->first = req->next;
		list->count--;
		req->next = NULL;
	}
	return req;
}

/* Move all of them, in order, to the returned list. The caller may append some to @list again. */
static inline struct request_list request_list_take_all(struct request_list *list)
{
	struct request_list all = *list;

	*list = (struct request_list){ 0 };
	return all;
}

#endif
