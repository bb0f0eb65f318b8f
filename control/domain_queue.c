/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_queue.c - sessions: each operation runs on its own thread; progress
 * and completion are reported on the thread that dispatches.
 *
 *   start --> runs on its thread --> over (eventfd) --> dispatch: joined, done(), freed
 *
 * Invariants: the list belongs to the one thread that calls us; an operation's
 * thread accesses only its operation. The mutex protects the members by which
 * it reports to us. Callbacks run without it, on the dispatching thread.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "array.h"
#include "domain.h"

struct domain_snapshot_operation {
	struct domain_snapshots *session;
	struct domain_snapshot_callbacks callbacks;
	struct domain_snapshot_request request;	/* a copy, which owns its strings */
	char **leave_out;
	struct domain_operation work;
	pthread_t thread;
	int error;
	bool over, has_progress;	/* to be reported */
	char step[64];
	int percent;
	struct domain_snapshot_operation *next;
};

struct domain_snapshots {
	pthread_mutex_t mutex;
	int event;
	int (*open_host)(struct domain_host **host, struct error_text *text);
	const char *guard;
	struct domain_snapshot_operation *operations;
};

int domain_run(struct domain_operation *operation)
{
	static int (*const commands[])(struct domain_operation *) = {
		[DOMAIN_SNAPSHOT_CREATE] = domain_create, [DOMAIN_SNAPSHOT_QUERY] = domain_query,
		[DOMAIN_SNAPSHOT_EDIT] = domain_edit, [DOMAIN_SNAPSHOT_REVERT] = domain_revert,
		[DOMAIN_SNAPSHOT_DELETE] = domain_delete, [DOMAIN_SNAPSHOT_CLONE] = domain_clone,
		[DOMAIN_SNAPSHOT_RECOVER] = domain_recover_all,
	};

	operation->infos = json_array();
	return commands[operation->request->command](operation);
}

static void tell(struct domain_snapshots *session)
{
	/* cannot overflow: dispatch resets the counter */
	eventfd_write(session->event, 1);
}

static void note_progress(struct domain_operation *work, const char *step, int percent)
{
	struct domain_snapshot_operation *operation = (void *)((char *)work -
							       offsetof(struct domain_snapshot_operation, work));

	pthread_mutex_lock(&operation->session->mutex);
	operation->has_progress = true;
	snprintf(operation->step, sizeof(operation->step), "%s", step);
	operation->percent = percent;
	pthread_mutex_unlock(&operation->session->mutex);
	tell(operation->session);
}

/* Queries work on the files alone if the host cannot be reached. */
static int run_with_host(struct domain_operation *work, struct domain_snapshots *session)
{
	struct error_text reason = { "" };
	struct domain_host *host = NULL;
	int error = session->open_host(&host, &reason);

	if (error && work->request->command != DOMAIN_SNAPSHOT_QUERY)
		return error_set(&work->text, error, "%s", reason.text);
	if (!error)
		host->operation = work;
	pthread_mutex_lock(&session->mutex);
	work->host = host;
	pthread_mutex_unlock(&session->mutex);
	error = domain_run(work);
	/* no domain with snapshots has that name: perhaps the host knows it */
	if (!host && error == -ENOENT && !work->id.uuid[0])
		work->text = reason;
	pthread_mutex_lock(&session->mutex);
	work->host = NULL;
	pthread_mutex_unlock(&session->mutex);
	if (host)
		host->ops->close(host);
	return error;
}

static void *run_thread(void *arg)
{
	struct domain_snapshot_operation *operation = arg;
	struct domain_snapshots *session = operation->session;
	int error = run_with_host(&operation->work, session);

	pthread_mutex_lock(&session->mutex);
	operation->error = error;
	operation->over = true;
	pthread_mutex_unlock(&session->mutex);
	tell(session);
	return NULL;
}

/* ---- requests ---- */

static bool copy_string(const char **string)
{
	if (*string)
		*string = strdup(*string);
	else
		return true;
	return *string;
}

static bool copy_list(struct domain_snapshot_operation *operation)
{
	const char *const *from = operation->request.leave_out;
	unsigned count = 0;

	operation->request.leave_out = NULL;
	while (from && from[count])
		count++;
	operation->leave_out = calloc(count + 1, sizeof(char *));
	if (!operation->leave_out)
		return false;
	operation->request.leave_out = (const char *const *)operation->leave_out;
	for (unsigned i = 0; i < count; i++) {
		operation->leave_out[i] = strdup(from[i]);
		if (!operation->leave_out[i])
			return false;
	}
	return true;
}

/* Make a path absolute, for programs that run in other directories; a word without a slash is not a path. */
static bool copy_path(const char **path)
{
	char *directory, *absolute = NULL;

	if (!*path || **path == '/' || !strchr(*path, '/'))
		return copy_string(path);
	directory = getcwd(NULL, 0);
	if (!directory || asprintf(&absolute, "%s/%s", directory, *path) < 0)
		absolute = NULL;
	free(directory);
	*path = absolute;
	return absolute;
}

static bool copy_request(struct domain_snapshot_operation *operation, const struct domain_snapshot_request *request)
{
	struct domain_snapshot_request *copy = &operation->request;
	bool copied;

	*copy = *request;
	/* copy all strings, so that freeing the copy is safe */
	copied = copy_path(&copy->domain);
	copied &= copy_string(&copy->name);
	copied &= copy_string(&copy->description);
	copied &= copy_path(&copy->hook);
	copied &= copy_string(&copy->store);
	copied &= copy_string(&copy->new_name);
	copied &= copy_string(&copy->folder);
	copied &= copy_list(operation);
	return copied;
}

static void operation_free(struct domain_snapshot_operation *operation)
{
	const struct domain_snapshot_request *request = &operation->request;

	free((char *)request->domain);
	free((char *)request->name);
	free((char *)request->description);
	free((char *)request->hook);
	free((char *)request->store);
	free((char *)request->new_name);
	free((char *)request->folder);
	for (char **one = operation->leave_out; one && *one; one++)
		free(*one);
	free(operation->leave_out);
	json_decref(operation->work.infos);
	free(operation->work.current);
	free(operation->work.clone);
	free(operation);
}

static int check_request(const struct domain_snapshot_request *request, struct error_text *text)
{
	bool clone = request->command == DOMAIN_SNAPSHOT_CLONE;

	if (request->command > DOMAIN_SNAPSHOT_RECOVER)
		return error_set(text, -EINVAL, "no such command");
	if (!request->domain || !*request->domain)
		return error_set(text, -EINVAL, "no domain given");
	if (request->name && !info_name_valid(request->name))
		return error_set(text, -EINVAL, "\"%.64s\": not a snapshot name: use 1 to %d letters, digits and punctuation "
				 "marks, no spaces, none of @ / \\ or quotes, and no leading -", request->name,
				 SNAPSHOT_NAME_MAX);
	if (clone && (!request->new_name || !info_name_valid(request->new_name)))
		return error_set(text, -EINVAL, "the new domain needs a name, without spaces, slashes or quotes");
	return 0;
}

/* The strings must be UTF-8, for JSON. */
static int check_words(const struct domain_snapshot_request *request, struct error_text *text)
{
	const struct {
		const char *what, *word;
	} words[] = {
		{ "domain", request->domain }, { "description", request->description }, { "hook", request->hook },
		{ "store", request->store }, { "folder", request->folder },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		json_t *string = words[i].word ? json_string(words[i].word) : NULL;

		if (words[i].word && !string)
			return error_set(text, -EILSEQ, "the %s is not UTF-8", words[i].what);
		json_decref(string);
	}
	return 0;
}

/*
 * Block signals in the new thread: they are for the caller's threads. SIGCHLD keeps the caller's setting: libxl may need it
 * for its helper processes.
 */
static int start_thread(struct domain_snapshot_operation *operation)
{
	sigset_t mask, old;
	int error;

	pthread_sigmask(SIG_SETMASK, NULL, &old);
	sigfillset(&mask);
	if (!sigismember(&old, SIGCHLD))
		sigdelset(&mask, SIGCHLD);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	error = pthread_create(&operation->thread, NULL, run_thread, operation);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -error;
}

int domain_snapshots_start(struct domain_snapshots *session, const struct domain_snapshot_request *request,
			   const struct domain_snapshot_callbacks *callbacks,
			   struct domain_snapshot_operation **started, struct error_text *text)
{
	struct domain_snapshot_operation *operation;
	int error = check_request(request, text);

	if (error)
		return error;
	operation = calloc(1, sizeof(*operation));
	if (!operation)
		return error_set(text, -ENOMEM, "out of memory");
	operation->session = session;
	operation->callbacks = *callbacks;
	operation->work.request = &operation->request;
	operation->work.guard = session->guard;
	operation->work.progress = note_progress;
	error = copy_request(operation, request) ? check_words(&operation->request, text) : -ENOMEM;
	if (!error)
		error = start_thread(operation);
	if (error) {
		operation_free(operation);
		return error_set(text, error, "%s", strerror(-error));
	}
	operation->next = session->operations;
	session->operations = operation;
	if (started)
		*started = operation;
	return 0;
}

void domain_snapshots_cancel(struct domain_snapshot_operation *operation)
{
	struct domain_operation *work = &operation->work;

	atomic_store(&work->canceled, true);
	pthread_mutex_lock(&operation->session->mutex);
	if (work->host && work->host->ops->abort)
		work->host->ops->abort(work->host);
	pthread_mutex_unlock(&operation->session->mutex);
}

/* ---- completion ---- */

static void tell_done(struct domain_snapshot_operation *operation)
{
	const struct domain_operation *work = &operation->work;
	struct domain_snapshot_result result = {
		.error = operation->error, .text = work->text.text, .domain = work->id.name, .uuid = work->id.uuid,
		.disks_us = work->disks_us, .stopped_us = work->stopped_us, .clone = work->clone,
		.clone_has_memory = work->clone_has_memory,
	};
	/* after a create or a revert that snapshot is the current one */
	enum domain_snapshot_command command = operation->request.command;
	const char *current = work->current;

	if (command == DOMAIN_SNAPSHOT_CREATE || command == DOMAIN_SNAPSHOT_REVERT)
		current = info_string(json_array_get(work->infos, 0), "name");
	result.snapshots = info_typed(work->infos, current);
	result.count = result.snapshots ? (unsigned)json_array_size(work->infos) : 0;
	if (!result.snapshots && !result.error)
		result.error = -ENOMEM;
	operation->callbacks.done(operation->callbacks.owner, &result);
	free(result.snapshots);
}

/* Find an operation with something to report; remove it from the list if it is over. */
static struct domain_snapshot_operation *take_one(struct domain_snapshots *session, bool *progress)
{
	struct domain_snapshot_operation **link, *found = NULL;

	pthread_mutex_lock(&session->mutex);
	for (link = &session->operations; *link && !found; ) {
		struct domain_snapshot_operation *operation = *link;

		*progress = operation->has_progress && !operation->over;
		if (operation->over)
			*link = operation->next;
		if (operation->over || *progress)
			found = operation;
		operation->has_progress = false;
		link = &operation->next;
	}
	pthread_mutex_unlock(&session->mutex);
	return found;
}

void domain_snapshots_dispatch(struct domain_snapshots *session)
{
	struct domain_snapshot_operation *operation;
	char step[sizeof(operation->step)];
	bool progress;
	eventfd_t count;
	int percent;

	eventfd_read(session->event, &count);
	while ((operation = take_one(session, &progress))) {
		if (progress && operation->callbacks.progress) {
			pthread_mutex_lock(&session->mutex);
			memcpy(step, operation->step, sizeof(step));
			percent = operation->percent;
			pthread_mutex_unlock(&session->mutex);
			operation->callbacks.progress(operation->callbacks.owner, step, percent);
		}
		if (progress)
			continue;
		pthread_join(operation->thread, NULL);
		tell_done(operation);
		operation_free(operation);
	}
}

int domain_snapshots_fd(const struct domain_snapshots *session)
{
	return session->event;
}

int domain_snapshots_open_with(struct domain_snapshots **session,
			       int (*open_host)(struct domain_host **host, struct error_text *text), const char *guard,
			       struct error_text *text)
{
	struct domain_snapshots *made = calloc(1, sizeof(*made));

	*session = made;
	if (!made)
		return error_set(text, -ENOMEM, "out of memory");
	made->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (made->event < 0) {
		free(made);
		return error_set(text, -errno, "eventfd: %s", strerror(errno));
	}
	pthread_mutex_init(&made->mutex, NULL);
	made->open_host = open_host;
	made->guard = guard;
	return 0;
}

int domain_snapshots_open(struct domain_snapshots **session, struct error_text *text)
{
	xenstored_by_socket_only();
	return domain_snapshots_open_with(session, xen_host_open, "xl-snapshot", text);
}

static void say_nothing(void *owner, const struct domain_snapshot_result *result)
{
}

void domain_snapshots_close(struct domain_snapshots *session)
{
	struct domain_snapshot_operation *operation;
	struct pollfd poll_fd = { .fd = session->event, .events = POLLIN };

	for (operation = session->operations; operation; operation = operation->next) {
		operation->callbacks = (struct domain_snapshot_callbacks){ .done = say_nothing };
		domain_snapshots_cancel(operation);
	}
	while (session->operations) {
		poll(&poll_fd, 1, -1);
		domain_snapshots_dispatch(session);
	}
	pthread_mutex_destroy(&session->mutex);
	close(session->event);
	free(session);
}
