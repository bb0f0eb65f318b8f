/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen.c - domain_host for Xen: calls libxenlight, and runs xl to start
 * domains, so that each has xl's process that monitors it.
 *
 * libxl has no hook between "suspended" and "resumed"; libxl_domain_suspend()
 * leaves the domain suspended, and libxl_domain_resume() with suspend_cancel
 * resumes it with its rings unchanged.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <libxl.h>
#include <libxl_utils.h>
#include <xenctrl.h>
#include <xenguest.h>
#include <xenstore.h>

#include "domain.h"
#include "domain_xen_lost.h"

#define CONNECT_STEPS 100		/* of 100 ms */
/*
 * Steps of 100 ms to wait for a guest that may be suspending: it was, or may have been, asked to; it was not. Linux acknowledges
 * immediately, and then freezes its tasks, for which it takes up to 20 s.
 */
#define ASKED_STEPS 300
#define UNASKED_STEPS 10
#define ASKING "suspend request via"	/* libxl's debug message, for event channel and xenstore */

struct xen_logger {
	xentoollog_logger logger;
	struct xen_host *host;
};

struct xen_host {
	struct domain_host host;
	struct xen_logger logger;
	libxl_ctx *ctx;
	struct xs_handle *xs;
	struct xen_watchdog watchdog;
	pthread_mutex_t mutex;
	bool saving;			/* protected by the mutex: libxl runs the save, which may be aborted */
	atomic_bool begun;		/* libxl's helper has reported progress */
	bool saved;			/* this process has run a save, or tried to: then asked is valid */
	atomic_bool asked;		/* the guest was asked to suspend */
	bool emulated;			/* the saved domain has a QEMU, or that is unknown */
	char reason[300];		/* the first error since clear_reason(), which is the most specific */
};

/* Skip the file, line and function at the beginning of libxl's messages. */
static const char *skip_place(const char *message)
{
	const char *dot = strstr(message, ".c:"), *colon = strstr(message, ": ");

	return dot && colon && dot < colon ? colon + 2 : message;
}

static void log_message(xentoollog_logger *logger, xentoollog_level level, int error, const char *context,
			const char *format, va_list args)
{
	struct xen_host *host = ((struct xen_logger *)logger)->host;
	char message[300];

	vsnprintf(message, sizeof(message), format, args);
	if (strstr(message, ASKING))
		atomic_store(&host->asked, true);
	if (level < XTL_ERROR || host->reason[0])
		return;
	message[strcspn(message, "\n")] = '\0';
	snprintf(host->reason, sizeof(host->reason), "%s", skip_place(message));
}

static void log_progress(xentoollog_logger *logger, const char *context, const char *doing, int percent,
			 unsigned long done, unsigned long total)
{
	struct xen_host *host = ((struct xen_logger *)logger)->host;
	struct domain_operation *operation = host->host.operation;

	atomic_store(&host->begun, true);
	if (operation && operation->progress)
		operation->progress(operation, "memory", percent);
}

static void log_destroy(xentoollog_logger *logger)
{
	/* nothing to free: the logger is part of the host */
}

static struct xen_host *to_xen(struct domain_host *host)
{
	struct xen_host *xen = (struct xen_host *)host;

	xen->reason[0] = '\0';
	return xen;
}

#define LOST "xenstored is gone, and this host must be rebooted"

static int failed(struct xen_host *xen, const char *what, struct error_text *text)
{
	if (xen_lost_now(&xen->watchdog))
		return error_set(text, -EIO, "%s failed: " LOST, what);
	return error_set(text, -EIO, "%s failed%s%s", what, xen->reason[0] ? ": " : "", xen->reason);
}

/* ---- domains ---- */

static void fill_id(struct xen_host *xen, const libxl_dominfo *info, struct domain_id *id)
{
	char *name = libxl_domid_to_name(xen->ctx, info->domid);

	*id = (struct domain_id){ .domid = info->domid, .there = true };
	snprintf(id->name, sizeof(id->name), "%s", name ? name : "");
	snprintf(id->uuid, sizeof(id->uuid), LIBXL_UUID_FMT, LIBXL_UUID_BYTES(info->uuid));
	free(name);
}

/* Compares number, name and uuid. */
static bool is_meant(const struct domain_id *id, const char *domain)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", id->domid);
	return !strcmp(domain, number) || !strcmp(domain, id->name) || !strcasecmp(domain, id->uuid);
}

static int xen_find(struct domain_host *host, const char *domain, struct domain_id *id, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	libxl_dominfo *list;
	bool found = false;
	int count, i;

	list = libxl_list_domain(xen->ctx, &count);
	if (!list)
		return failed(xen, "listing the domains", text);
	for (i = 0; i < count && !found; i++) {
		if (list[i].dying || !list[i].domid)
			continue;
		fill_id(xen, &list[i], id);
		found = is_meant(id, domain);
	}
	libxl_dominfo_list_free(list, count);
	if (!found && xen_lost_now(&xen->watchdog))	/* xenstored has the names */
		return failed(xen, "looking for the domain", text);
	return found ? 0 : error_set(text, -ENOENT, "there is no domain '%s'", domain);
}

static int xen_config(struct domain_host *host, unsigned domid, char **config, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	libxl_domain_config domain;
	int rc;

	*config = NULL;
	libxl_domain_config_init(&domain);
	rc = libxl_retrieve_domain_configuration(xen->ctx, domid, &domain, NULL);
	if (!rc) {
		domain.c_info.domid = 0;	/* the restore chooses a number */
		*config = libxl_domain_config_to_json(xen->ctx, &domain);
	}
	libxl_domain_config_dispose(&domain);
	return *config ? 0 : failed(xen, "asking for the domain's configuration", text);
}

static int xen_info(struct xen_host *xen, unsigned domid, libxl_dominfo *info, struct error_text *text)
{
	libxl_dominfo_init(info);
	return libxl_domain_info(xen->ctx, info, domid) ? failed(xen, "asking about the domain", text) : 0;
}

static bool is_suspended(const libxl_dominfo *info)
{
	return info->shutdown && info->shutdown_reason == LIBXL_SHUTDOWN_REASON_SUSPEND;
}

/* ---- memory ---- */

static int check_live(struct xen_host *xen, const libxl_dominfo *info, struct error_text *text)
{
	libxl_physinfo host;
	bool shadow;
	int error = 0;

	if (info->domain_type != LIBXL_DOMAIN_TYPE_PV)
		return 0;
	libxl_physinfo_init(&host);
	if (libxl_get_physinfo(xen->ctx, &host))
		error = failed(xen, "asking about the host", text);
	shadow = host.cap_shadow;
	libxl_physinfo_dispose(&host);
	if (!error && !shadow)
		error = error_set(text, -EOPNOTSUPP, "the memory of a PV domain cannot be copied while it runs, because this "
				  "Xen was built without shadow paging; leave out --live (the domain is then suspended while "
				  "it is saved)");
	return error;
}

/* Is a disk's frontend not Connected yet (xenbus states 1 to 3)? */
static bool is_connecting(struct xen_host *xen, unsigned domid)
{
	char directory[64], path[128], **names, *state;
	unsigned count = 0, i;
	bool connecting = false;

	snprintf(directory, sizeof(directory), "/local/domain/%u/device/vbd", domid);
	names = xs_directory(xen->xs, XBT_NULL, directory, &count);
	for (i = 0; names && i < count; i++) {
		snprintf(path, sizeof(path), "%s/%.16s/state", directory, names[i]);
		state = xs_read(xen->xs, XBT_NULL, path, NULL);
		connecting |= state && *state >= '1' && *state <= '3' && !state[1];
		free(state);
	}
	free(names);
	return connecting;
}

/*
 * Linux's blkfront hits a BUG() at the restore if it was saved before it had
 * reconnected after an earlier restore. For a disk that its guest never
 * connects, as an HVM guest may do, this waits until it times out.
 */
static void wait_connected(struct xen_host *xen, unsigned domid)
{
	for (unsigned i = 0; i < CONNECT_STEPS && is_connecting(xen, domid); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
}

/* libxl's dominfo calls a PVH domain HVM. */
static bool is_emulated(struct xen_host *xen, unsigned domid)
{
	char path[64], *type;
	bool emulated;

	snprintf(path, sizeof(path), "/libxl/%u/type", domid);
	type = xs_read(xen->xs, XBT_NULL, path, NULL);
	emulated = !type || !strcmp(type, "hvm");
	free(type);
	return emulated;
}

static int xen_can_save(struct domain_host *host, unsigned domid, bool live, uint64_t *bytes, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	libxl_dominfo info;
	int error = xen_info(xen, domid, &info, text);

	if (!error && info.shutdown)
		error = error_set(text, -EINVAL, "the domain has shut down or crashed, so its memory cannot be saved; use "
				  "--disk-only");
	if (!error && info.paused)
		error = error_set(text, -EINVAL, "the domain is paused, so it cannot suspend: unpause it, or use --disk-only");
	if (!error && live)
		error = check_live(xen, &info, text);
	if (!error)
		wait_connected(xen, domid);
	xen->emulated = is_emulated(xen, domid);
	*bytes = (info.current_memkb << 10) + (16u << 20);
	libxl_dominfo_dispose(&info);
	return error;
}

static void set_saving(struct xen_host *xen, bool saving)
{
	pthread_mutex_lock(&xen->mutex);
	xen->saving = saving;
	pthread_mutex_unlock(&xen->mutex);
}

static int xen_save(struct domain_host *host, unsigned domid, int fd, bool live, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	int rc;

	atomic_store(&xen->begun, false);
	atomic_store(&xen->asked, false);
	xen->saved = true;
	set_saving(xen, true);
	rc = xen_lost(&xen->watchdog) ? ERROR_FAIL : libxl_domain_suspend(xen->ctx, domid, fd, live ? LIBXL_SUSPEND_LIVE : 0, NULL);
	set_saving(xen, false);
	if (rc && xen_lost_now(&xen->watchdog))
		return error_set(text, -EIO, LOST);
	if (rc)
		return error_set(text, -EIO, "%s", xen->reason[0] ? xen->reason : "the domain did not suspend; see the logs of libxl");
	return 0;
}

/* Withdraw a suspend request. True: the guest had not seen it, and never will. */
static int take_back_suspend(struct xen_host *xen, unsigned domid)
{
	char path[64], *value;
	bool there, done = false;

	snprintf(path, sizeof(path), "/local/domain/%u/control/shutdown", domid);
	while (!done) {
		xs_transaction_t transaction = xs_transaction_start(xen->xs);

		if (!transaction)
			return 0;
		value = xs_read(xen->xs, transaction, path, NULL);
		there = value && !strcmp(value, "suspend") && xs_write(xen->xs, transaction, path, "", 0);
		free(value);
		done = xs_transaction_end(xen->xs, transaction, !there);
		if (!done && errno != EAGAIN)
			return 0;
	}
	return there;
}

static unsigned settle_steps(const struct xen_host *xen)
{
	return !xen->saved || xen->asked ? ASKED_STEPS : UNASKED_STEPS;
}

/*
 * After a killed save() the guest may have been asked to suspend, and be about to. If it did so after our check, it would stay
 * suspended for ever: so withdraw the request, or wait.
 */
static int wait_suspended(struct xen_host *xen, unsigned domid, libxl_dominfo *info, struct error_text *text)
{
	int error = xen_info(xen, domid, info, text);

	if (error || is_suspended(info) || take_back_suspend(xen, domid))
		return error;
	for (unsigned i = 0; !error && i < settle_steps(xen) && !is_suspended(info); i++) {
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
		libxl_dominfo_dispose(info);
		error = xen_info(xen, domid, info, text);
	}
	return error;
}

/* Resume with libxc alone: when xenstore does not answer, libxl assumes that a PVH domain has a QEMU. */
static bool resume_without_xenstored(unsigned domid)
{
	xc_interface *xc = xc_interface_open(NULL, NULL, 0);
	bool resumed = xc && !xc_domain_resume(xc, domid, 1);

	if (xc)
		xc_interface_close(xc);
	return resumed;
}

/* A PV or PVH domain can resume without xenstored; the QEMU of an HVM domain is found through xenstored. */
static int resume_suspended(struct xen_host *xen, unsigned domid, struct error_text *text)
{
	bool failure = libxl_domain_resume(xen->ctx, domid, 1, NULL);
	libxl_dominfo info;

	if (failure && xen_lost_now(&xen->watchdog) && !xen_info(xen, domid, &info, NULL)) {
		failure = is_suspended(&info) && (xen->emulated || !resume_without_xenstored(domid));
		libxl_dominfo_dispose(&info);
		if (!failure)
			error_set(text, 0, LOST);
	}
	return failure ? failed(xen, "resuming the domain", text) : 0;
}

static int xen_resume(struct domain_host *host, unsigned domid, bool paused, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	libxl_dominfo info;
	int error = paused ? xen_info(xen, domid, &info, text) : wait_suspended(xen, domid, &info, text);

	/* Xen counts pauses, and one unpause must be enough */
	if (!error && paused && !info.paused && libxl_domain_pause(xen->ctx, domid, NULL))
		error = failed(xen, "pausing the domain", text);
	if (!error && is_suspended(&info))
		error = resume_suspended(xen, domid, text);
	if (!error && !paused && info.paused && libxl_domain_unpause(xen->ctx, domid, NULL))
		error = failed(xen, "unpausing the domain", text);
	libxl_dominfo_dispose(&info);
	return error;
}

static int xen_unpause(struct domain_host *host, unsigned domid, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	libxl_dominfo info;
	int error = xen_info(xen, domid, &info, text);

	if (!error && info.paused && libxl_domain_unpause(xen->ctx, domid, NULL))
		error = failed(xen, "unpausing the domain", text);
	libxl_dominfo_dispose(&info);
	return error;
}

/*
 * Called on another thread. Before its helper runs libxl must not be aborted: it would dereference a NULL pointer. Only a save
 * is aborted; other operations of libxl run to their end.
 */
static void abort_save(void *owner)
{
	struct xen_host *xen = owner;

	pthread_mutex_lock(&xen->mutex);
	if (xen->saving && xen->begun)
		libxl_ao_abort(xen->ctx, NULL);
	pthread_mutex_unlock(&xen->mutex);
}

static void xen_abort(struct domain_host *host)
{
	xen_watchdog_bark(&((struct xen_host *)host)->watchdog);
}

/* ---- destroying and starting ---- */

static bool is_paused(struct xen_host *xen, unsigned domid)
{
	libxl_dominfo info;
	bool paused;

	if (xen_info(xen, domid, &info, NULL))
		return false;
	paused = info.paused;
	libxl_dominfo_dispose(&info);
	return paused;
}

/* libxl first pauses the domain; without xenstored it fails soon after that, so unpause it. */
static int xen_destroy(struct domain_host *host, unsigned domid, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	bool paused = is_paused(xen, domid), lost = xen_lost(&xen->watchdog), begun;
	int error;

	if (!lost && !libxl_domain_destroy(xen->ctx, domid, NULL))
		return 0;
	begun = !lost && is_paused(xen, domid);
	error = failed(xen, "destroying the domain", text);
	if (begun && !paused && xen_lost_now(&xen->watchdog))
		libxl_domain_unpause(xen->ctx, domid, NULL);
	return begun ? -EINPROGRESS : error;
}

/* If xenstored is lost, report that instead of xl's error. @started: xl's result; without an error @reason is a warning. */
static int judge_start(struct xen_host *xen, int started, const struct error_text *reason, struct error_text *text)
{
	if (started && xen_lost_now(&xen->watchdog))
		return failed(xen, "starting the domain", text);
	if (reason->text[0])	/* also a warning */
		error_set(text, started, "%s", reason->text);
	return started;
}

static int xen_restore(struct domain_host *host, const char *file, bool paused, struct error_text *text)
{
	const char *const arguments[] = { "xl", "restore", paused ? "-p" : file, paused ? file : NULL, NULL };
	struct xen_host *xen = to_xen(host);
	struct error_text reason = { "" };
	int started = xen_lost(&xen->watchdog) ? -EIO : xl_run(host->operation, arguments, &reason);

	return judge_start(xen, started, &reason, text);
}

static int xen_start(struct domain_host *host, const json_t *info, bool paused, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	struct error_text reason = { "" };
	int started = xen_lost(&xen->watchdog) ? -EIO : xen_boot(host->operation, info, paused, &reason);

	return judge_start(xen, started, &reason, text);
}

/* libxl stores the configuration last, and xl then unpauses the domain. */
static bool xen_is_built(struct domain_host *host, unsigned domid)
{
	struct xen_host *xen = to_xen(host);
	uint8_t *config = NULL;
	bool built;

	built = !is_paused(xen, domid) || libxl_userdata_retrieve(xen->ctx, domid, "libxl-json", &config, NULL) || config;
	free(config);
	return built;
}

static int xen_disks(struct domain_host *host, unsigned domid, struct domain_disks *disks, struct error_text *text)
{
	struct xen_host *xen = to_xen(host);
	int error = xen_read_disks(xen->xs, xen->ctx, domid, disks, text);

	if (!xen_lost_now(&xen->watchdog))
		return error;
	/* "not found" is not reliable then */
	if (text)
		text->text[0] = '\0';
	return failed(xen, "looking for the domain's disks", text);
}

/* Without this handler libxl ends the process when its connection is dead. */
static void on_disaster(void *owner, libxl_event_type type, const char *message, int error)
{
	/* nothing to do: libxl's call fails, and that is reported */
}

static void xen_close(struct domain_host *host)
{
	struct xen_host *xen = to_xen(host);

	xen_watchdog_stop(&xen->watchdog);
	if (xen->xs)
		xs_close(xen->xs);
	if (xen->ctx)
		libxl_ctx_free(xen->ctx);
	pthread_mutex_destroy(&xen->mutex);
	free(xen);
}

static const struct domain_host_ops xen_ops = {
	.find = xen_find, .config = xen_config, .read_config = xen_read_config, .disks = xen_disks, .can_save = xen_can_save,
	.save = xen_save, .resume = xen_resume, .unpause = xen_unpause, .destroy = xen_destroy, .restore = xen_restore,
	.is_built = xen_is_built, .can_boot = xen_can_boot, .boot = xen_start,
	.abort = xen_abort, .close = xen_close,
};

int xen_host_open(struct domain_host **host, struct error_text *text)
{
	/* the process has several contexts, and children that are not libxl's */
	static const libxl_childproc_hooks children = { .chldowner = libxl_sigchld_owner_libxl_always_selective_reap };
	static const libxl_event_hooks events = { .disaster = on_disaster };
	struct xen_host *xen = calloc(1, sizeof(*xen));
	int error = 0;

	if (!xen)
		return error_set(text, -ENOMEM, "out of memory");
	pthread_mutex_init(&xen->mutex, NULL);
	xen->host.ops = &xen_ops;
	xen->logger = (struct xen_logger){ { log_message, log_progress, log_destroy }, xen };
	xen->watchdog.fd = xen->watchdog.event = -1;
	xen->emulated = true;
	error = xen_watchdog_start(&xen->watchdog, abort_save, xen, text);
	xen->xs = error ? NULL : xs_open(0);
	if (!error && !xen->xs)
		error = error_set(text, -errno, "cannot reach xenstored: %s; is this a Xen host?", strerror(errno));
	if (!error && libxl_ctx_alloc(&xen->ctx, LIBXL_VERSION, 0, &xen->logger.logger))
		error = failed(xen, "setting up libxenlight", text);
	if (error) {
		xen_close(&xen->host);
		return error;
	}
	libxl_childproc_setmode(xen->ctx, &children, NULL);
	libxl_event_register_callbacks(xen->ctx, &events, NULL);
	*host = &xen->host;
	return 0;
}
