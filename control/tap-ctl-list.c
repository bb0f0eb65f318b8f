/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-list.c - tap-ctl list: joins disks, processes and markers, so that
 * incomplete ones are listed, too.
 *
 * A row has pid and minor if a tapdisk has the disk; a process without a disk
 * has only pid, a marker without a process only minor. A filter excludes the
 * rows that lack its member.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tap-ctl.h"

#define LIST_TIMEOUT_MS 10000

struct list {
	const struct arguments *args;
	json_t *rows;			/* of processes and their disks, then of lone markers */
	json_t *unresponsive;		/* pids of tapdisks that did not answer */
	int error;
};

static bool string_is(const json_t *row, const char *name, const char *wanted)
{
	const char *value = json_string_value(json_object_get(row, name));

	return !wanted || (value && !strcmp(value, wanted));
}

static bool number_is(const json_t *row, const char *name, int wanted)
{
	const json_t *value = json_object_get(row, name);

	return wanted == -1 || (value && json_integer_value(value) == wanted);
}

static void add_row(struct list *list, json_t *row)
{
	if (!row || json_array_append_new(list->rows, row))
		list->error = -ENOMEM;
}

static void add_process(int pid, void *arg)
{
	struct list *list = arg;
	struct error_text text = { "" };
	json_t *reply, *disks, *row;
	size_t i;
	int error;

	error = call_tapdisk(pid, call_request("list", -1), LIST_TIMEOUT_MS, &reply, &text);
	if (error == -ENOENT || error == -ECONNREFUSED || error == -EPIPE)
		return;		/* it has ended since it was listed */
	if (error == -ENOMEM) {
		list->error = error;
		return;
	}
	if (error) {
		fprintf(stderr, "tap-ctl: list: %s\n", text.text);
		json_array_append_new(list->unresponsive, json_integer(pid));
	}
	disks = json_object_get(reply, "disks");
	if (!json_array_size(disks))
		add_row(list, json_pack("{s:i}", "pid", pid));
	for (i = 0; i < json_array_size(disks); i++) {
		row = json_pack("{s:i}", "pid", pid);
		if (row && json_object_update(row, json_array_get(disks, i)))
			list->error = -ENOMEM;
		add_row(list, row);
	}
	json_decref(reply);
}

static bool is_unresponsive(const struct list *list, int pid)
{
	size_t i;

	for (i = 0; i < json_array_size(list->unresponsive); i++) {
		if (json_integer_value(json_array_get(list->unresponsive, i)) == pid)
			return true;
	}
	return false;
}

static void add_marker(int minor, int locked_by, void *arg)
{
	struct list *list = arg;
	size_t i;

	for (i = 0; i < json_array_size(list->rows); i++) {
		if (number_is(json_array_get(list->rows, i), "minor", minor))
			return;
	}
	/* its tapdisk does not answer, but the lock shows the disk */
	if (is_unresponsive(list, locked_by))
		add_row(list, json_pack("{s:i, s:i}", "pid", locked_by, "minor", minor));
	else
		add_row(list, json_pack("{s:i}", "minor", minor));
}

static json_t *filter_rows(const struct arguments *args, const json_t *rows)
{
	json_t *wanted = json_array();
	json_t *row;
	size_t i;

	for (i = 0; i < json_array_size(rows); i++) {
		row = json_array_get(rows, i);
		if (number_is(row, "pid", args->pid) && number_is(row, "minor", args->minor) &&
		    string_is(row, "type", args->type) && string_is(row, "path", args->file))
			json_array_append(wanted, row);
	}
	return wanted;
}

static int run_list(const struct arguments *args, json_t *result, struct error_text *text)
{
	struct list list = { .args = args, .rows = json_array(), .unresponsive = json_array() };

	int error = tapctl_process_list(add_process, &list);

	if (!error)
		error = tapctl_minor_list(add_marker, &list);
	if (error)
		list.error = error;
	if (list.error)
		error_set(text, list.error, "%s: %s", tapctl_run_dir(), strerror(-list.error));
	else if (json_object_set_new(result, "tapdisks", filter_rows(args, list.rows)) ||
		 json_object_set(result, "unresponsive", list.unresponsive))
		list.error = -ENOMEM;
	json_decref(list.rows);
	json_decref(list.unresponsive);
	return list.error;
}

/* A line in blktap's format, without unknown members. */
static void print_fields(const json_t *row)
{
	const char *type = json_string_value(json_object_get(row, "type"));
	const char *path = json_string_value(json_object_get(row, "path"));
	const json_t *pid = json_object_get(row, "pid");
	const json_t *minor = json_object_get(row, "minor");
	const json_t *state = json_object_get(row, "state");
	const char *separator = "";

	if (pid) {
		printf("pid=%lld", (long long)json_integer_value(pid));
		separator = " ";
	}
	if (minor) {
		printf("%sminor=%lld", separator, (long long)json_integer_value(minor));
		separator = " ";
	}
	if (state)
		printf("%sstate=%#llx", separator, (long long)json_integer_value(state));
	if (type && path)
		printf("%sargs=%s:%s", separator, type, path);
	putchar('\n');
}

static void print_number(const json_t *number, int width)
{
	if (number)
		printf("%*lld  ", width, (long long)json_integer_value(number));
	else
		printf("%*s  ", width, "-");
}

static const char *describe_row(const json_t *row)
{
	const json_t *state = json_object_get(row, "state");

	if (json_is_true(json_object_get(json_object_get(row, "on_error"), "stopped")))
		return "stopped";	/* by an error */
	if (json_is_true(json_object_get(row, "no_space")))
		return "no space";
	if (json_is_false(json_object_get(row, "answering")))
		return "not answering";	/* the device */
	if (state)
		return print_state_name((unsigned)json_integer_value(state));
	if (!json_object_get(row, "pid"))
		return "no process";
	return json_object_get(row, "minor") ? "no answer" : "no disk";
}

static void print_columns(const json_t *row)
{
	const char *target = json_string_value(json_object_get(row, "target"));
	const json_t *sectors = json_object_get(row, "sectors");
	char size[32] = "-";

	if (sectors)
		print_size(size, sizeof(size), json_integer_value(sectors));
	print_number(json_object_get(row, "pid"), 7);
	print_number(json_object_get(row, "minor"), 5);
	printf("%-13s  %9s  %5zu  %s\n", describe_row(row), size, json_array_size(json_object_get(row, "connections")),
	       target ? target : "-");
}

static void print_list(const json_t *result, bool terminal)
{
	const json_t *rows = json_object_get(result, "tapdisks");
	size_t i;

	if (terminal)
		printf("%7s  %5s  %-13s  %9s  %5s  %s\n", "PID", "MINOR", "STATE", "SIZE", "USERS", "IMAGE");
	for (i = 0; i < json_array_size(rows); i++) {
		if (terminal)
			print_columns(json_array_get(rows, i));
		else
			print_fields(json_array_get(rows, i));
	}
}

const struct command command_list = {
	.name = "list", .options = "pmtf", .required = "", .words = "",
	.summary = "show tapdisk processes, their disks, and minors without either",
	.run = run_list, .print = print_list,
};
