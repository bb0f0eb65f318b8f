/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_tapdisk.c - connections to tapdisks in the event loop.
 *
 *   tapdisk_join()                 tapdisk_end()
 *        -> open (listed, users) ----------------> ended (unlisted, no users)
 *
 * Invariants:
 * 1. An open tapdisk is on the list, has a user, and one `watch` was its
 *    first request.
 * 2. requests is the order in which replies come.
 * 3. The end of a connection first removes it from the list, then answers
 *    every request, then tells the users.
 * 4. Callbacks neither join nor leave, so no list changes while it is walked.
 */
#include "tapback_tapdisk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tapback_log.h"

/* Messages handled from one tapdisk before others get their turn. */
#define RECEIVE_BATCH 64

struct tapdisk_request {
	tapdisk_answer *answer;
	void *arg;
	struct tapdisk_request *next;
};

struct tapdisk {
	int pid;
	struct tapctl *ctl;
	sd_event *event;
	sd_event_source *io;
	struct tapdisk_request *requests, **requests_end;
	struct tapdisk_user *users;
	struct tapdisk *next;
};

static struct tapdisk *tapdisks;

int tapdisk_pid(const struct tapdisk_user *user)
{
	return user->tapdisk->pid;
}

static void tapdisk_unlist(struct tapdisk *tapdisk)
{
	struct tapdisk **link = &tapdisks;

	while (*link && *link != tapdisk)
		link = &(*link)->next;
	if (*link)
		*link = tapdisk->next;
}

static void tapdisk_free(struct tapdisk *tapdisk)
{
	struct tapdisk_request *request;

	while ((request = tapdisk->requests)) {
		tapdisk->requests = request->next;
		free(request);
	}
	sd_event_source_disable_unref(tapdisk->io);
	tapctl_close(tapdisk->ctl);
	free(tapdisk);
}

static struct tapdisk_request *tapdisk_pop(struct tapdisk *tapdisk)
{
	struct tapdisk_request *request = tapdisk->requests;

	if (request) {
		tapdisk->requests = request->next;
		if (!tapdisk->requests)
			tapdisk->requests_end = &tapdisk->requests;
	}
	return request;
}

static void tapdisk_end(struct tapdisk *tapdisk, int error)
{
	struct tapdisk_request *request;
	struct tapdisk_user *user;
	struct error_text text = { "" };

	error_set(&text, error, "tapdisk %d: connection ended", tapdisk->pid);
	tapback_log(LOG_INFO, "%s", text.text);
	tapdisk_unlist(tapdisk);
	while ((request = tapdisk_pop(tapdisk))) {
		if (request->answer)
			request->answer(request->arg, error, NULL, &text);
		free(request);
	}
	while ((user = tapdisk->users)) {
		tapdisk->users = user->next;
		user->tapdisk = NULL;
		user->lost(user);
	}
	tapdisk_free(tapdisk);
}

static void tapdisk_answered(struct tapdisk *tapdisk, json_t *reply)
{
	struct tapdisk_request *request = tapdisk_pop(tapdisk);
	struct error_text text = { "" };
	int error = tapctl_reply_error(reply, &text);

	if (request->answer)
		request->answer(request->arg, error, reply, &text);
	else if (error)
		tapback_log(LOG_ERR, "tapdisk %d: no events: %s", tapdisk->pid, text.text);
	free(request);
}

static void tapdisk_event(struct tapdisk *tapdisk, const char *name, json_t *event)
{
	json_t *minor = json_object_get(event, "minor");

	for (struct tapdisk_user *user = tapdisk->users; user; user = user->next) {
		if (json_is_integer(minor) && json_integer_value(minor) == user->minor)
			user->event(user, name, event);
	}
}

/* 0, or the error that ends the connection. */
static int tapdisk_message(struct tapdisk *tapdisk, json_t *message)
{
	const char *event = json_string_value(json_object_get(message, "event"));

	if (event)
		tapdisk_event(tapdisk, event, message);
	else if (tapdisk->requests)
		tapdisk_answered(tapdisk, message);
	else
		return -EPROTO;
	return 0;
}

static int tapdisk_receive(struct tapdisk *tapdisk)
{
	json_t *message;
	int error = 0;

	for (int i = 0; i < RECEIVE_BATCH && !error; i++) {
		error = tapctl_receive(tapdisk->ctl, &message);
		if (error)
			break;
		error = tapdisk_message(tapdisk, message);
		json_decref(message);
	}
	return error == -EAGAIN ? 0 : error;
}

static void tapdisk_set_events(struct tapdisk *tapdisk)
{
	sd_event_source_set_io_events(tapdisk->io, EPOLLIN | (tapctl_wants_write(tapdisk->ctl) ? EPOLLOUT : 0));
}

static int tapdisk_ready(sd_event_source *source, int fd, uint32_t events, void *arg)
{
	struct tapdisk *tapdisk = arg;
	int error = 0;

	if (events & EPOLLOUT)
		error = tapctl_flush(tapdisk->ctl);
	if (!error || error == -EAGAIN)
		error = tapdisk_receive(tapdisk);
	if (error)
		tapdisk_end(tapdisk, error);
	else
		tapdisk_set_events(tapdisk);
	return 0;
}

static int tapdisk_send(struct tapdisk *tapdisk, json_t *message, tapdisk_answer *answer, void *arg)
{
	struct tapdisk_request *request;
	int error;

	if (!message)
		return -ENOMEM;
	request = calloc(1, sizeof(*request));
	if (!request) {
		json_decref(message);
		return -ENOMEM;
	}
	error = tapctl_send(tapdisk->ctl, message);
	if (error) {
		free(request);
		return error;
	}
	*request = (struct tapdisk_request) { .answer = answer, .arg = arg };
	*tapdisk->requests_end = request;
	tapdisk->requests_end = &request->next;
	tapdisk_set_events(tapdisk);
	return 0;
}

int tapdisk_request(struct tapdisk_user *user, json_t *message, tapdisk_answer *answer, void *arg)
{
	return tapdisk_send(user->tapdisk, message, answer, arg);
}

static int tapdisk_open(struct tapdisk **result, sd_event *event, int pid, struct error_text *text)
{
	struct tapdisk *tapdisk = calloc(1, sizeof(*tapdisk));
	int error;

	if (!tapdisk)
		return error_set(text, -ENOMEM, "out of memory");
	*tapdisk = (struct tapdisk) { .pid = pid, .event = event };
	tapdisk->requests_end = &tapdisk->requests;
	error = tapctl_connect(&tapdisk->ctl, pid, text);
	if (error) {
		free(tapdisk);
		return error;
	}
	error = tapctl_set_nonblocking(tapdisk->ctl);
	if (!error)
		error = sd_event_add_io(event, &tapdisk->io, tapctl_fd(tapdisk->ctl), EPOLLIN, tapdisk_ready, tapdisk);
	if (!error)
		error = tapdisk_send(tapdisk, json_pack("{s:s}", "command", "watch"), NULL, NULL);
	if (error) {
		tapdisk_free(tapdisk);
		return error_set(text, error, "tapdisk %d: %s", pid, strerror(-error));
	}
	tapdisk->next = tapdisks;
	tapdisks = tapdisk;
	*result = tapdisk;
	return 0;
}

int tapdisk_join(struct tapdisk_user *user, sd_event *event, int pid, struct error_text *text)
{
	struct tapdisk *tapdisk = tapdisks;
	int error;

	while (tapdisk && tapdisk->pid != pid)
		tapdisk = tapdisk->next;
	if (!tapdisk) {
		error = tapdisk_open(&tapdisk, event, pid, text);
		if (error)
			return error;
	}
	user->tapdisk = tapdisk;
	user->next = tapdisk->users;
	tapdisk->users = user;
	return 0;
}

void tapdisk_leave(struct tapdisk_user *user)
{
	struct tapdisk *tapdisk = user->tapdisk;
	struct tapdisk_user **link;

	if (!tapdisk)
		return;
	for (link = &tapdisk->users; *link != user; link = &(*link)->next)
		;
	*link = user->next;
	user->tapdisk = NULL;
	if (tapdisk->users)
		return;
	tapdisk_unlist(tapdisk);
	tapdisk_free(tapdisk);
}
