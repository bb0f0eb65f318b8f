/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain.h - what the files of domain snapshots share.
 *
 *   domain_queue.c    operations, each on its thread, and their completion
 *   domain_create.c domain_query.c domain_revert.c domain_delete.c domain_clone.c   the operations
 *   domain_begin.c    their first step: the lock, and the recovery
 *   domain_recover.c  finishes or undoes an operation that was killed
 *   domain_create_end.c domain_revert_end.c domain_delete_end.c   how each ends, in the operation itself or in a recovery
 *   domain_intent.c   the intent file's domain, its destruction, and the intent's end
 *   domain_parts.c    removes the parts of a snapshot
 *   domain_damaged.c  a damaged intent file
 *   domain_directory.c  a domain's directory: atomic writes of files, the lock
 *   domain_info.c     information files, and the tree of snapshots
 *   domain_disks.c    the disks at their tapdisks
 *   domain_locate.c   finds the domain that a request names
 *   domain_save.c     the head of a save file
 *   domain_config.c   writes a config file for xl from libxl's JSON
 *   domain_device.c   a disk's snapshot as libxl's disk (domain-snapshot-libxl.h)
 *   domain_program.c  programs that an operation runs: xl, tap-img, hooks, the guard
 *   domain_xen*.c     the host, by libxenlight and xenstore; tests use a fake one
 *
 * Invariants:
 *  1. Before an operation changes anything, it writes an intent file that says
 *     what it will do, and removes that file when all is done, or all undone.
 *     A process that takes the lock and finds one ends that operation first.
 *  2. An information file exists exactly when its snapshot is complete.
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
#define SNAPSHOT_NAME_MAX 200		/* leaves room in a file name, which has 255 */
#define INTENT_FILE "intent.xl"
#define INTENT_ASIDE "intent.xl.damaged"
#define STATE_FILE "domain.xl"

struct domain_id {
	char uuid[DOMAIN_UUID_SIZE];
	char name[DOMAIN_NAME_SIZE];
	unsigned domid;
	bool there;			/* false: it is shut off, and domid is meaningless */
};

/* A disk, and the tapdisk that serves it. */
struct domain_disk {
	char vdev[32];
	char *target;			/* TYPE:PATH; NULL: no tapdisk serves it */
	char *moved;			/* a raw disk's current store, set by disks_find_stores(); NULL: none */
	bool writable;
	bool configured;		/* libxl knows it, so `xl restore` attaches it again */
	bool skip;
	const char *store;		/* where to create a raw disk's store; borrowed */
	int pid, minor;			/* -1: not open */
	bool opened;			/* by disks_open() */
	json_int_t id, time, sectors;	/* of the snapshot */
	bool read;			/* the snapshot is open */
};

struct domain_disks {
	struct domain_disk *disk;
	unsigned count;
	bool give_up;			/* skip disks that cannot be opened or updated; the text names them */
	bool adopt;			/* close disks that a killed command left open */
};

/* Calls to the toolstack. All of them block. 0 or -errno with @text. */
struct domain_host;
struct domain_host_ops {
	/* @domain: name, number or uuid. -ENOENT: no such domain. */
	int (*find)(struct domain_host *host, const char *domain, struct domain_id *id, struct error_text *text);
	/* *@config: libxl's JSON of its configuration; the caller frees it. */
	int (*config)(struct domain_host *host, unsigned domid, char **config, struct error_text *text);
	/* The same from a config file, only what snapshots of disks need; @id->domid is not set. */
	int (*read_config)(struct domain_host *host, const char *path, struct domain_id *id, char **config,
			   struct error_text *text);
	/* All disks that it can write, from the backends' nodes. */
	int (*disks)(struct domain_host *host, unsigned domid, struct domain_disks *disks, struct error_text *text);
	/* Can save() work? *@bytes estimates how much it writes. */
	int (*can_save)(struct domain_host *host, unsigned domid, bool live, uint64_t *bytes, struct error_text *text);
	/* Write the memory to @fd; on success the domain is left suspended. */
	int (*save)(struct domain_host *host, unsigned domid, int fd, bool live, struct error_text *text);
	/* Resume a domain that save() suspended, or was suspending when it was killed; @paused: leave it paused. */
	int (*resume)(struct domain_host *host, unsigned domid, bool paused, struct error_text *text);
	/* Unpause it if it is paused; not for a domain that save() has suspended. */
	int (*unpause)(struct domain_host *host, unsigned domid, struct error_text *text);
	/* When it returns, the domain's disks are no longer in use. -EINPROGRESS: failed half-way, and it may have lost some. */
	int (*destroy)(struct domain_host *host, unsigned domid, struct error_text *text);
	int (*restore)(struct domain_host *host, const char *file, bool paused, struct error_text *text);
	/* Can boot() work, as far as that is known in advance? */
	int (*can_boot)(struct domain_host *host, const json_t *info, struct error_text *text);
	/* Did its creation come to its end? If not, the program that creates it must have ended. */
	bool (*is_built)(struct domain_host *host, unsigned domid);
	/* Boot the domain that an information file describes. */
	int (*boot)(struct domain_host *host, const json_t *info, bool paused, struct error_text *text);
	/* From another thread: make save() fail soon. */
	void (*abort)(struct domain_host *host);
	void (*close)(struct domain_host *host);
};

struct domain_operation;
struct domain_host {
	const struct domain_host_ops *ops;
	struct domain_operation *operation;	/* progress is reported to it */
};

struct domain_operation {
	const struct domain_snapshot_request *request;
	struct domain_host *host;
	const char *guard;		/* program that recovers the operation if we are killed; NULL: none */
	struct error_text text;		/* the error, or a warning */
	atomic_bool canceled;
	const struct domain_directory *directory;	/* once it is locked; NULL: not yet */
	bool adopts;			/* recovering an operation of a domain that is off: close disks that it left open */
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

/* The directory above all domains', from the environment or the default. */
const char *directory_root(void);
/* -ENOENT: it does not exist and @make is false. */
int directory_open(struct domain_directory *directory, const char *uuid, bool make, struct error_text *text);
void directory_close(struct domain_directory *directory);
/* -EBUSY: another process held it for @wait_ms; -ESTALE: the directory was removed meanwhile, open it again. */
int directory_lock(struct domain_directory *directory, int wait_ms, struct error_text *text);
void directory_unlock(struct domain_directory *directory);
/* -ENOENT: there is no such file. */
int directory_read(const struct domain_directory *directory, const char *file, json_t **value, struct error_text *text);
/* Replace the file atomically; durable. On failure the new content may be in place, but not durable. */
int directory_write(const struct domain_directory *directory, const char *file, const json_t *value, struct error_text *text);
/* Durable; a missing file is no error. */
int directory_remove(const struct domain_directory *directory, const char *file, struct error_text *text);
/* Remove what a killed directory_write() left; with the lock held. */
void directory_remove_unfinished(const struct domain_directory *directory);
/* A rename, durable. */
int directory_rename(const struct domain_directory *directory, const char *from, const char *to, struct error_text *text);
/* *@dir lists it, and the caller closes that; NULL: the directory was removed since it was opened. */
int directory_entries(const struct domain_directory *directory, DIR **dir, struct error_text *text);
/*
 * The programs of an operation can outlive it, so each holds a lock of its kind. It inherits that with the descriptor, which
 * the caller then closes; -1: there is none.
 */
enum domain_program { PROGRAM_HOOK, PROGRAM_XL };
int directory_hold(const struct domain_directory *directory, enum domain_program program);
bool directory_is_held(const struct domain_directory *directory, enum domain_program program);
/* "DIRECTORY/FILE" */
int directory_path(const struct domain_directory *directory, const char *file, char *path, struct error_text *text);
/* Calls @each for each directory's uuid until it returns non-zero. */
int directory_each(int (*each)(const char *uuid, void *owner), void *owner);
/* Remove the directory if nothing but the lock is left in it. */
void directory_remove_empty(const struct domain_directory *directory);

/* ---- domain_info.c ---- */

bool info_name_valid(const char *name);
/* "snapshotdata-NAME.xl", "NAME.save", "NAME.save.part" */
void info_file(char *file, const char *name);
void info_save_file(char *file, const char *name, bool partial);
/* A file's content; -EBADMSG: not an information file. */
int info_read(const struct domain_directory *directory, const char *name, json_t **info, struct error_text *text);
/* All undamaged ones, oldest first. @damaged, which may be NULL, names a damaged one. */
int info_read_all(const struct domain_directory *directory, json_t **infos, struct error_text *damaged, struct error_text *text);
const json_t *info_find(const json_t *infos, const char *name);
const char *info_string(const json_t *info, const char *key);	/* NULL: none */
/* Is it of that type, or null, or missing? */
bool info_may_have(const json_t *info, const char *key, json_type type);
/* The domain's current snapshot; the caller frees the name. NULL: none, or, with @damaged set, it is not known which. */
char *info_current(const struct domain_directory *directory, struct error_text *damaged);
/* The domain's name when its files were last written; the caller frees it. NULL: not known. */
char *info_domain_name(const struct domain_directory *directory);
/* The snapshot that the request names, else the current one: *@name, which the caller frees, or its information. */
int info_choose_name(struct domain_operation *operation, const struct domain_directory *directory, char **name);
int info_find_named(struct domain_operation *operation, const struct domain_directory *directory, json_t **info);
int info_set_current(const struct domain_directory *directory, const struct domain_id *id, const char *name,
		     struct error_text *text);
/* The typed form, whose strings belong to @infos; the caller frees it. */
struct domain_snapshot *info_typed(const json_t *infos, const char *current);

/* ---- domain_disks.c ---- */

/* The disks of a configuration; @config is libxl's JSON. */
int disks_from_config(struct domain_disks *disks, const json_t *config, struct error_text *text);
/* The disks of an information file. */
int disks_from_info(struct domain_disks *disks, const json_t *info, struct error_text *text);
int disks_append(struct domain_disks *disks, const struct domain_disk *disk);
struct domain_disk *disks_find(const struct domain_disks *disks, const char *vdev);
void disks_free(struct domain_disks *disks);
/* Find the tapdisk that serves each disk, or start one. */
int disks_open(struct domain_disks *disks, struct error_text *text);
/* The domain that is going to be destroyed. */
struct disks_user {
	unsigned domid;
	bool hvm;
};
/* -EBUSY: a domain other than @except (NULL: none) or an NBD client uses one; a revert needs all of them unused. */
int disks_check_unused(const struct domain_disks *disks, const struct disks_user *except, struct error_text *text);
/* Close the disks that disks_open() opened. */
void disks_close(struct domain_disks *disks);
/* Ask each disk's tapdisk which store the disk is in. */
int disks_find_stores(struct domain_disks *disks, struct error_text *text);
/* The path of the file that holds its snapshots: its store, or its target's path. */
const char *disk_file(const struct domain_disk *disk);
/*
 * Move a raw disk that is in a store without snapshots back to its image. The disk may be in use. If it has not moved yet,
 * remove the new store that was made for it in the directory @stores (NULL: nobody knows which).
 */
int disk_move_back(const struct domain_disk *disk, const char *stores, struct error_text *text);
/* 1: it has a snapshot of that name, and @disk gets id and time; 0: it has none. */
int disk_has_snapshot(struct domain_disk *disk, const char *name, struct error_text *text);
/* Each has the snapshot of its information file, compared by id and time: a later one of that name is another snapshot. */
int disks_check_snapshot(struct domain_disks *disks, const char *name, struct error_text *text);
/* -EBUSY: a snapshot that would be deleted is open. */
int disks_check_closed(const struct domain_disks *disks, const char *name, struct error_text *text);
/* Delete the snapshot on every disk that has it, unless it is older than @since. */
int disks_delete_snapshot(struct domain_disks *disks, const char *name, json_int_t since, struct error_text *text);
/* @owner: the domain's uuid, by which tapctl_records_forget() removes the decision records. */
int disks_revert(struct domain_disks *disks, const char *name, const char *owner, struct error_text *text);

/* A snapshot of all disks that are not skipped. */
struct disks_snapshot {
	struct tapctl_snapshot snapshot;
	struct tapctl_group *group;	/* NULL: all disks are skipped */
};
/* The steps that need no freeze; the caller fills in @snapshot->snapshot. */
int disks_snapshot_begin(struct disks_snapshot *snapshot, const struct domain_disks *disks, struct error_text *text);
int disks_snapshot_take(struct disks_snapshot *snapshot, struct error_text *text);
void disks_snapshot_end(struct disks_snapshot *snapshot);
json_t *disks_to_json(const struct domain_disks *disks);

/* ---- domain_locate.c ---- */

/* Find the request's domain. *@config, which the caller frees: read_config() of the file that it names; NULL: it names none. */
int domain_locate(struct domain_operation *operation, char **config);

/* ---- domain_save.c ---- */

/* Write the head of a file for `xl restore`; libxl's stream follows. */
int save_write_head(int fd, const char *config, struct error_text *text);
/* The configuration in a head; the caller frees it. @fd is then at the stream. */
int save_read_head(int fd, char **config, struct error_text *text);

/* ---- domain_config.c ---- */

/* Write a config file for xl. -EOPNOTSUPP: it cannot express something, which @text names. The data is durable, the name not. */
int config_write(const json_t *config, const char *path, struct error_text *text);
/* libxl's names of the settings that differ from its defaults and that config_write() leaves out, separated by commas. */
void config_unwritten(const json_t *config, char *names, size_t size);
/* A warning; its argument is config_unwritten()'s list. */
#define DOMAIN_UNWRITTEN "these settings of the domain are not in the config file, and have their defaults: %.300s"

/* ---- domain_begin.c ---- */

/* The first step of every operation that changes something: open, lock, recover. */
int domain_begin(struct domain_operation *operation, struct domain_directory *directory, bool make);
/* domain_locate() first, for an operation on a domain that has snapshots. */
int domain_locate_and_begin(struct domain_operation *operation, struct domain_directory *directory);

/* ---- domain_recover.c ---- */

/* With the lock held: finish or undo an operation that was killed. 0: no intent is left. */
int domain_recover(struct domain_operation *operation, const struct domain_directory *directory);
/* Give up what a disk that is permanently lost would block? */
bool domain_is_forced(const struct domain_operation *operation);

/* ---- the ends of the operations; @intent is the file's content ---- */

/* @told: called by the operation itself, not by recovery, so it may stop a running domain if the request says so. */
int domain_finish_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
			 bool told);
int domain_undo_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);
int domain_finish_revert(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent);
int domain_finish_delete(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);
/* For recovery: finish or undo. */
int domain_end_create(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);
int domain_end_revert(struct domain_operation *operation, const struct domain_directory *directory, json_t *intent);
int domain_end_clone(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent);

/* ---- domain_intent.c ---- */

/* The domain's members of an intent. */
json_t *domain_to_json(const struct domain_id *id);
/* The present state of an intent's domain. */
int intent_find_domain(struct domain_operation *operation, const json_t *intent, struct domain_id *id);
/* Has the domain not been restarted since the intent was written? */
bool intent_is_same(const json_t *intent, const struct domain_id *id);
bool intent_is_phase(const json_t *intent, const char *phase);
/* The last step of every operation. */
int domain_remove_intent(const struct domain_directory *directory, struct error_text *text);
/* Destroy the domain, so that a recovery does it again if it is cut short, or fails half-way (-EINPROGRESS). */
int domain_destroy(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
		   const struct domain_id *id);
/* Its result, for who only reports it. */
int domain_destroy_error(int error);
/* Was its destruction begun, and did not come to an end? Bring it to its end, if so. */
bool intent_is_torn(const json_t *intent, const struct domain_id *id);
int intent_destroy_torn(struct domain_operation *operation, const json_t *intent, struct domain_id *id);

/* ---- domain_parts.c: a missing part is no error ---- */

int domain_remove_info(struct domain_operation *operation, const struct domain_directory *directory, const char *name);
int domain_remove_save(struct domain_operation *operation, const struct domain_directory *directory, const char *name);
/* The snapshots on the disks of @info, unless they are older than @since; then move its "moves" back from their stores. */
int domain_delete_disks(struct domain_operation *operation, const json_t *info, json_int_t since);
/*
 * After the last snapshot only the domain's name is left: remove the directory, too. With @aside also an intent that was put
 * aside there; otherwise that keeps it.
 */
void domain_remove_directory(const struct domain_directory *directory, bool aside);

/* ---- domain_damaged.c ---- */

/* The intent file's content; -ENOENT: there is none; -EBADMSG: it is damaged. */
int intent_read(const struct domain_directory *directory, json_t **intent, struct error_text *text);
/* Rename a damaged one. The operation's text is then a warning: @reason, and what has to be checked. */
int intent_put_aside(struct domain_operation *operation, const struct domain_directory *directory, const char *reason);

/* ---- domain_program.c: the guard, which recovers the operation when this process is killed ---- */

struct guard {
	int fd;				/* its stdin; -1: none */
	int pid;
};
/* Returns when it watches. */
int guard_start(struct guard *guard, const struct domain_operation *operation, const struct domain_directory *directory,
		struct error_text *text);
/* Dismiss the guard. */
void guard_stop(struct guard *guard);
/* The guard's main function: waits on stdin, then recovers. Returns an exit status. */
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
/* 0, or -ECANCELED. */
int domain_check_canceled(struct domain_operation *operation);

/* A warning; its arguments are the hook and the domain's name. */
#define DOMAIN_FROZEN "the domain is paused, frozen by the hook: run '%s thaw %s' when it is unpaused"
/* Run @hook; @word: "freeze" or "thaw". -ECANCELED: canceled, and the hook was killed, a thaw after hook_timeout_ms. */
int hook_run(const struct domain_operation *operation, const char *hook, const char *word, const struct domain_id *id,
	     struct error_text *text);
extern int hook_timeout_ms;		/* tests lower it */
/* Run xl and wait for it; when it fails, @text gets a line of its stderr. */
int xl_run(const struct domain_operation *operation, const char *const arguments[], struct error_text *text);

/* ---- domain_xen.c; _disks: the backends' nodes; _config: configurations; _lost: xenstored has gone ---- */

struct xs_handle;
typedef struct libxl__ctx libxl_ctx;
int xen_read_disks(struct xs_handle *xs, libxl_ctx *ctx, unsigned domid, struct domain_disks *disks, struct error_text *text);
int xen_read_config(struct domain_host *host, const char *path, struct domain_id *id, char **config,
		    struct error_text *text);
int xen_can_boot(struct domain_host *host, const json_t *info, struct error_text *text);
int xen_boot(const struct domain_operation *operation, const json_t *info, bool paused, struct error_text *text);
/*
 * Without xenstored's socket libxenstore falls back to the kernel's device, where a request blocks for ever when xenstored
 * is dead. This disables the fallback for us and our children. It changes the environment: call it before starting threads.
 */
void xenstored_by_socket_only(void);
int xen_host_open(struct domain_host **host, struct error_text *text);

/* For tests: called with the name of each completed step. */
extern void (*domain_step)(const char *step);
void domain_did(struct domain_operation *operation, const char *step);

/* A session whose host @open_host makes, for tests. */
int domain_snapshots_open_with(struct domain_snapshots **session,
			       int (*open_host)(struct domain_host **host, struct error_text *text), const char *guard,
			       struct error_text *text);

#endif
