/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * command_reach.c - a command that opens an image, or asks for the size of one
 * that is open, waits, before it is run, until what that is on has answered
 * (reach.h): not in the event loop, which goes on for everybody else, and for
 * no longer than a limit.
 *
 *   command --> WAITING --- answered ---> run again, and now it opens or asks
 *                  |--- limit ----------> ETIMEDOUT; the thread stays until it has its answer
 *                  +--- the process ends  ESHUTDOWN
 *
 * REACH_MAX threads at a time: a command that finds that many looks again until its limit.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "commands_internal.h"
#include "log.h"
#include "processor.h"
#include "reach.h"

struct reaching {
	struct commands *commands;
	struct control_request *request;
	int end;				/* of reach_begin(); -1: no thread yet */
	struct loop_source *answered, *again, *limit;
	struct reaching *next;
	char target[];
};

/* Of the list and all that wakes it; the request is the caller's again. */
static struct control_request *reaching_end(struct reaching *reaching)
{
	struct control_request *request = reaching->request;
	struct reaching **place = &reaching->commands->reaching;

	while (*place != reaching)
		place = &(*place)->next;
	*place = reaching->next;
	loop_remove(reaching->answered);
	loop_remove(reaching->again);
	loop_remove(reaching->limit);
	if (reaching->end >= 0)
		close(reaching->end);
	free(reaching);
	return request;
}

static void reaching_fail(struct reaching *reaching, int error)
{
	control_reply(reaching_end(reaching), error, NULL);
}

static void answered(void *arg, uint32_t events)
{
	struct control_request *request = reaching_end(arg);

	request->reached = true;
	command_run_again(request);
}

static void late(void *arg)
{
	struct reaching *reaching = arg;
	struct error_text *text = &reaching->request->error;
	int error = -EBUSY;		/* there was no thread for it: @text says why */

	reaching->limit = NULL;
	if (reaching->end >= 0)
		error = reach_failed(reaching->target, reaching->commands->reach_ms, text);
	log_warning("%s", text->text);
	reaching_fail(reaching, error);
}

static void begin(void *arg)
{
	struct reaching *reaching = arg;
	struct loop *loop = reaching->commands->loop;
	int error = 0;

	reaching->again = NULL;
	reaching->request->error.text[0] = '\0';
	processor_leave();
	reaching->end = reach_begin(reaching->target, &reaching->request->error);
	if (reaching->end >= 0)
		error = loop_add_fd(loop, &reaching->answered, reaching->end, EPOLLIN, answered, reaching);
	else if (reaching->end == -EBUSY)
		error = loop_add_timer(loop, &reaching->again, OPEN_AGAIN_MS, begin, reaching);
	else
		error = reaching->end;
	if (error)
		reaching_fail(reaching, error);
}

/* Guests wait for a disk that is taken over: for as long as it takes, as they would for the device. */
static bool is_limited(const struct commands *commands, const struct control_request *request)
{
	return commands->reach_ms && !json_is_true(json_object_get(request->message, "take_over"));
}

bool command_reach(struct commands *commands, struct control_request *request, const char *target)
{
	struct reaching *reaching;
	int error = 0;

	if (request->reached)
		return false;
	reaching = calloc(1, sizeof(*reaching) + strlen(target) + 1);
	if (!reaching) {
		control_reply(request, -ENOMEM, NULL);
		return true;
	}
	strcpy(reaching->target, target);
	reaching->commands = commands;
	reaching->request = request;
	reaching->end = -1;
	reaching->next = commands->reaching;
	commands->reaching = reaching;
	if (is_limited(commands, request))
		error = loop_add_timer(commands->loop, &reaching->limit, commands->reach_ms, late, reaching);
	if (error)
		reaching_fail(reaching, error);
	else
		begin(reaching);
	return true;
}

void command_reach_stop(struct commands *commands)
{
	struct control_request *request;

	while (commands->reaching) {
		request = reaching_end(commands->reaching);
		request->error.text[0] = '\0';
		control_reply(request, error_set(&request->error, -ESHUTDOWN, "this tapdisk ends; the image that was to be opened has "
						 "not answered"), NULL);
	}
}
