/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_run.h - run an engine until nothing is queued or in flight.
 */
#ifndef TESTS_ENGINE_RUN_H
#define TESTS_ENGINE_RUN_H

#include <stdlib.h>

#include "engine.h"

static inline void engine_run(struct engine *engine)
{
	while (engine->queued) {
		/* the I/Os in flight can never complete */
		if (engine->ops->wait(engine))
			abort();
		engine->ops->reap(engine);
	}
}

#endif
