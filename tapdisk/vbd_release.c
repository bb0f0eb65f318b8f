/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * vbd_release.c - closes an image whose device or file server may have stopped
 * answering. Nobody but those who asked for the close waits for it.
 *
 *   vbd_release() --> the metadata of a store, by the event loop --> the files, in a thread --> vbd_released()
 *
 * Who waits gives up when no request of the image has been answered for a time: a slow device has the time that it needs.
 *
 * close() of a file waits and cannot be interrupted. The thread and the loop
 * share only a pipe, so the process may end at any time. Without memory the
 * loop waits itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "log.h"
#include "processor.h"
#include "thread.h"
#include "vbd_internal.h"

struct closing {
	struct image_file *files;
	int done;			/* the thread's end of the pipe */
};

static void *close_main(void *arg)
{
	struct closing *closing = arg;

	backend_close_files(closing->files);
	close(closing->done);
	free(closing);
	return NULL;
}

/* Returns a descriptor that is at its end when @files are closed, or -errno: there is no thread. */
static int begin(struct image_file *files)
{
	struct closing *closing = malloc(sizeof(*closing));
	int ends[2], ret = closing ? 0 : -ENOMEM;

	if (!ret && pipe2(ends, O_CLOEXEC))
		ret = -errno;
	if (!ret) {
		*closing = (struct closing){ files, ends[1] };
		processor_leave();
		ret = thread_start(NULL, close_main, closing);
		if (!ret)
			return ends[0];
		close(ends[0]);
		close(ends[1]);
	}
	free(closing);
	return ret;
}

void vbd_close_aside(struct backend *backend)
{
	struct image_file *files = backend_release(backend);
	int end = files ? begin(files) : -ENOENT;

	if (end >= 0)
		close(end);
	else
		backend_close_files(files);
}

bool vbd_is_stuck(const struct vbd *vbd)
{
	return vbd->state == VBD_RELEASING && vbd->release.late;
}

static void released(struct vbd *vbd)
{
	struct vbd_release *release = &vbd->release;
	char *store = release->store;

	loop_remove(release->source);
	loop_remove(release->limit);
	if (release->late)
		log_info("minor %d: %s is closed now", vbd->minor, vbd->target);
	*release = (struct vbd_release){ 0 };
	vbd_released(vbd, store);
}

static void closed(void *arg, uint32_t events)
{
	struct vbd *vbd = arg;

	close(vbd->release.end);
	released(vbd);
}

static void late(struct vbd *vbd)
{
	vbd->release.late = true;
	log_warning("minor %d: %s cannot be closed: its device or file server has not answered for %u seconds", vbd->minor,
		    vbd->target, (vbd->close_limit_ms + 999) / 1000);
	waiter_wake_all(&vbd->waiters, -ETIMEDOUT);
}

/* vbd_release_run() decides: it has seen what was answered. */
static void due(void *arg)
{
	struct vbd *vbd = arg;

	vbd->release.limit = NULL;
	vbd->release.due = true;
}

int vbd_release_limit(struct vbd *vbd)
{
	if (vbd->state != VBD_RELEASING || vbd->release.limit || vbd->release.due || !vbd->close_limit_ms)
		return 0;
	vbd->release.heard = loop_clock();
	return loop_add_timer(vbd->loop, &vbd->release.limit, vbd->close_limit_ms, due, vbd);
}

/* Without memory for a timer there is no limit, until somebody waits again. */
static void note_answers(struct vbd *vbd)
{
	struct vbd_release *release = &vbd->release;

	if (!release->backend || release->answered == release->backend->answered)
		return;
	release->answered = release->backend->answered;
	release->heard = loop_clock();
	if (release->late) {
		release->late = false;
		log_info("minor %d: %s answers again, and is being closed", vbd->minor, vbd->target);
		vbd_release_limit(vbd);
	}
}

static void check_limit(struct vbd *vbd)
{
	struct vbd_release *release = &vbd->release;
	uint64_t silent = (loop_clock() - release->heard) / 1000000;

	release->due = false;
	if (silent >= vbd->close_limit_ms)
		late(vbd);
	else
		loop_add_timer(vbd->loop, &release->limit, vbd->close_limit_ms - (unsigned)silent, due, vbd);
}

static void wait_for(int end)
{
	char byte;

	while (read(end, &byte, 1) < 0 && errno == EINTR)
		;
	close(end);
}

bool vbd_release_run(struct vbd *vbd)
{
	struct vbd_release *release = &vbd->release;
	struct image_file *files;
	bool finished = release->backend && backend_finish(release->backend);

	note_answers(vbd);
	if (release->due)
		check_limit(vbd);
	if (!finished)
		return false;
	files = backend_release(release->backend);
	release->backend = NULL;
	release->end = files ? begin(files) : -ENOENT;
	if (release->end < 0) {
		backend_close_files(files);
		released(vbd);
	} else if (loop_add_fd(vbd->loop, &release->source, release->end, EPOLLIN, closed, vbd)) {
		wait_for(release->end);
		released(vbd);
	}
	return true;
}

void vbd_release(struct vbd *vbd, char *store)
{
	vbd->release = (struct vbd_release){ .backend = vbd->backend, .answered = vbd->backend->answered, .store = store };
	vbd->backend = NULL;
	vbd->state = VBD_RELEASING;
	vbd_release_limit(vbd);		/* without memory for a timer there is none */
}
