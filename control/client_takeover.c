/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_takeover.c - starts a new tapdisk for the disks of one that has ended.
 *
 * Invariants:
 *  - One client at a time takes over from a process: it holds the record lock
 *    on the file whose flock() the process held. The next client finds the
 *    records changed.
 *  - Nothing is opened before the process' last I/O has ended: its flock() is
 *    released only then.
 *  - We do not connect frontends: tapback, or the stand-in itself, knows their
 *    rings and does that.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "array.h"
#include "boot_id.h"
#include "client_internal.h"
#include "clock.h"
#include "path.h"
#include "probe.h"

#define RECORD_MAX	65536
#define ENDED_MS	60000	/* how long a dead tapdisk's I/O may take to end */
#define IMAGE_MS	5000	/* how long another process may have the image open */
#define CALL_MS		60000
#define ALIVE_MS	2000	/* the longest time for a tapdisk to answer, or a process to end */
#define PAUSE_MS	2
#define HEIR_MS		3000	/* how long to wait for tapback to take over */
#define HEIR_PAUSE_MS	50
#define PROBE_MS	1000
#define RING_END_MS 500	/* how long the kernel takes to end the ring of a dead process */

/* A disk's record, checked; its strings belong to the JSON. */
struct record {
	json_t *json;
	int minor, pid, former;
	const char *name, *target;
	bool paused, read_only;
	unsigned depth;			/* of its store; set by records_sort() */
	bool failed;			/* result: the successor could not open it */
};

static void pause_ms(int ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000l }, NULL);
}

/* The file's content; NULL: it is missing, or cannot be a record. */
static json_t *read_json(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char *bytes = fd < 0 ? NULL : malloc(RECORD_MAX);
	json_t *json = NULL;
	ssize_t length;
	struct stat st;

	if (bytes && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_uid == geteuid()) {
		length = read(fd, bytes, RECORD_MAX);
		if (length > 0 && length < RECORD_MAX)
			json = json_loadb(bytes, (size_t)length, 0, NULL);
	}
	free(bytes);
	if (fd >= 0)
		close(fd);
	return json;
}

static bool this_boot(const char *boot)
{
	char now[BOOT_ID_SIZE];

	return !boot_id_read(now) && !strcmp(now, boot);
}

static int record_read(struct record *record, int minor)
{
	int version, paused, read_only, found;
	const char *boot;
	char path[PATH_MAX];

	*record = (struct record){ .minor = minor };
	if (snprintf(path, sizeof(path), TAKEOVER_DISK_FORMAT "/" TAKEOVER_RECORD, tapctl_run_dir(), minor) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	record->json = read_json(path);
	if (!record->json)
		return -ENOENT;
	if (json_unpack(record->json, "{s:i, s:s, s:i, s:s, s:i, s:s, s:b, s:b, s?i}", "version", &version, "boot", &boot, "pid",
			&record->pid, "name", &record->name, "minor", &found, "target", &record->target, "paused", &paused,
			"read_only", &read_only, "former", &record->former) ||
	    version != TAKEOVER_VERSION || found != minor || record->pid <= 0 || strchr(record->name, '/') ||
	    strlen(record->name) >= TAKEOVER_NAME_MAX || !this_boot(boot)) {
		json_decref(record->json);
		record->json = NULL;
		return -ENOENT;
	}
	record->paused = paused;
	record->read_only = read_only;
	return 0;
}

struct records {
	struct record *list;
	size_t count;
	bool paused;			/* paused disks were left out */
};

static void records_free(struct records *records)
{
	for (size_t i = 0; i < records->count; i++)
		json_decref(records->list[i].json);
	free(records->list);
	*records = (struct records){ 0 };
}

static int by_turn(const void *a, const void *b)
{
	const struct record *left = a, *right = b;

	if (left->depth != right->depth)
		return left->depth < right->depth ? -1 : 1;
	return left->read_only != right->read_only ? left->read_only - right->read_only : left->minor - right->minor;
}

/*
 * Sort by the order in which to open them: a store must be opened for writing before it is opened for reading, for one of its
 * snapshots or as the base of another store. The process that had them has ended, so no store changes. Disks whose storage
 * does not answer come last.
 */
static void records_sort(struct records *records)
{
	for (size_t i = 0; records->count > 1 && i < records->count; i++)
		records->list[i].depth = client_store_depth(records->list[i].target);
	qsort(records->list, records->count, sizeof(*records->list), by_turn);
}

/* Find the disks of process @pid that can be taken over; a paused one only if @minor names it. */
static int records_find(struct records *records, int pid, int minor)
{
	char directory[PATH_MAX];
	int *minors, error;
	size_t count;

	*records = (struct records){ 0 };
	if (snprintf(directory, sizeof(directory), TAKEOVER_DIR_FORMAT, tapctl_run_dir()) >= (int)sizeof(directory))
		return -ENAMETOOLONG;
	error = client_list_numbers(directory, "", MINOR_MAX, &minors, &count);
	if (!error && count) {
		records->list = calloc(count, sizeof(*records->list));
		error = records->list ? 0 : -ENOMEM;
	}
	for (size_t i = 0; !error && i < count; i++) {
		struct record record;

		if ((minor >= 0 && minors[i] != minor) || record_read(&record, minors[i]))
			continue;
		records->paused |= record.pid == pid && record.paused;
		if (record.pid == pid && (!record.paused || minor >= 0))
			records->list[records->count++] = record;
		else
			json_decref(record.json);
	}
	free(minors);
	return error;
}

/* ---- the process that has ended ---- */

/* Lock its lock file against other clients, and return the descriptor. -ENOENT: it ended in order and needs no takeover. */
static int take_turn(const char *name, struct error_text *text)
{
	struct flock turn = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), TAKEOVER_LOCK_FORMAT, tapctl_run_dir(), name) >= (int)sizeof(path))
		return error_set(text, -ENAMETOOLONG, "%s: path too long", tapctl_run_dir());
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : error_set(text, -errno, "%s: %s", path, strerror(errno));
	while (fcntl(fd, F_OFD_SETLKW, &turn)) {
		int error = -errno;

		if (error == -EINTR)
			continue;
		close(fd);
		return error_set(text, error, "%s: %s", path, strerror(-error));
	}
	return fd;
}

static int wait_for_end(int pid, int lock, struct error_text *text)
{
	int64_t deadline = clock_ms() + ENDED_MS;

	while (flock(lock, LOCK_SH | LOCK_NB)) {
		if (clock_ms() > deadline)
			return error_set(text, -EBUSY, "tapdisk %d: its I/O has not ended for %d s; is the storage stuck?", pid,
					 ENDED_MS / 1000);
		pause_ms(PAUSE_MS);
	}
	return 0;
}

/* A tapdisk that is being killed may still accept a connection, but does not answer. */
static int check_dead(int pid, struct error_text *text)
{
	int64_t deadline = clock_ms() + ALIVE_MS;
	struct tapctl *ctl;
	int error;

	do {
		error = tapctl_connect(&ctl, pid, NULL);
		if (error == -ENOENT || error == -ECONNREFUSED)
			return 0;
		if (!error) {
			error = tapctl_call(ctl, json_pack("{s:s}", "command", "list"), NULL, ALIVE_MS, NULL);
			tapctl_close(ctl);
		}
		if (error == -EPIPE)
			pause_ms(PAUSE_MS);
	} while (error == -EPIPE && clock_ms() < deadline);
	return error_set(text, -EBUSY, "tapdisk %d is alive: 'tap-ctl upgrade' replaces it", pid);
}

/* ---- its successor ---- */

static json_t *open_request(const struct record *record)
{
	json_t *request = json_pack("{s:s, s:i, s:b, s:i}", "command", "open", "minor", record->minor, "take_over", 1,
				    "former", record->pid);
	static const char *const kept[] = { "target", "read_only", "no_direct", "beside_qemu", "sector_size", "cache_mib", "on_error" };

	for (size_t i = 0; request && i < ARRAY_SIZE(kept); i++)
		json_object_set(request, kept[i], json_object_get(record->json, kept[i]));
	return request;
}

static json_t *throttle_request(const struct record *record)
{
	json_t *request = json_pack("{s:s, s:i}", "command", "throttle", "minor", record->minor);

	if (request)
		json_object_update(request, json_object_get(record->json, "throttle"));
	return request;
}

/* Retries for a while if the image is busy: udev, or a tool that reads it, may have it open. */
static int open_disk(struct tapctl *ctl, const struct record *record, struct error_text *text)
{
	int64_t deadline = clock_ms() + IMAGE_MS;
	int error;

	for (;;) {
		text->text[0] = '\0';
		error = tapctl_call(ctl, open_request(record), NULL, CALL_MS, text);
		if (error != -EBUSY || clock_ms() > deadline)
			return error;
		pause_ms(PAUSE_MS);
	}
}

/* Set the limits before the open: from then on the disk serves, also if we are killed. */
static int take_disk(struct tapctl *ctl, const struct record *record, struct error_text *text)
{
	int error = tapctl_call(ctl, json_pack("{s:s, s:i}", "command", "attach", "minor", record->minor), NULL, CALL_MS, text);

	if (!error)
		error = tapctl_call(ctl, throttle_request(record), NULL, CALL_MS, text);
	return error ? error : open_disk(ctl, record, text);
}

static void detach_failed(struct tapctl *ctl, const struct record *record)
{
	if (record->failed)
		tapctl_call(ctl, json_pack("{s:s, s:i}", "command", "detach", "minor", record->minor), NULL, CALL_MS, NULL);
}

/* Take each disk that can be opened; report the first failure. Failed ones are detached last: tapdisk ends with its last disk. */
static int take_disks(int pid, struct records *records, struct error_text *text)
{
	struct error_text why;
	struct tapctl *ctl;
	int first = 0, error = tapctl_connect(&ctl, pid, text);

	if (error)
		return error;
	for (size_t i = 0; i < records->count && error != -EPIPE && error != -ETIMEDOUT; i++) {
		why.text[0] = '\0';
		error = take_disk(ctl, &records->list[i], &why);
		records->list[i].failed = error != 0;
		if (error && !first)
			first = error_set(text, error, "minor %d: %s", records->list[i].minor, why.text);
	}
	for (size_t i = 0; i < records->count; i++)
		detach_failed(ctl, &records->list[i]);
	tapctl_close(ctl);
	return first;
}

static int take_over(int pid, struct records *records, struct error_text *text)
{
	int successor = tapctl_spawn(text), error;

	if (successor < 0)
		return successor;
	error = take_disks(successor, records, text);
	tapctl_process_clean(pid);
	return error ? error : successor;
}

/* With the lock held. Another client may have taken over while we waited for it. */
static int take_over_dead(int pid, int minor, int lock, struct error_text *text)
{
	struct records records = { 0 };
	int ret = check_dead(pid, text);

	if (!ret && lock >= 0)
		ret = wait_for_end(pid, lock, text);
	if (!ret)
		ret = records_find(&records, pid, minor);
	if (!ret && !records.count)
		ret = error_set(text, -ENOENT, "tapdisk %d: its disks have just been taken over, or given up", pid);
	if (!ret) {
		records_sort(&records);
		ret = take_over(pid, &records, text);
	}
	records_free(&records);
	return ret;
}

int tapctl_takeover(int pid, int minor, struct error_text *text)
{
	char name[TAKEOVER_NAME_MAX];
	struct records records;
	int lock, ret = records_find(&records, pid, minor);

	if (!ret && !records.count)
		ret = error_set(text, -ENOENT, records.paused ? "tapdisk %d: its disks are paused, and whatever paused them "
				"may be using their images; -m takes one over and unpauses it" :
				"tapdisk %d has left no disk to take over", pid);
	if (!ret)
		memcpy(name, records.list[0].name, strlen(records.list[0].name) + 1);
	records_free(&records);
	if (ret)
		return ret;
	lock = take_turn(name, text);
	if (lock < 0 && lock != -ENOENT)
		return lock;
	ret = take_over_dead(pid, minor, lock, text);
	if (lock >= 0)
		close(lock);
	return ret;
}

void client_takeover_forget(int minor)
{
	char directory[PATH_MAX], path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	if (snprintf(directory, sizeof(directory), TAKEOVER_DISK_FORMAT, tapctl_run_dir(), minor) >= (int)sizeof(directory))
		return;
	dir = opendir(directory);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' &&
		    snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) < (int)sizeof(path))
			unlink(path);
	}
	closedir(dir);
	rmdir(directory);
	/* if this was the last one, and its tapdisk could not remove the directory when it ended */
	if (snprintf(directory, sizeof(directory), TAKEOVER_DIR_FORMAT, tapctl_run_dir()) < (int)sizeof(directory))
		rmdir(directory);
}

int tapctl_takeover_owner(int minor)
{
	struct record record;

	if (record_read(&record, minor))
		return 0;
	json_decref(record.json);
	return record.pid;
}

int tapctl_takeover_successor(int pid, int minor)
{
	struct record record;

	if (record_read(&record, minor))
		return 0;
	json_decref(record.json);
	return record.former == pid ? record.pid : 0;
}

/* ---- others that want to open the image ---- */

int client_takeover_each_frontend(int minor, void (*each)(unsigned domid, unsigned devid, void *arg), void *arg)
{
	char directory[PATH_MAX];
	unsigned domid, devid;
	struct dirent *entry;
	int count = 0;
	DIR *dir;

	if (snprintf(directory, sizeof(directory), TAKEOVER_DISK_FORMAT, tapctl_run_dir(), minor) >= (int)sizeof(directory))
		return 0;
	dir = opendir(directory);
	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, TAKEOVER_TABLE_FORMAT, &domid, &devid) != 2)
			continue;
		count++;
		if (each)
			each(domid, devid, arg);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* A tapdisk that is alive does, and one that is being killed may. */
static bool accepts_connections(int pid)
{
	struct tapctl *ctl;

	if (tapctl_connect(&ctl, pid, NULL))
		return false;
	tapctl_close(ctl);
	return true;
}

/* Probes the storage of the dead @pid's image only if that has another name; it may not answer. */
static bool is_same_image(int pid, const char *one, const char *other)
{
	const char *path = strchr(one, ':'), *other_path = strchr(other, ':');

	if (!path || !other_path || !strncmp(one, "null:", 5))
		return false;
	return !strcmp(path, other_path) ||
	       (!accepts_connections(pid) && !probe_wait(one, PROBE_MS, tapctl_interrupt(), NULL) &&
		!probe_wait(other, PROBE_MS, tapctl_interrupt(), NULL) && path_same_image(path + 1, other_path + 1));
}

/* Does a guest wait for a successor of @minor's dead tapdisk *@pid, which will open @target's image? Not for a paused disk. */
static bool is_waited_for(int minor, const char *target, int *pid)
{
	struct record record;
	bool waited;

	if (record_read(&record, minor))
		return false;
	*pid = record.pid;
	waited = !record.paused && !record.read_only && client_takeover_each_frontend(minor, NULL, NULL) &&
		 is_same_image(record.pid, record.target, target) && !check_dead(record.pid, NULL);
	json_decref(record.json);
	return waited;
}

int client_takeover_wait(const char *target, struct error_text *text)
{
	int64_t deadline = clock_ms() + HEIR_MS;
	char directory[PATH_MAX];
	int *minors, pid, error;
	size_t count;

	if (snprintf(directory, sizeof(directory), TAKEOVER_DIR_FORMAT, tapctl_run_dir()) >= (int)sizeof(directory))
		return error_set(text, -ENAMETOOLONG, "%s: path too long", tapctl_run_dir());
	error = client_list_numbers(directory, "", MINOR_MAX, &minors, &count);
	if (error)
		return error_set(text, error, "%s: %s", directory, strerror(-error));
	for (size_t i = 0; !error && i < count; i++) {
		while (!error && is_waited_for(minors[i], target, &pid)) {
			if (clock_ms() > deadline)
				error = error_set(text, -EBUSY, "%s: tapdisk %d has died, and a guest waits for another one with minor %d: "
						  "'tap-ctl takeover -p %d'; if the guest is gone, 'tap-ctl destroy -p %d -m %d'", target,
						  pid, minors[i], pid, pid, minors[i]);
			else
				pause_ms(HEIR_PAUSE_MS);
		}
	}
	free(minors);
	return error;
}

/*
 * Has the I/O of the lock's process ended? The kernel frees a ring a moment
 * after its process has ended; wait for that, because the lock would not be
 * removed later. Does not wait for hanging I/O.
 */
static bool is_free(const char *path)
{
	int64_t deadline = clock_ms() + RING_END_MS;
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW), error = 0;

	if (fd < 0)
		return false;
	while ((error = flock(fd, LOCK_SH | LOCK_NB)) && errno == EWOULDBLOCK && clock_ms() < deadline)
		pause_ms(PAUSE_MS);
	close(fd);
	return !error;
}

void client_takeover_clean(int pid)
{
	char directory[PATH_MAX], path[PATH_MAX], prefix[32];
	struct records left;
	struct dirent *entry;
	DIR *dir;

	if (records_find(&left, pid, -1) || left.count || left.paused ||
	    snprintf(directory, sizeof(directory), TAKEOVER_DIR_FORMAT, tapctl_run_dir()) >= (int)sizeof(directory) ||
	    !(dir = opendir(directory))) {
		records_free(&left);
		return;
	}
	snprintf(prefix, sizeof(prefix), "lock-%d-", pid);
	while ((entry = readdir(dir))) {
		if (!strncmp(entry->d_name, prefix, strlen(prefix)) &&
		    snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name) < (int)sizeof(path) && is_free(path))
			unlink(path);
	}
	closedir(dir);
	rmdir(directory);
	records_free(&left);
}

static bool gone(int pid)
{
	struct tapctl *ctl;
	int error = tapctl_connect(&ctl, pid, NULL);

	if (!error)
		tapctl_close(ctl);
	return error == -ENOENT || error == -ECONNREFUSED;
}

/* The tapdisk that another client has started to take over one of @minors; 0: none. */
static int find_successor(const int *minors, size_t count, int pid)
{
	for (size_t i = 0; i < count; i++) {
		int owner = tapctl_takeover_owner(minors[i]);

		if (owner && owner != pid)
			return owner;
	}
	return 0;
}

/* @minors: those of the old tapdisk. tapback also notices its end, and may take over first. */
static int replace(int pid, const int *minors, size_t count, struct error_text *text)
{
	int64_t deadline = clock_ms() + CALL_MS;
	int ret, successor;

	while (!gone(pid)) {
		if (clock_ms() > deadline)
			return error_set(text, -ETIMEDOUT, "tapdisk %d has handed over its disks but does not exit", pid);
		pause_ms(PAUSE_MS);
	}
	ret = tapctl_takeover(pid, -1, text);
	if (ret != -ENOENT)
		return ret;
	successor = find_successor(minors, count, pid);
	return successor ? successor : ret;
}

int tapctl_upgrade(int pid, struct error_text *text)
{
	struct records records;
	struct tapctl *ctl;
	int *minors, ret = tapctl_connect(&ctl, pid, text);

	if (ret)
		return ret;
	ret = records_find(&records, pid, -1);
	if (!ret && !records.count)
		ret = error_set(text, -ENOENT, "tapdisk %d has no disk that could be taken over", pid);
	if (!ret)
		ret = tapctl_call(ctl, json_pack("{s:s}", "command", "hand-over"), NULL, CALL_MS, text);
	tapctl_close(ctl);
	minors = calloc(records.count + 1, sizeof(*minors));
	for (size_t i = 0; minors && i < records.count; i++)
		minors[i] = records.list[i].minor;
	if (!ret)
		ret = replace(pid, minors, minors ? records.count : 0, text);
	free(minors);
	records_free(&records);
	return ret;
}
