/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_probe.c - before a command opens an image, or asks an open one for its
 * size, a thread checks that the image's storage answers, and opens a raw image
 * (probe.h). The command waits for the thread, up to a limit; the event loop
 * keeps running.
 *
 *   command --> WAITING --- answered ---> run again: takes what was opened, or now it opens or asks
 *                  |--- limit ----------> ETIMEDOUT; the thread remains until the storage answers
 *                  +--- the process ends  ESHUTDOWN
 *
 * There are at most PROBE_MAX threads: a command that finds none free retries until its limit.
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

struct probing {
	struct commands *commands;
	struct control_request *request;
	struct probe *probe;			/* NULL: no thread yet */
	bool opens;
	struct driver_options options;
	struct loop_source *answered, *again, *limit;
	struct probing *next;
	char target[];
};

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

static void answered(void *arg, uint32_t events)
{
	struct probing *probing = arg;
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
	leave_probe(probe);
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
