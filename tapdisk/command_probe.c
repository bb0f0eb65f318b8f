/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_probe.c - before a command opens an image, or asks an open one for its
 * size, a thread checks that the image's storage answers, and opens a raw image
 * (probe.h). A store is then opened in a fiber. The command waits for both, up to
 * a limit; the event loop keeps running.
 *
 *   command --> WAITING --- answered ---> OPENING, if it is a store --> run again: takes what was opened, or now it opens or asks
 *                  |--- limit ----------> ETIMEDOUT; the thread remains until the storage answers, and so does the fiber
 *                  +--- the process ends  ESHUTDOWN
 *
 * There are at most PROBE_MAX threads: a command that finds none free retries until its limit.
 *
 * A store that has a journal is opened by the command itself, which replays it: nobody else may have the journal of the
 * minor meanwhile. What a fiber opens has none until the command takes it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "commands_internal.h"
#include "log.h"
#include "probe.h"
#include "processor.h"
#include "takeover.h"

/* A store that is being opened; after that, one that nobody has taken, until it is closed. */
struct store_opening {
	struct loop_source *hook;
	struct probing *probing;		/* NULL: nobody waits any more */
	struct backend_opening *begun;		/* NULL: it has ended */
	struct backend *backend;
};

struct probing {
	struct commands *commands;
	struct control_request *request;
	struct probe *probe;			/* NULL: no thread yet */
	struct store_opening *store;		/* NULL: not OPENING */
	bool opens;
	struct driver_options options;
	struct loop_source *answered, *again, *limit;
	struct probing *next;
	char target[];
};

/* Only a raw image. */
static void leave_probe(struct probe *probe)
{
	struct backend *unused = probe_end(probe);

	if (unused)
		vbd_close_aside(unused);
}

/* Remove and free @probing; returns its request, which the caller owns. */
static struct control_request *probing_end(struct commands *commands, struct probing *probing)
{
	struct control_request *request = probing->request;
	struct probing **place = &commands->probing;

	while (*place != probing)
		place = &(*place)->next;
	*place = probing->next;
	if (probing->store)
		probing->store->probing = NULL;
	loop_remove(probing->answered);
	loop_remove(probing->again);
	loop_remove(probing->limit);
	if (probing->probe)
		leave_probe(probing->probe);
	free(probing);
	return request;
}

static void probing_fail(struct probing *probing, int error)
{
	control_reply(probing_end(probing->commands, probing), error, NULL);
}

/* Returns what was opened and the command has not taken, or NULL. */
static struct backend *run_again(struct probing *probing)
{
	struct probe *probe = probing->probe;
	struct control_request *request;
	struct disk *disk;

	probing->probe = NULL;
	request = probing_end(probing->commands, probing);
	disk = command_request_disk(request);	/* NULL: detached meanwhile; the command does not detach it */
	request->probed = true;
	if (disk)
		disk->vbd->answered = probe;
	command_run_again(request);
	if (disk)
		disk->vbd->answered = NULL;
	return probe_end(probe);
}

static void store_ended(struct store_opening *store)
{
	struct error_text text = { "" };
	int error = backend_open_end(store->begun, &store->backend, &text);

	store->begun = NULL;
	if (!store->probing)
		return;
	probe_opened(store->probing->probe, store->backend, error, &text);
	store->probing->store = NULL;
	store->backend = run_again(store->probing);
}

/* Before each sleep. */
static bool store_run(void *arg)
{
	struct store_opening *store = arg;

	if (store->begun && !backend_open_ended(store->begun))
		return false;
	if (store->begun)
		store_ended(store);
	if (store->backend && !backend_finish(store->backend))
		return false;
	if (store->backend)
		vbd_close_aside(store->backend);
	loop_remove(store->hook);
	free(store);
	return true;
}

static int open_store(struct probing *probing)
{
	struct store_opening *store = calloc(1, sizeof(*store));
	int error = store ? 0 : -ENOMEM;

	if (!error)
		error = loop_add_prepare(probing->commands->loop, &store->hook, store_run, store);
	if (error) {
		free(store);
		return error;
	}
	error = backend_open_begin(&store->begun, probing->commands->engine, probing->target, &probing->options);
	if (error)
		return error;		/* the hook frees @store */
	store->probing = probing;
	probing->store = store;
	loop_remove(probing->answered);
	probing->answered = NULL;
	return 0;
}

static bool has_journal(const struct probing *probing)
{
	const struct disk *disk = command_request_disk(probing->request);

	return !disk || takeover_disk_has_journal(disk->vbd->minor);
}

/* Without memory the command opens the store, and the loop waits. */
static void answered(void *arg, uint32_t events)
{
	struct probing *probing = arg;
	struct backend *unused;

	if (!probe_has_opened(probing->probe) && !has_journal(probing) && !open_store(probing))
		return;
	unused = run_again(probing);
	if (unused)
		vbd_close_aside(unused);
}

static void late(void *arg)
{
	struct probing *probing = arg;
	struct error_text *text = &probing->request->error;
	int error = -EBUSY;		/* no thread was free: @text says so */

	probing->limit = NULL;
	if (probing->probe)
		error = probe_timed_out(probing->target, probing->commands->probe_timeout_ms, text);
	log_warning("%s", text->text);
	probing_fail(probing, error);
}

static void begin(void *arg)
{
	struct probing *probing = arg;
	struct loop *loop = probing->commands->loop;
	int end, error;

	probing->again = NULL;
	probing->request->error.text[0] = '\0';
	processor_leave();
	end = probe_begin(&probing->probe, probing->target, probing->commands->engine,
			  probing->opens ? &probing->options : NULL, &probing->request->error);
	if (end >= 0)
		error = loop_add_fd(loop, &probing->answered, end, EPOLLIN, answered, probing);
	else if (end == -EBUSY)
		error = loop_add_timer(loop, &probing->again, OPEN_AGAIN_MS, begin, probing);
	else
		error = end;
	if (error)
		probing_fail(probing, error);
}

/* No limit for a take-over: guests wait for the disk, as they would for a slow device. */
static bool is_limited(const struct commands *commands, const struct control_request *request)
{
	return commands->probe_timeout_ms && !json_is_true(json_object_get(request->message, "take_over"));
}

bool command_probe(struct commands *commands, struct control_request *request, const char *target,
		   const struct driver_options *options)
{
	struct probing *probing;
	int error = 0;

	if (request->probed)
		return false;
	probing = calloc(1, sizeof(*probing) + strlen(target) + 1);
	if (!probing) {
		control_reply(request, -ENOMEM, NULL);
		return true;
	}
	strcpy(probing->target, target);
	probing->commands = commands;
	probing->request = request;
	probing->opens = options;
	if (options)
		probing->options = *options;
	probing->next = commands->probing;
	commands->probing = probing;
	if (is_limited(commands, request))
		error = loop_add_timer(commands->loop, &probing->limit, commands->probe_timeout_ms, late, probing);
	if (error)
		probing_fail(probing, error);
	else
		begin(probing);
	return true;
}

void command_probe_stop(struct commands *commands)
{
	struct control_request *request;

	while (commands->probing) {
		request = probing_end(commands, commands->probing);
		request->error.text[0] = '\0';
		control_reply(request, error_set(&request->error, -ESHUTDOWN, "this tapdisk is exiting; the image's "
						 "storage has not answered"), NULL);
	}
}
