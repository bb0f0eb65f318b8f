/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl.h - shared by the commands of tap-ctl.
 *
 * A command is two functions: run() does it and fills a JSON object, print()
 * turns that object into text. With --json the object itself is printed, so
 * programs can parse the result of every command.
 */
#ifndef TAPSNAP_TAP_CTL_H
#define TAPSNAP_TAP_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <jansson.h>

#include "client_disk.h"
#include "client_interrupt.h"

struct command;
struct arguments {
	const struct command *command;
	int pid, minor;			/* -1: not given */
	struct tapctl_disk *disks;	/* one for each pair of -p and -m, of commands that take many */
	unsigned nr_disks;
	const char *domain;		/* all of its disks instead */
	const char *name, *description;	/* of a snapshot */
	const char *store;		/* the directory for the stores of all raw disks; NULL: none */
	int lease_ms;			/* 0: the default */
	const char *overlay;		/* directory for the overlay with an export's writes; NULL: they go to the disk */
	const char *tls_x509, *tls_psk;	/* directories with credentials; NULL: no TLS */
	bool tls_verify;
	const char *target;		/* TYPE:PATH, the path absolute */
	char *made_target;		/* target's memory, for options_free(); NULL: not allocated */
	const char *type, *file;	/* filters of list */
	int timeout_ms;			/* -1: no timeout */
	bool read_only, no_direct, force, json, all;
	bool beside_qemu;		/* the guest's QEMU opens the image, too */
	bool cancel, no_wait;		/* of a commit */
	int64_t size;			/* bytes; 0: not given */
	int iops;			/* requests per second; 0: no limit, -1: not given */
	int64_t bytes;			/* per second; the same */
	int burst_ms;			/* 0: not given */
	int rate_mib;			/* per second; 0: no limit, -1: not given */
	int sector_size;		/* bytes; 0: the default */
	int cache_mib;			/* 0: the default */
	const char *on_error;		/* "report", "enospc", "stop"; NULL: not given */
	const char *wait_for;		/* an event's name; NULL: all */
	char **words;			/* arguments that are not options */
	int nr_words;
};

struct command {
	const char *name;
	const char *options;		/* letters of its options */
	const char *required;		/* letters of the required ones */
	const char *words;		/* its other arguments, for the usage; "": none */
	int nr_words;
	bool prints_itself;		/* run() prints as results arrive */
	bool many;			/* takes several pairs of -p and -m, or -o instead */
	const char *summary;
	int (*run)(const struct arguments *args, json_t *result, struct error_text *text);
	/* NULL: prints nothing. @terminal: format for a person. */
	void (*print)(const json_t *result, bool terminal);
	/* The exit status after run() succeeded. NULL: 0. */
	int (*status)(const json_t *result);
};

extern const struct command command_list, command_allocate, command_free, command_spawn, command_attach,
	command_detach, command_open, command_close, command_pause, command_unpause, command_resize, command_throttle, command_info,
	command_stats, command_create, command_destroy, command_xen_attach, command_xen_detach, command_snapshot_create,
	command_snapshot_list, command_snapshot_delete, command_snapshot_revert, command_commit,
	command_export, command_unexport, command_on_error, command_resume, command_events, command_takeover, command_upgrade,
	command_doctor;

/* tap-ctl-options.c. A usage error prints a message and ends the program with EINVAL. */
void options_parse(const struct command *command, struct arguments *args, int argc, char **argv);
void options_free(struct arguments *args);

/* tap-ctl-call.c: send @request (taken over; NULL is -EINVAL) and add the members of the reply to @result. */
int call_into(const struct arguments *args, json_t *request, json_t *result, struct error_text *text);
/* The disk options of @args. */
struct disk_options call_disk_options(const struct arguments *args);

/* tap-ctl-print.c: print the object `disk` of @result for a person. */
void print_disk(const json_t *result, bool terminal);
/* The name of state bits: "running", "paused", ... */
const char *print_state_name(unsigned state);
/* "12.5 GiB" */
void print_size(char *buffer, size_t size, json_int_t sectors);

/* tap-ctl-domain.c: the disks that the domain may write and a tapdisk serves. The caller frees *@disks. */
int domain_disks(const char *domain, struct tapctl_disk **disks, unsigned *count, struct error_text *text);

/* tap-ctl-listen.c: *@name is @address in full; the caller frees it, also on failure. undo also unlinks the socket. */
int listen_at(const char *address, int *fd, char **name, struct error_text *text);
void listen_undo(int fd, const char *name);

/* tap-ctl-tls.c: start a TLS proxy from @listener to the Unix socket @server. It ends when @server is removed. */
int tls_start(const struct arguments *args, int listener, const char *server, struct error_text *text);

/* tap-ctl-qemu-share.c: are we called by a hotplug script, for a disk whose image the guest's QEMU will open, too? */
bool qemu_shares_image(const char *target);

/* tap-ctl-vdev.c: convert xvda, sdb1, hdc, d0p0 or a number to the devid of xen-vbd-interface(7). 0 or -EINVAL. */
int vdev_parse(const char *vdev, unsigned *devid, struct error_text *text);

#endif
