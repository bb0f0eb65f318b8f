/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-check.c - `tap-img check`.
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

static int check_result(const struct cow_check *check, const struct cow_check *before, bool repaired,
			const struct check_report *report)
{
	if (report->json)
		image_print_json(json_pack("{s:I, s:I, s:I, s:I, s:b, s:O}", "corruptions", (json_int_t)check->errors, "leaks",
					   (json_int_t)check->leaks, "mapped", (json_int_t)(check->mapped * 4096), "metadata",
					   (json_int_t)(check->metadata * 4096), "repaired", repaired, "problems", report->problems));
	else if (repaired)
		printf("%" PRIu64 " leaked blocks freed\n", before->leaks);
	else if (!check->errors && !check->leaks)
		printf("No errors were found: %" PRIu64 " bytes of data, %" PRIu64 " of maps and tables.\n",
		       check->mapped * 4096, check->metadata * 4096);
	else
		printf("%" PRIu64 " errors, %" PRIu64 " leaked blocks\n", check->errors, check->leaks);
	return check->errors ? EXIT_CORRUPT : check->leaks ? EXIT_LEAKS : 0;
}

static int run_check(const struct image_command *command, int argc, char **argv)
{
	static const struct option options[] = {
		{ "repair", no_argument, NULL, 'r' }, { "progress", no_argument, NULL, 'p' }, COMMON_OPTIONS
	};
	json_auto_t *problems = json_array();
	struct check_report report = { .problems = problems };
	struct cow_check check = { .report = report_line, .progress = report_progress, .owner = &report }, before;
	struct error_text error = { "" };
	bool repair = false, repaired = false, always = false;
	struct image image;
	int letter, ret, ret_close;

	while ((letter = image_getopt(command, argc, argv, "rph", options)) != -1) {
		repair = repair || letter == 'r';
		always = always || letter == 'p';
		report.json = report.json || letter == JSON_LETTER;
	}
	image_arguments(command, argc, 1);
	ret = image_open(&image, argv[optind], !repair, &error);
	/* A store too damaged to open is corrupt; one that is missing or in use could not be checked. */
	if (ret) {
		image_fail(ret, &error);
		return ret == -EUCLEAN ? EXIT_CORRUPT : 1;
	}
	progress_begin(&report.progress, "check", always);
	ret = cow_check(image.store, &check, repair);
	before = check;
	if (!ret && repair && check.leaks && !check.errors) {
		repaired = true;
		ret = cow_check(image.store, &check, false);
	}
	progress_end(&report.progress);
	if (ret)
		error_set(&error, ret, "%s: the check could not be finished: %s", argv[optind], strerror(-ret));
	ret_close = image_close(&image, &error);
	if (ret || ret_close)
		return image_fail(ret ? ret : ret_close, &error);
	return check_result(&check, &before, repaired, &report);
}

const struct image_command command_check = {
	.name = "check", .usage = "[-r] [-p] PATH", .help = "check all maps, tables and checksums",
	.options = "  -r, --repair  free leaked blocks\n  -p, --progress  show it even without a terminal\n"
		"exit status 0: fine, 1: not checked, 2: damaged, 3: blocks leaked, "
		"no other damage\n",
	.run = run_check,
};
