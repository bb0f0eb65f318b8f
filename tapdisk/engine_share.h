/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_share.h - how much of an engine's room each descriptor may take, and
 * the ios that wait for room. A device or file server that does not answer
 * keeps what it has got, so no descriptor may take all: at most MAX_SHARE
 * requests, and never more than is left for the others. For engines only.
 *
 * Invariants:
 *  1. `taken` is the sum of all shares' `taken`, and at most `limit`.
 *  2. A share is in the list `waiting` exactly if it has held ios; while it
 *     has, new ones go to their end, so the ios of a descriptor stay in order.
 *  3. Every descriptor without requests gets room as long as any is left.
 *
 * Descriptors whose numbers differ by a multiple of ENGINE_SHARES have a share
 * in common.
 */
#ifndef TAPDISK_ENGINE_SHARE_H
#define TAPDISK_ENGINE_SHARE_H

#include "engine_list.h"

#define ENGINE_SHARES 1024u
#define ENGINE_MAX_SHARE 256u	/* keeps a fast device busy; and each request of a dead one may take a thread of the kernel */

struct engine_share {
	unsigned taken;
	struct engine_list held;
	struct engine_share *next;
};

struct engine_shares {
	unsigned limit, taken;
	struct engine_share *waiting, **last;
	struct engine_share shares[ENGINE_SHARES];
};

static inline void engine_shares_init(struct engine_shares *shares, unsigned limit)
{
	shares->limit = limit;
	shares->last = &shares->waiting;
	for (unsigned i = 0; i < ENGINE_SHARES; i++)
		engine_list_init(&shares->shares[i].held);
}

static inline struct engine_share *engine_shares_of(struct engine_shares *shares, const struct engine_io *io)
{
	return &shares->shares[(unsigned)io->fd % ENGINE_SHARES];
}

static inline bool engine_share_has_room(const struct engine_shares *shares, const struct engine_share *share)
{
	return share->taken < ENGINE_MAX_SHARE && share->taken < shares->limit - shares->taken;
}

/* True: @io has room, which it must give back. False: it has to wait. */
static inline bool engine_shares_take(struct engine_shares *shares, const struct engine_io *io)
{
	struct engine_share *share = engine_shares_of(shares, io);

	if (share->held.first || !engine_share_has_room(shares, share))
		return false;
	share->taken++;
	shares->taken++;
	return true;
}

static inline void engine_shares_give_back(struct engine_shares *shares, const struct engine_io *io)
{
	engine_shares_of(shares, io)->taken--;
	shares->taken--;
}

static inline void engine_shares_hold(struct engine_shares *shares, struct engine_io *io)
{
	struct engine_share *share = engine_shares_of(shares, io);

	if (!share->held.first) {
		share->next = NULL;
		*shares->last = share;
		shares->last = &share->next;
	}
	engine_list_add(&share->held, io);
}

/* The next held io that would get room; NULL: none. */
static inline struct engine_io *engine_shares_next(const struct engine_shares *shares)
{
	const struct engine_share *share = shares->waiting;

	while (share && !engine_share_has_room(shares, share))
		share = share->next;
	return share ? share->held.first : NULL;
}

/* @io, which engine_shares_next() returned, leaves the held ones, and has room. */
static inline void engine_shares_take_next(struct engine_shares *shares, const struct engine_io *io)
{
	struct engine_share *share = engine_shares_of(shares, io), **place = &shares->waiting;

	engine_list_take(&share->held);
	share->taken++;
	shares->taken++;
	if (share->held.first)
		return;
	while (*place != share)
		place = &(*place)->next;
	*place = share->next;
	if (!*place)
		shares->last = place;
}

#endif
