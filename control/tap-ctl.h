/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl.h - what the commands of tap-ctl share.
 *
 * A command is two functions: run() does it and fills a JSON object, print()
 * turns that object into text. With --json the object itself is printed, so
 * a machine can have the result of every command.
 */
#ifndef TAPSNAP_TAP_CTL_H
#define TAPSNAP_TAP_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "client_disk.h"
#include "client_interrupt.h"

struct arguments {
	int pid, minor;			/* -1: not given */
	struct tapctl_disk *disks;	/* each -p with a -m, of commands that take many */
	unsigned nr_disks;
	const char *domain;		/* all of its disks instead */
	const char *name, *description;	/* of a snapshot */
	const char *store;		/* the directory for the stores of all raw disks; NULL: none */
	unsigned lease_ms;		/* 0: the default */
	const char *overlay;		/* directory for what the clients of an export write; NULL: they write to the disk */
	const char *tls_x509, *tls_psk;	/* directories with credentials; NULL: no TLS */
	bool tls_verify;
	const char *target;		/* TYPE:PATH, the path absolute */
	char *made_target;		/* what options_free() frees of it */
	const char *type, *file;	/* filters of list */
	int timeout_ms;			/* -1: wait for ever */
	bool read_only, no_direct, force, json;
	bool beside_qemu;		/* the guest's QEMU opens the image, too */
	bool cancel, no_wait;		/* of a commit */
	uint64_t size;			/* bytes; 0: not given */
	int64_t iops, bytes;		/* limits; 0: none, -1: not given */
	int burst_ms;			/* 0: not given */
	int64_t rate;			/* bytes a second, 0: no limit; -1: not given */
	int sector_size;		/* bytes; 0: the default */
	int cache_mib;			/* 0: the default */
	const char *on_error;		/* "report", "enospc", "stop"; NULL: not given */
	const char *wait_for;		/* the event; NULL: all */
	char **words;			/* arguments that are no options */
	int nr_words;
};

struct command {
	const char *name;
	const char *options;		/* letters of the options it knows */
	const char *required;		/* letters of those that must be given */
	const char *words;		/* its other arguments, for the usage; "" for none */
	int nr_words;
	bool prints_itself;		/* run() prints, what comes bit by bit */
	bool many;			/* -p and -m may be given several times, or -o instead */
	const char *summary;
	int (*run)(const struct arguments *args, json_t *result, struct error_text *text);
	/* NULL: prints nothing. @terminal: for a person. */
	void (*print)(const json_t *result, bool terminal);
	/* NULL: 0. The exit status of a command that was done. */
	int (*status)(const json_t *result);
};

extern const struct command command_list, command_allocate, command_free, command_spawn, command_attach,
	command_detach, command_open, command_close, command_pause, command_unpause, command_resize, command_throttle, command_info,
	command_stats, command_create, command_destroy, command_xen_attach, command_xen_detach, command_snapshot_create,
	command_snapshot_list, command_snapshot_delete, command_snapshot_revert, command_commit,
	command_export, command_unexport, command_on_error, command_resume, command_events, command_takeover, command_upgrade,
	command_doctor;

/* tap-ctl-options.c. A mistake ends the program with EINVAL and says what it was. */
void options_parse(const struct command *command, struct arguments *args, int argc, char **argv);
void options_free(struct arguments *args);

/* tap-ctl-call.c: send @request, which may be NULL for want of memory, and add the members of the reply to @result. */
int call_into(const struct arguments *args, json_t *request, json_t *result, struct error_text *text);
/* How @args want a disk to be opened. */
struct disk_options call_disk_options(const struct arguments *args);

/* tap-ctl-print.c: print the object `disk` of @result for a person. */
void print_disk(const json_t *result, bool terminal);
/* Words for state bits: "running", "paused", ... */
const char *print_state_name(unsigned state);
/* "12.5 GiB" */
void print_size(char *buffer, size_t size, json_int_t sectors);

/* tap-ctl-domain.c: the disks of a domain that a tapdisk serves and the domain may write. *@disks is the caller's. */
int domain_disks(const char *domain, struct tapctl_disk **disks, unsigned *count, struct error_text *text);

/* tap-ctl-listen.c: *@name is @address in full, the caller's whether it works or not. undo also removes the socket's name. */
int listen_at(const char *address, int *fd, char **name, struct error_text *text);
void listen_undo(int fd, const char *name);

/* tap-ctl-tls.c: TLS for clients that connect to @listener, in front of the Unix socket @server. It ends when that is removed. */
int tls_start(const struct arguments *args, int listener, const char *server, struct error_text *text);

/* tap-ctl-qemu-share.c: called from a hotplug script, for a disk whose image the guest's QEMU will open itself */
bool qemu_shares_image(const char *target);

/* tap-ctl-vdev.c: xvda, sdb1, hdc, d0p0 or a number, to the devid of xen-vbd-interface(7). 0 or -EINVAL. */
int vdev_parse(const char *vdev, unsigned *devid, struct error_text *text);

#endif
