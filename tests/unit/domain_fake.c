/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domain_fake.c - a host with one domain (domain_fake.h). */
#include "domain_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client_disk.h"
#include "client_internal.h"
#include "cow.h"
#include "fixture.h"

#define DISK_SECTORS 32768

struct fake_domain *fake;
char fake_dir[64];
static struct fixture directory;

void fake_store(char *path, unsigned disk)
{
	snprintf(path, 128, "%s/%c.%s", fake_dir, 'a' + (int)disk, disk && fake->raw ? "img" : "cow");
}

const char *fake_type(unsigned disk)
{
	return disk && fake->raw ? "aio" : "cow";
}

void fake_make_raw(void)
{
	char path[128];
	int fd;

	fake->raw = true;
	fake_store(path, 1);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, DISK_SECTORS * 512), 0);
	close(fd);
}

void fake_start_domain(void)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++) {
		struct disk_options options = { .timeout_ms = TIMEOUT_MS };
		struct error_text text = { "" };
		char path[128], target[140];
		json_t *disk;

		fake_store(path, i);
		snprintf(target, sizeof(target), "%s:%s", fake_type(i), path);
		options.target = target;
		if (disk_create(&options, &fake->pid[i], &fake->minor[i], &disk, &text))
			fail_msg("%s", text.text);
		json_decref(disk);
	}
	fake->there = true;
	fake->suspended = false;
	fake->domid++;
}

static void close_disks(void)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		assert_int_equal(disk_destroy(fake->pid[i], fake->minor[i], true, TIMEOUT_MS, NULL), 0);
}

void fake_stop_domain(void)
{
	if (!fake->torn)
		close_disks();
	fake->there = fake->suspended = fake->paused = fake->torn = fake->unbuilt = false;
	fake->memory = 0;
}

/* ---- the host ---- */

static const char *current_uuid(void)
{
	return fake->other_uuid ? FAKE_OTHER_UUID : FAKE_UUID;
}

static int host_find(struct domain_host *host, const char *domain, struct domain_id *id, struct error_text *text)
{
	*id = (struct domain_id){ .name = FAKE_NAME, .domid = fake->domid, .there = true };
	strcpy(id->uuid, current_uuid());
	if (fake->store_lost || fake->torn)
		id->name[0] = '\0';
	if (fake->there && ((!fake->renamed && !fake->torn && !strcmp(domain, FAKE_NAME)) || !strcmp(domain, id->uuid)))
		return 0;
	return error_set(text, -ENOENT, "there is no domain '%s'", domain);
}

static int host_config(struct domain_host *host, unsigned domid, char **config, struct error_text *text)
{
	static const char hvm[] =
		"\"type.hvm\": {\"bios\": \"ovmf\", \"boot\": \"cd\", \"vga\": {\"kind\": \"std\"}, \"usb\": \"False\", "
		"\"vnc\": {\"enable\": \"True\", \"listen\": \"::\"}, \"viridian\": \"True\", \"rdm\": {}, "
		"\"hpet\": \"<default>\"}, \"sched_params\": {\"weight\": 512, \"cap\": 0}, \"shadow\": 1";
	char paths[FAKE_DISKS][128];

	for (unsigned i = 0; i < FAKE_DISKS; i++)
		fake_store(paths[i], i);
	if (asprintf(config, "{\"c_info\": {\"type\": \"pv\", \"name\": \"" FAKE_NAME "\", \"uuid\": \"" FAKE_UUID "\"},\n"
		     "\"b_info\": {\"max_vcpus\": 1, \"target_memkb\": 262144, \"kernel\": \"/k\", %s},\n"
		     "\"disks\": [{\"pdev_path\": \"cow:%s\", \"vdev\": \"xvda\", \"backend\": \"tap\", \"format\": \"raw\", \"readwrite\": 1},\n"
		     "{\"pdev_path\": \"%s:%s\", \"vdev\": \"xvdb\", \"backend\": \"tap\", \"format\": \"raw\", \"readwrite\": 1}],\n"
		     "\"nics\": [{\"mac\": \"00:16:3e:00:00:01\", \"bridge\": \"br0\"}], \"on_reboot\": \"rename_restart\"}",
		     fake->hvm ? hvm : "\"type.pv\": {}", paths[0], fake_type(1), paths[1]) < 0)
		return -ENOMEM;
	return 0;
}

static int read_second(struct domain_id *id, char **config)
{
	*id = (struct domain_id){ .uuid = FAKE_SECOND_UUID, .name = FAKE_SECOND };
	if (asprintf(config, "{\"c_info\": {\"name\": \"" FAKE_SECOND "\"}, \"disks\": [{\"pdev_path\": \"cow:%s/" FAKE_SECOND ".cow\", "
		     "\"vdev\": \"xvda\", \"backend\": \"tap\", \"format\": \"raw\", \"readwrite\": 1}]}", fake_dir) < 0)
		return -ENOMEM;
	return 0;
}

/* The domain's disks and names, if only its config file is known. */
static int host_read_config(struct domain_host *host, const char *path, struct domain_id *id, char **config,
			    struct error_text *text)
{
	json_t *all, *some;
	char *words;

	assert_int_equal(*path, '/');
	if (strstr(path, "/" FAKE_SECOND ".cfg"))
		return read_second(id, config);
	*id = (struct domain_id){ .name = FAKE_NAME };
	if (!fake->other_uuid)
		strcpy(id->uuid, FAKE_UUID);
	if (access(path, R_OK))
		return error_set(text, -errno, "%s: %s", path, strerror(errno));
	assert_int_equal(host_config(host, 0, &words, text), 0);
	all = json_loads(words, 0, NULL);
	if (fake->unsaid)
		json_object_del(json_array_get(json_object_get(all, "disks"), 1), "backend");
	some = json_pack("{s:{s:s}, s:O}", "c_info", "name", FAKE_NAME, "disks", json_object_get(all, "disks"));
	*config = json_dumps(some, 0);
	json_decref(some);
	json_decref(all);
	free(words);
	return 0;
}

static int host_disks(struct domain_host *host, unsigned domid, struct domain_disks *disks, struct error_text *text)
{
	char *words;
	json_t *config;
	int error = host_config(host, domid, &words, text);

	config = error ? NULL : json_loads(words, 0, NULL);
	assert_non_null(config);
	error = fake->torn ? 0 : disks_from_config(disks, config, text);
	if (fake->detached)
		free(disks->disk[--disks->count].target);
	if (fake->attached) {
		struct domain_disk disk = disks->disk[0];

		strcpy(disk.vdev, "xvdc");
		disk.target = strdup(disk.target);
		assert_int_equal(disks_append(disks, &disk), 0);
	}
	if (fake->swapped) {
		free(disks->disk[1].target);
		assert_true(asprintf(&disks->disk[1].target, "cow:%s/swapped.cow", fake_dir) > 0);
	}
	json_decref(config);
	free(words);
	return error;
}

static int host_can_save(struct domain_host *host, unsigned domid, bool live, uint64_t *bytes, struct error_text *text)
{
	*bytes = 4096;
	return fake->unable ? error_set(text, -EOPNOTSUPP, "it cannot be saved") : 0;
}

static int host_save(struct domain_host *host, unsigned domid, int fd, bool live, struct error_text *text)
{
	assert_true(fake->there && !fake->suspended);
	fake->saving = true;
	if (fake->hold_save)
		host->operation->progress(host->operation, "memory", 42);
	while (fake->hold_save && !fake->aborted)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	fake->saving = false;
	if (fake->aborted)
		return error_set(text, -EINTR, "aborted");
	if (dprintf(fd, "MEMORY %d", fake->memory) < 0)
		return -errno;
	fake->suspended = true;
	return fake->fail_save ? error_set(text, fake->fail_save, "the guest did not answer") : 0;
}

static int host_resume(struct domain_host *host, unsigned domid, bool paused, struct error_text *text)
{
	if (fake->stopped)
		assert_int_equal(kill(fake->stopped, SIGCONT), 0);
	fake->suspended = false;
	fake->paused = paused;
	fake->store_lost = fake->loses_store;
	return 0;
}

static int host_unpause(struct domain_host *host, unsigned domid, struct error_text *text)
{
	assert_true(fake->there && !fake->suspended);
	fake->paused = false;
	return 0;
}

static void step(const char *name)
{
	if (domain_step)
		domain_step(name);
}

/* As libxl does it: first it is paused, last it is destroyed. */
static int host_destroy(struct domain_host *host, unsigned domid, struct error_text *text)
{
	assert_true(fake->there && domid == fake->domid);
	if (fake->fail_destroy && fake->fail_destroy != -EINPROGRESS)
		return error_set(text, fake->fail_destroy, "it does not die");
	if (!fake->torn) {
		fake->paused = true;
		close_disks();
		fake->torn = true;
		step("torn");
	}
	if (fake->fail_destroy)
		return error_set(text, fake->fail_destroy, "it does not die");
	fake_stop_domain();
	return 0;
}

/* As xl does it: it is paused until it is built. */
static void build(int memory, bool paused)
{
	fake_start_domain();
	fake->paused = fake->unbuilt = true;
	step("unbuilt");
	fake->unbuilt = false;
	fake->memory = memory;
	step("built");
	fake->paused = paused;
}

static bool host_is_built(struct domain_host *host, unsigned domid)
{
	return !fake->unbuilt;
}

static int host_restore(struct domain_host *host, const char *file, bool paused, struct error_text *text)
{
	const char *const program[] = { "sh", "-c", fake->program, NULL };
	char words[32] = "", *config = NULL;
	int fd = open(file, O_RDONLY | O_CLOEXEC), memory;

	if (fake->program[0])
		assert_int_equal(xl_run(host->operation, program, text), 0);
	if (fake->fail_restore && fake->leaves_unbuilt) {
		fake_start_domain();
		fake->paused = fake->unbuilt = true;
	}
	if (fake->fail_restore) {
		close(fd);
		return error_set(text, fake->fail_restore, "xl does not want to");
	}
	assert_true(fd >= 0);
	assert_int_equal(save_read_head(fd, &config, text), 0);
	assert_true(read(fd, words, sizeof(words) - 1) > 0);
	assert_int_equal(sscanf(words, "MEMORY %d", &memory), 1);
	build(memory, paused);
	close(fd);
	free(config);
	return 0;
}

static int host_can_boot(struct domain_host *host, const json_t *info, struct error_text *text)
{
	return fake->unbootable ? error_set(text, -EOPNOTSUPP, "it has devices") : 0;
}

static int host_boot(struct domain_host *host, const json_t *info, bool paused, struct error_text *text)
{
	if (fake->unbootable)
		return error_set(text, -EOPNOTSUPP, "it has devices");
	build(1, paused);
	return 0;
}

static void host_abort(struct domain_host *host)
{
	fake->aborted = true;
}

static void host_close(struct domain_host *host)
{
	free(host);
}

static const struct domain_host_ops fake_ops = {
	.find = host_find, .config = host_config, .read_config = host_read_config, .disks = host_disks,
	.can_save = host_can_save, .save = host_save, .resume = host_resume, .unpause = host_unpause, .destroy = host_destroy,
	.restore = host_restore, .is_built = host_is_built,
	.can_boot = host_can_boot, .boot = host_boot, .abort = host_abort, .close = host_close,
};

int fake_open_host(struct domain_host **host, struct error_text *text)
{
	*host = calloc(1, sizeof(**host));
	assert_non_null(*host);
	(*host)->ops = &fake_ops;
	return 0;
}

/* ---- running ---- */

static void note_outcome(void *owner, const struct domain_snapshot_result *result)
{
	struct outcome *outcome = owner;

	outcome->error = result->error;
	snprintf(outcome->text, sizeof(outcome->text), "%s", result->text);
	snprintf(outcome->clone, sizeof(outcome->clone), "%s", result->clone ? result->clone : "");
	for (unsigned i = 0; i < result->count; i++) {
		const struct domain_snapshot *snapshot = &result->snapshots[i];
		size_t used = strlen(outcome->names);

		snprintf(outcome->names + used, sizeof(outcome->names) - used, "%s%s", used ? " " : "", snapshot->name);
		if (snapshot->current)
			snprintf(outcome->current, sizeof(outcome->current), "%s", snapshot->name);
	}
}

static int finish(struct domain_snapshots *session, const struct outcome *outcome)
{
	struct pollfd poll_fd = { .fd = domain_snapshots_fd(session), .events = POLLIN };

	while (outcome->error == 1) {
		if (poll(&poll_fd, 1, TIMEOUT_MS) <= 0)
			return -ETIMEDOUT;
		domain_snapshots_dispatch(session);
	}
	return 0;
}

struct outcome fake_run(struct domain_snapshot_request request)
{
	struct outcome outcome = { .error = 1 };
	const struct domain_snapshot_callbacks callbacks = { .done = note_outcome, .owner = &outcome };
	struct domain_snapshots *session;
	struct error_text text = { "" };
	int error;

	if (!request.domain)
		request.domain = FAKE_NAME;
	assert_int_equal(domain_snapshots_open_with(&session, fake_open_host, NULL, &text), 0);
	error = domain_snapshots_start(session, &request, &callbacks, NULL, &text);
	outcome.error = error ? error : 1;
	assert_int_equal(finish(session, &outcome), 0);
	domain_snapshots_close(session);
	if (text.text[0])
		snprintf(outcome.text, sizeof(outcome.text), "%s", text.text);
	return outcome;
}

static unsigned steps_left;

static void count_step(const char *step)
{
	if (!--steps_left)
		raise(SIGKILL);
}

bool fake_run_killed(struct domain_snapshot_request request, unsigned kill)
{
	struct outcome outcome;
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		steps_left = kill;
		domain_step = client_group_step = count_step;
		outcome = fake_run(request);
		if (outcome.error)
			fprintf(stderr, "# %s\n", outcome.text);
		_exit(outcome.error ? 1 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status))
		fail_msg("it failed before step %u", kill);
	return WIFSIGNALED(status);
}

/* ---- the directories ---- */

void fake_make_store(const char *path, unsigned sector_size)
{
	const struct cow_create_options options = { .sectors = DISK_SECTORS, .sector_size = sector_size };
	struct error_text text = { "" };
	struct cow_device *device;

	assert_int_equal(cow_file_create(&device, path, &text), 0);
	assert_int_equal(cow_create(device, &options, &text), 0);
	cow_file_close(device);
}

int fake_setup(void **state)
{
	char path[128];

	fixture_make_dir(&directory);
	snprintf(fake_dir, sizeof(fake_dir), "%s", directory.dir);
	snprintf(path, sizeof(path), "%s/snapshots", fake_dir);
	setenv(DOMAIN_SNAPSHOT_DIR_ENV, path, 1);
	snprintf(path, sizeof(path), "%s/state", fake_dir);
	setenv(STATE_DIR_ENV, path, 1);
	fake = mmap(NULL, sizeof(*fake), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(fake, MAP_FAILED);
	for (unsigned i = 0; i < FAKE_DISKS; i++) {
		fake_store(path, i);
		fake_make_store(path, i ? 512 : 4096);
	}
	fake_start_domain();
	fake->memory = 1;
	return 0;
}

static void count_process(int pid, void *arg)
{
	++*(unsigned *)arg;
}

int fake_teardown(void **state)
{
	unsigned left = 0;
	char command[80];

	if (fake->there)
		fake_stop_domain();
	tapctl_process_list(count_process, &left);
	assert_int_equal(left, 0);
	munmap(fake, sizeof(*fake));
	snprintf(command, sizeof(command), "rm -rf %s", fake_dir);
	return system(command);
}
