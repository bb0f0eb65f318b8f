/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_backoff.c - slows down a frontend that causes useless work.
 *
 * A signal without a request, an invalid request, a request whose pages cannot
 * be reached: each costs the guest almost nothing, and us processor time that
 * other disks need. So each adds one to a penalty, and each successful request
 * takes one away, down to 0. Occasional mistakes of a driver do not matter. When
 * the penalty reaches PENALTY_MAX, no ring is checked and no signal taken for
 * BACKOFF_MS, or longer if it went beyond; requests in flight are still
 * answered. So useless events are limited to PENALTY_MAX in each BACKOFF_MS plus
 * the number of useful ones.
 *
 * A page that cannot be mapped although the frontend negotiated persistent grants
 * counts as well, once in a request (blkif_io.c). The request may still succeed, by
 * copies, if the page was granted for reading only, which the protocol forbids
 * with persistent grants; so it counts more than a successful request takes away.
 */
#include "blkif.h"

#include <sys/epoll.h>

#include "log.h"

#define PENALTY_MAX 64u
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define BACKOFF_MS 0u	/* fuzzers send little else */
#else
#define BACKOFF_MS 100u
#endif
#define BACKOFF_MAX_MS 1000u
#define FAILED_MAP_PENALTY 2u

void blkif_count_use(struct blkif *blkif, bool useful)
{
	if (!useful)
		blkif->penalty++;
	else if (blkif->penalty)
		blkif->penalty--;
}

void blkif_count_failed_map(struct blkif *blkif)
{
	blkif->penalty += FAILED_MAP_PENALTY;
}

static void blkif_listen(struct blkif *blkif, uint32_t events)
{
	for (unsigned i = 0; i < blkif->nr_queues; i++)
		if (blkif->queues[i].source)
			loop_modify_fd(blkif->queues[i].source, events);
}

static void blkif_backoff_over(void *arg)
{
	struct blkif *blkif = arg;

	blkif->backoff = NULL;
	blkif_listen(blkif, EPOLLIN);
}

bool blkif_backing_off(struct blkif *blkif)
{
	unsigned ms = blkif->penalty * BACKOFF_MS / PENALTY_MAX;

	if (blkif->backoff)
		return true;
	if (blkif->penalty < PENALTY_MAX)
		return false;
	ms = ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
	/* no memory for a timer: serve it now, and try the back-off again next time */
	if (loop_add_timer(blkif->vbd->loop, &blkif->backoff, ms, blkif_backoff_over, blkif))
		return false;
	blkif->penalty = 0;
	if (!blkif->backoffs++)
		log_guest(LOG_LEVEL_WARNING, "domain %u device %u: many bad requests or signals without a request: "
			  "slowed down", blkif->domid, blkif->devid);
	blkif_listen(blkif, 0);
	return true;
}
