/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * blkif_backoff.c - a frontend that has us work for nothing has to wait.
 *
 * A signal that announces nothing, a request that is wrong, one whose pages
 * are not there: they cost the guest next to nothing, and us the processor time
 * that other disks need. So there is a count: each of them adds one, each
 * request that is answered well takes one away, down to 0. A driver does not get
 * far by a mistake now and then. When the count comes to PENALTY_MAX no ring is
 * looked at and no signal taken for BACKOFF_MS, longer when it went beyond; what
 * is in flight is answered all the same. What is of no use is then PENALTY_MAX in
 * each BACKOFF_MS, and as much as what is.
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

void blkif_count_use(struct blkif *blkif, bool useful)
{
	if (!useful)
		blkif->penalty++;
	else if (blkif->penalty)
		blkif->penalty--;
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
	/* without a timer to be had it is served, and asked again at once */
	if (loop_add_timer(blkif->vbd->loop, &blkif->backoff, ms, blkif_backoff_over, blkif))
		return false;
	blkif->penalty = 0;
	if (!blkif->backoffs++)
		log_guest(LOG_LEVEL_WARNING, "domain %u device %u: many bad requests or signals without one, served slowly",
			  blkif->domid, blkif->devid);
	blkif_listen(blkif, 0);
	return true;
}
