/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-snapshot.c - `tap-img snapshot`. Delete and revert also free the
 * space before they end, because no tapdisk runs to do it later.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "tap-img.h"

struct snapshot_arguments {
	int action;			/* the option l, c, a or d; 0: none yet */
	const char *name, *description;
	bool json, progress;
};

static int list_one(void *owner, const struct snapshot_info *info)
{
	json_t *list = owner;
	char when[32] = "-";
	time_t time = info->time;
	struct tm tm;

	if (list)
		return json_array_append_new(list, json_pack("{s:i, s:i, s:s, s:s, s:I, s:I, s:b}", "id", info->id, "parent",
							     info->parent, "name", info->name, "description",
							     info->description, "time", (json_int_t)info->time,
							     "virtual-size", (json_int_t)(info->sectors * SECTOR_SIZE),
							     "current", info->current)) ? -ENOMEM : 0;
	if (localtime_r(&time, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	printf("%c %-6u %-6u %-20s %16" PRIu64 " %-24s %s\n", info->current ? '*' : ' ', info->id, info->parent, when,
	       info->sectors * SECTOR_SIZE, info->name, info->description);
	return 0;
}

static int list_all(const char *target, bool json, struct error_text *error)
{
	json_auto_t *list = json ? json_array() : NULL;
	struct image image;
	int ret;

	ret = image_open(&image, target, true, error);
	if (ret)
		return ret;
	if (!json)
		printf("  %-6s %-6s %-20s %16s %-24s %s\n", "ID", "PARENT", "TIME", "SIZE", "NAME", "DESCRIPTION");
	ret = cow_snapshot_list(image.store, list_one, list);
	if (ret)
		error_set(error, ret, "%s: out of memory", target);
	if (json && !ret)
		image_print_json(json_incref(list));
	image_close(&image, error);
	return ret;
}

/* Free the space. If this is interrupted, the next program that opens the store, a tapdisk or tap-img, continues. */
static int give_back(struct image *image, const char *what, bool always, struct error_text *error)
{
	uint64_t total = cow_delete_left(image->store), left;
	struct progress progress;
	int ret;

	progress_begin(&progress, what, always);
	do {
		ret = cow_delete_step(image->store);
		left = cow_delete_left(image->store);
		total = left > total ? left : total;	/* one deletion may start the next */
		if (ret >= 0 && progress_step(&progress, total - left, total))
			ret = ret ? -EINTR : 0;
	} while (ret > 0);
	progress_end(&progress);
	if (ret == -EINTR)
		return error_set(error, ret, "%s: interrupted: it is done, but not all of the space is freed yet",
				 image->device->name);
	return ret ? error_set(error, ret, "%s: space could not be freed: %s", image->device->name, strerror(-ret)) : 0;
}

/* Check for errors before opening the store for writing, which already changes it. */
static int look(const struct snapshot_arguments *arguments, const char *target, struct error_text *error)
{
	struct image image;
	int ret, ret_close;

	ret = image_open(&image, target, true, error);
	if (ret)
		return ret;
	if (cow_prepared_count(image.store))
		ret = 0;		/* the next open settles what is prepared; only then its snapshots are known */
	else if (arguments->action == 'c')
		ret = cow_snapshot_check_new(image.store, arguments->name, arguments->description, error);
	else
		ret = cow_snapshot_check_there(image.store, arguments->name, error);
	ret_close = image_close(&image, error);
	return ret ? ret : ret_close;
}

static int change(const struct snapshot_arguments *arguments, const char *target, struct error_text *error)
{
	struct image image;
	int ret, ret_close;

	ret = image_open(&image, target, false, error);
	if (ret)
		return ret;
	if (arguments->action == 'c')
		ret = cow_snapshot_create(image.store, arguments->name, arguments->description, error);
	else if (arguments->action == 'a')
		ret = cow_snapshot_revert(image.store, arguments->name, error);
	else
		ret = cow_snapshot_delete(image.store, arguments->name, error);
	if (!ret && arguments->action != 'c')
		ret = give_back(&image, arguments->action == 'a' ? "apply" : "delete", arguments->progress, error);
	ret_close = image_close(&image, error);
	return ret ? ret : ret_close;
}

static void arguments_read(const struct image_command *command, int argc, char **argv,
			   struct snapshot_arguments *arguments)
{
	static const struct option options[] = {
		{ "list", no_argument, NULL, 'l' }, { "create", required_argument, NULL, 'c' },
		{ "apply", required_argument, NULL, 'a' }, { "delete", required_argument, NULL, 'd' },
		{ "description", required_argument, NULL, 'D' }, { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	int letter, actions = 0;

	while ((letter = image_getopt(command, argc, argv, "lc:a:d:D:ph", options)) != -1) {
		if (letter == 'D') {
			arguments->description = optarg;
		} else if (letter == JSON_LETTER) {
			arguments->json = true;
		} else if (letter == 'p') {
			arguments->progress = true;
		} else {
			arguments->action = letter;
			arguments->name = optarg;
			actions++;
		}
	}
	if (actions > 1)
		image_misused(command, "only one of -l, -c, -a and -d at a time");
	if (arguments->description && arguments->action != 'c')
		image_misused(command, "-D needs -c NAME");
	if (!arguments->action)
		arguments->action = 'l';
	image_arguments(command, argc, 1);
}

static int run_snapshot(const struct image_command *command, int argc, char **argv)
{
	struct snapshot_arguments arguments = { 0 };
	struct error_text error = { "" };
	int ret;

	arguments_read(command, argc, argv, &arguments);
	if (arguments.action == 'l') {
		ret = list_all(argv[optind], arguments.json, &error);
		return ret ? image_fail(ret, &error) : 0;
	}
	ret = look(&arguments, argv[optind], &error);
	if (!ret)
		ret = change(&arguments, argv[optind], &error);
	if (ret)
		return image_fail(ret, &error);
	if (arguments.json)
		image_print_json(json_pack("{s:s}", "name", arguments.name));
	return 0;
}

const struct image_command command_snapshot = {
	.name = "snapshot", .usage = "[-l | -c NAME [-D TEXT] | -a NAME | -d NAME] [-p] PATH",
	.help = "list, create, apply (revert to) or delete snapshots",
	.options = "  -l, --list  (default)\n  -c, --create NAME\n  -D, --description TEXT\n"
		"  -a, --apply NAME  revert the disk to it; what was written since is lost\n  -d, --delete NAME\n"
		"  -p, --progress  show it even without a terminal\n",
	.run = run_snapshot,
};
