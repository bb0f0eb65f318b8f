/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain.h - what the files of domain snapshots share.
 *
 *   domain_queue.c    operations, each on its thread, and their completion
 *   domain_create.c domain_query.c domain_revert.c domain_delete.c domain_clone.c   the operations
 *   domain_recover.c  what a killed one has left
 *   domain_directory.c  a domain's directory: files that are whole or not there, the lock
 *   domain_info.c     information files, and the tree they make
 *   domain_disks.c    the disks at their tapdisks
 *   domain_locate.c   which domain is meant
 *   domain_save.c     the head of a save file
 *   domain_config.c   a config file for xl out of libxl's JSON
 *   domain_device.c   a disk's snapshot as libxl's disk (domain-snapshot-libxl.h)
 *   domain_program.c  programs that an operation runs: xl, tap-img, hooks, the guard
 *   domain_xen*.c     the host, by libxenlight and xenstore; tests have another
 *
 * Invariants:
 *  1. Before an operation changes anything, an intent file says what it is
 *     about to do; it is removed when all is done, or all undone. Whoever
 *     takes the lock and finds one ends that operation first.
 *  2. An information file is there exactly when its snapshot is whole.
 */
#ifndef TAPSNAP_DOMAIN_H
#define TAPSNAP_DOMAIN_H

#include <dirent.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <jansson.h>

#include "domain-snapshot.h"
#include "tapctl.h"

#define DOMAIN_UUID_SIZE 37		/* with its NUL */
#define DOMAIN_NAME_SIZE 256
#define SNAPSHOT_NAME_MAX 200		/* of a file name of 255 */
#define INTENT_FILE "intent.xl"
#define STATE_FILE "domain.xl"

struct domain_id {
	char uuid[DOMAIN_UUID_SIZE];
	char name[DOMAIN_NAME_SIZE];
	unsigned domid;
	bool there;			/* false: it is shut off, and domid means nothing */
};

/* A disk, and where it is served. */
struct domain_disk {
	char vdev[32];
	char *target;			/* TYPE:PATH; NULL: no tapdisk serves it */
	char *moved;			/* of a raw disk: the store that it is in, by disks_find_stores(); NULL: none */
	bool writable;
	bool configured;		/* libxl knows it, so `xl restore` brings it back */
	bool skip;
	const char *store;		/* where its store is to be made, of a raw disk; not its own */
	int pid, minor;			/* -1: not open */
	bool opened;			/* by us */
	json_int_t id, time, sectors;	/* of the snapshot */
	bool read;			/* somebody has the snapshot open */
};

struct domain_disks {
	struct domain_disk *disk;
	unsigned count;
	bool give_up;			/* one that cannot be opened or told is left out, and the text says which */
	bool adopt;			/* what somebody has opened who was killed is closed as if we had */
};

/* What is asked of the toolstack. All calls wait. 0 or -errno with @text. */
struct domain_host;
struct domain_host_ops {
	/* @domain: name, number or uuid. -ENOENT: no such domain. */
	int (*find)(struct domain_host *host, const char *domain, struct domain_id *id, struct error_text *text);
	/* libxl's JSON of its configuration, to be freed */
	int (*config)(struct domain_host *host, unsigned domid, char **config, struct error_text *text);
	/* The same out of a config file, as far as snapshots of disks need it; @id without domid */
	int (*read_config)(struct domain_host *host, const char *path, struct domain_id *id, char **config,
			   struct error_text *text);
	/* All that it can write, by the backends' nodes. */
	int (*disks)(struct domain_host *host, unsigned domid, struct domain_disks *disks, struct error_text *text);
	/* Whether save() can work; *@bytes is about what it writes. */
	int (*can_save)(struct domain_host *host, unsigned domid, bool live, uint64_t *bytes, struct error_text *text);
	/* Memory to @fd; on success the domain stands still. */
	int (*save)(struct domain_host *host, unsigned domid, int fd, bool live, struct error_text *text);
	/* It goes on, or stays paused, when it stood still for save(); also when that save() was cut short anywhere. */
	int (*resume)(struct domain_host *host, unsigned domid, bool paused, struct error_text *text);
	/* It runs, if it was paused; not for one that save() has stopped. */
	int (*unpause)(struct domain_host *host, unsigned domid, struct error_text *text);
	/* When it returns its disks are not in use any more. */
	int (*destroy)(struct domain_host *host, unsigned domid, struct error_text *text);
	int (*restore)(struct domain_host *host, const char *file, bool paused, struct error_text *text);
	/* Whether boot() can work, as far as that can be told before. */
	int (*can_boot)(struct domain_host *host, const json_t *info, struct error_text *text);
	/* Boot what an information file is of. */
	int (*boot)(struct domain_host *host, const json_t *info, bool paused, struct error_text *text);
	/* From another thread: make save() fail soon. */
	void (*abort)(struct domain_host *host);
	void (*close)(struct domain_host *host);
};

struct domain_operation;
struct domain_host {
	const struct domain_host_ops *ops;
	struct domain_operation *operation;	/* to be told of progress */
};

struct domain_operation {
	const struct domain_snapshot_request *request;
	struct domain_host *host;
	const char *guard;		/* the program that ends the operation when we are killed; NULL: none */
	struct error_text text;		/* why it failed; or a warning */
	atomic_bool cancelled;
	bool adopts;			/* another one's operation is being ended, and the domain is off: whose are open disks? */
	void (*progress)(struct domain_operation *operation, const char *step, int percent);

	/* Out. */
	struct domain_id id;
	json_t *infos;			/* array of information files */
	char *current;			/* name; NULL: none */
	double disks_us, stopped_us;
	char *clone;
	bool clone_has_memory;
};

/* ---- domain_directory.c ---- */

struct domain_directory {
	char path[PATH_MAX];
	char uuid[DOMAIN_UUID_SIZE];
	int fd, lock;			/* -1: none */
};

/* The directory of all, from the environment or the default. */
const char *directory_root(void);
/* -ENOENT when it is not there and @make is not set. */
int directory_open(struct domain_directory *directory, const char *uuid, bool make, struct error_text *text);
void directory_close(struct domain_directory *directory);
/* -EBUSY when somebody else has it for longer than @wait_ms; -ESTALE: the directory was removed meanwhile, open it again. */
int directory_lock(struct domain_directory *directory, int wait_ms, struct error_text *text);
void directory_unlock(struct domain_directory *directory);
/* -ENOENT: there is no such file. */
int directory_read(const struct domain_directory *directory, const char *file, json_t **value, struct error_text *text);
/* All of it or what was there before; durable. On failure it may be there, and not be durable. */
int directory_write(const struct domain_directory *directory, const char *file, const json_t *value, struct error_text *text);
/* Durable; a file that is not there is no error. */
int directory_remove(const struct domain_directory *directory, const char *file, struct error_text *text);
/* A rename, durable. */
int directory_rename(const struct domain_directory *directory, const char *from, const char *to, struct error_text *text);
/* What is in it, to be read and closed; NULL: it was removed since it was opened. */
int directory_entries(const struct domain_directory *directory, DIR **dir, struct error_text *text);
/* "DIRECTORY/FILE" */
int directory_path(const struct domain_directory *directory, const char *file, char *path, struct error_text *text);
/* Calls @each for each directory's uuid until it returns non-zero. */
int directory_each(int (*each)(const char *uuid, void *owner), void *owner);
/* Nothing is left in it: it goes, too. */
void directory_remove_empty(const struct domain_directory *directory);

/* ---- domain_info.c ---- */

bool info_name_valid(const char *name);
/* "snapshotdata-NAME.xl", "NAME.save", "NAME.save.part" */
void info_file(char *file, const char *name);
void info_save_file(char *file, const char *name, bool partial);
/* A file's content; -EBADMSG when it is none of ours. */
int info_read(const struct domain_directory *directory, const char *name, json_t **info, struct error_text *text);
/* All but those that are damaged, oldest first. @damaged, which may be NULL, names one of these. */
int info_read_all(const struct domain_directory *directory, json_t **infos, struct error_text *damaged, struct error_text *text);
const json_t *info_find(const json_t *infos, const char *name);
const char *info_string(const json_t *info, const char *key);	/* NULL: none */
/* What the domain was last at, to be freed; NULL: nothing. */
char *info_current(const struct domain_directory *directory);
/* The one that the request names, or that the domain is at: its name, the caller's; its information. */
int info_choose_name(struct domain_operation *operation, const struct domain_directory *directory, char **name);
int info_find_named(struct domain_operation *operation, const struct domain_directory *directory, json_t **info);
int info_set_current(const struct domain_directory *directory, const struct domain_id *id, const char *name,
		     struct error_text *text);
/* The typed form, which points into @infos; free() it. */
struct domain_snapshot *info_typed(const json_t *infos, const char *current);

/* ---- domain_disks.c ---- */

/* By what a configuration says; @config is libxl's JSON. */
int disks_from_config(struct domain_disks *disks, const json_t *config, struct error_text *text);
/* By an information file. */
int disks_from_info(struct domain_disks *disks, const json_t *info, struct error_text *text);
int disks_append(struct domain_disks *disks, const struct domain_disk *disk);
struct domain_disk *disks_find(const struct domain_disks *disks, const char *vdev);
void disks_free(struct domain_disks *disks);
/* Each is served by a tapdisk: the one that does already, or a new one. */
int disks_open(struct domain_disks *disks, struct error_text *text);
/* -EBUSY: a domain or a client of NBD has one, which nobody is to have while they go back. */
int disks_check_unused(const struct domain_disks *disks, struct error_text *text);
/* Those that disks_open() has opened. */
void disks_close(struct domain_disks *disks);
/* Of each that is open: what the tapdisk has followed its target to. */
int disks_find_stores(struct domain_disks *disks, struct error_text *text);
/* What has its snapshots: "cow" and a store's path, or what its target says. */
const char *disk_file(const struct domain_disk *disk);
/* A raw disk leaves its store again, if it is in one and has no snapshot there: back to its image. It may be used meanwhile. */
int disk_move_back(const struct domain_disk *disk, struct error_text *text);
/* 1 and its id and time: it has a snapshot of that name; 0: it has none. */
int disk_has_snapshot(struct domain_disk *disk, const char *name, struct error_text *text);
/* Each has the one that its information file is of, by id and time: one of that name that was taken later is another moment. */
int disks_check_snapshot(struct domain_disks *disks, const char *name, struct error_text *text);
/* -EBUSY: of one that would be deleted, because somebody reads it. */
int disks_check_closed(const struct domain_disks *disks, const char *name, struct error_text *text);
/* The snapshot goes wherever it is, if it is not older than @since. */
int disks_delete_snapshot(struct domain_disks *disks, const char *name, json_int_t since, struct error_text *text);
/* @owner: the domain's uuid, by which the records of what was decided can be forgotten (tapctl_records_forget()). */
int disks_revert(struct domain_disks *disks, const char *name, const char *owner, struct error_text *text);

/* A snapshot of all that are not left out. */
struct disks_snapshot {
	struct tapctl_snapshot snapshot;
	struct tapctl_group *group;	/* NULL: of no disk */
};
/* What can be done while they are written; @snapshot->snapshot says what is wanted. */
int disks_snapshot_begin(struct disks_snapshot *snapshot, const struct domain_disks *disks, struct error_text *text);
int disks_snapshot_take(struct disks_snapshot *snapshot, struct error_text *text);
void disks_snapshot_end(struct disks_snapshot *snapshot);
json_t *disks_to_json(const struct domain_disks *disks);

/* ---- domain_locate.c ---- */

/* Which domain the request means. *@config (to be freed) is what its config file says, as far as it goes; NULL: none was named. */
int domain_locate(struct domain_operation *operation, char **config);

/* ---- domain_save.c ---- */

/* The head of a file that `xl restore` reads; libxl's stream follows. */
int save_write_head(int fd, const char *config, struct error_text *text);
/* The configuration in a head, to be freed; @fd is then at the stream. */
int save_read_head(int fd, char **config, struct error_text *text);

/* ---- domain_config.c ---- */

/* A config file for xl out of libxl's JSON; -EOPNOTSUPP names what it has that cannot be said there. Durable but for its name. */
int config_write(const json_t *config, const char *path, struct error_text *text);

/* ---- domain_recover.c ---- */

/* For an intent: which domain it is about. */
json_t *domain_to_json(const struct domain_id *id);
/* Under the lock: ends what an operation has left that was killed. 0: there is nothing left any more. */
int domain_recover(struct domain_operation *operation, const struct domain_directory *directory);
/* The last step of every operation. */
int domain_remove_intent(const struct domain_directory *directory, struct error_text *text);
/* The parts of domain_recover(). @intent is the file's content. */
/* @told: by whoever asked for it, so that a domain which runs is stopped, too, if it was to be. */
int domain_finish_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
			 bool told);
int domain_undo_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);
int domain_finish_revert(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent);
int domain_finish_delete(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);
int domain_end_clone(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);
/* What all operations that change something begin with: open, lock, recover. */
int domain_begin(struct domain_operation *operation, struct domain_directory *directory, bool make);

/* ---- domain_program.c: the guard, which ends the operation when this process is killed ---- */

struct guard {
	int fd;				/* its stdin; -1: none */
	int pid;
};
int guard_start(struct guard *guard, const struct domain_operation *operation, const struct domain_directory *directory,
		struct error_text *text);
/* The guard is not needed any more. */
void guard_stop(struct guard *guard);
/* The guard's own program: waits on stdin, then recovers. An exit status. */
int guard_run(const char *uuid);

/* ---- the operations: 0 or -errno, with operation->text ---- */

int domain_create(struct domain_operation *operation);
int domain_query(struct domain_operation *operation);
int domain_edit(struct domain_operation *operation);
int domain_revert(struct domain_operation *operation);
int domain_delete(struct domain_operation *operation);
int domain_clone(struct domain_operation *operation);
int domain_recover_all(struct domain_operation *operation);

int domain_run(struct domain_operation *operation);
/* -ECANCELED when it is. */
int domain_check_cancelled(struct domain_operation *operation);

/* Of a hook, and the domain's name: a warning. */
#define DOMAIN_FROZEN "the domain is paused, frozen by the hook: run '%s thaw %s' when it is unpaused"
/* @hook with "freeze" or "thaw". -ECANCELED: the operation is cancelled, and it was killed, a thaw after hook_timeout_ms. */
int hook_run(const struct domain_operation *operation, const char *hook, const char *word, const struct domain_id *id,
	     struct error_text *text);
extern int hook_timeout_ms;		/* tests have less */
/* Run a program, to its end; what it says on stderr goes to @text when it fails. */
int program_run(const char *const arguments[], struct error_text *text);

/* ---- domain_xen.c; _disks: the backends' nodes; _config: configurations; _lost: xenstored has gone ---- */

struct xs_handle;
int xen_read_disks(struct xs_handle *xs, unsigned domid, struct domain_disks *disks, struct error_text *text);
int xen_read_config(struct domain_host *host, const char *path, struct domain_id *id, char **config,
		    struct error_text *text);
int xen_can_boot(struct domain_host *host, const json_t *info, struct error_text *text);
int xen_boot(const json_t *info, bool paused, struct error_text *text);
/*
 * When xenstored's socket is dead libxenstore would go by way of the kernel, which has nobody to ask then and lets a
 * request wait for ever. After this, we and our programs do not. It changes the environment: before there are threads.
 */
void xenstored_by_socket_only(void);
int xen_host_open(struct domain_host **host, struct error_text *text);

/* For tests: called with the name of each step that is done. */
extern void (*domain_step)(const char *step);
void domain_did(struct domain_operation *operation, const char *step);

/* One session for tests, with a host of their own. */
int domain_snapshots_open_with(struct domain_snapshots **session,
			       int (*open_host)(struct domain_host **host, struct error_text *text), const char *guard,
			       struct error_text *text);

#endif
