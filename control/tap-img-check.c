/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-check.c - `tap-img check`. The first pass writes nothing. Only what
 * it finds decides whether -r opens the store for writing, which alone is a
 * change: the log is replayed, prepared snapshots are settled.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tap-img.h"
#include "tapctl.h"

#define REPORT_LINES 40

struct check_report {
	unsigned lines;
	bool json;
	json_t *problems;	/* the lines, then */
	struct progress progress;
};

static void report_line(void *owner, const char *text)
{
	struct check_report *report = owner;

	if (report->lines++ >= REPORT_LINES)
		return;
	if (report->json) {
		json_array_append_new(report->problems, tapctl_text_json(text));
		return;
	}
	progress_end(&report->progress);
	fprintf(stderr, "%s\n", text);
	if (report->lines == REPORT_LINES)
		fprintf(stderr, "(further problems are not shown)\n");
}

static int report_progress(void *owner, uint64_t done, uint64_t total)
{
	struct check_report *report = owner;

	return progress_step(&report->progress, done * 4096, total * 4096);
}

struct checking {
	const char *path;
	struct check_report report;
	bool always;			/* -p */
	struct cow_check check;		/* of the last pass */
	unsigned prepared, settled;
	uint64_t freed;
	bool rewritten;			/* a damaged copy of the superblock */
};

/* -r has changed the store. */
static bool is_repaired(const struct checking *checking)
{
	return checking->rewritten || checking->freed || checking->settled;
}

static void check_print(const struct checking *checking, uint64_t errors)
{
	const struct cow_check *check = &checking->check;

	if (checking->rewritten)
		printf("the damaged copy of the superblock is written anew\n");
	if (checking->freed)
		printf("%" PRIu64 " leaked blocks freed\n", checking->freed);
	if (checking->settled)
		printf("%u prepared snapshots settled\n", checking->settled);
	if (errors || check->leaks)
		printf("%" PRIu64 " errors, %" PRIu64 " leaked blocks\n", errors, check->leaks);
	else if (!is_repaired(checking))
		printf("No errors were found: %" PRIu64 " bytes of data, %" PRIu64 " of maps and tables.\n",
		       check->mapped * 4096, check->metadata * 4096);
}

static int check_result(const struct checking *checking)
{
	const struct cow_check *check = &checking->check;
	uint64_t errors = check->errors + check->copies;

	if (checking->report.json)
		image_print_json(json_pack("{s:I, s:I, s:I, s:I, s:b, s:O}", "corruptions", (json_int_t)errors, "leaks",
					   (json_int_t)check->leaks, "mapped", (json_int_t)(check->mapped * 4096), "metadata",
					   (json_int_t)(check->metadata * 4096), "repaired", is_repaired(checking),
					   "problems", checking->report.problems));
	else
		check_print(checking, errors);
	return errors ? EXIT_CORRUPT : check->leaks ? EXIT_LEAKS : 0;
}

/* Without a report: the first pass has named them. */
static int leaks_free(struct checking *checking, struct cow_store *store)
{
	struct cow_check check = { .progress = report_progress, .owner = &checking->report };
	int ret = cow_check(store, &check, true);

	if (!ret && !check.errors)
		checking->freed = check.leaks;
	return ret;
}

/*
 * @mend: what the pass before this one has found is mended, and then all is checked again. Opened for writing, the
 * store has both copies of the superblock anew.
 */
static int check_pass(struct checking *checking, bool mend, struct error_text *error)
{
	bool copies = checking->check.copies;
	struct image image;
	int ret = image_open(&image, checking->path, !mend, error), ret_close;

	if (ret)
		return ret;
	checking->prepared = image.prepared;
	checking->settled = mend ? image.prepared : 0;	/* by image_open() */
	progress_begin(&checking->report.progress, "check", checking->always);
	if (mend && checking->check.leaks)
		ret = leaks_free(checking, image.store);
	if (!ret)
		ret = cow_check(image.store, &checking->check, false);
	checking->rewritten = mend && !ret && copies && !checking->check.copies;
	progress_end(&checking->report.progress);
	if (ret)
		error_set(error, ret, "%s: the check could not be finished: %s", checking->path, strerror(-ret));
	ret_close = image_close(&image, error);
	return ret ? ret : ret_close;
}

/* Nothing is, in a store with other damage: what a checkpoint takes for free may be in use. */
static bool can_be_mended(const struct checking *checking)
{
	return !checking->check.errors && (checking->check.copies || checking->check.leaks || checking->prepared);
}

static int run_check(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "repair", no_argument, NULL, 'r' }, { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	json_auto_t *problems = json_array();
	struct checking checking = { .report.problems = problems,
		.check = { .report = report_line, .progress = report_progress, .owner = &checking.report } };
	struct error_text error = { "" };
	bool repair = false;
	int letter, ret;

	while ((letter = image_getopt(command, argc, argv, "rph", options)) != -1) {
		repair = repair || letter == 'r';
		checking.always = checking.always || letter == 'p';
		checking.report.json = checking.report.json || letter == JSON_LETTER;
	}
	image_arguments(command, argc, 1);
	checking.path = argv[optind];
	ret = check_pass(&checking, false, &error);
	if (!ret && repair && can_be_mended(&checking))
		ret = check_pass(&checking, true, &error);
	if (!ret)
		return check_result(&checking);
	image_fail(ret, &error);
	/* A store too damaged to open is corrupt; one that is missing or in use could not be checked. */
	return ret == -EUCLEAN ? EXIT_CORRUPT : 1;
}

const struct image_command command_check = {
	.name = "check", .usage = "[-r] [-p] PATH", .help = "check all maps, tables and checksums",
	.options = "  -r, --repair  free leaked blocks, rewrite a damaged superblock, settle prepared snapshots\n"
		"  -p, --progress  show it even without a terminal\n"
		"exit status 0: fine, 1: not checked, 2: damaged, 3: blocks leaked, "
		"no other damage\n",
	.run = run_check,
};
