/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xl-snapshot.h - shared by the files of xl-snapshot.
 */
#ifndef TAPSNAP_XL_SNAPSHOT_H
#define TAPSNAP_XL_SNAPSHOT_H

#include "domain-snapshot.h"

#define MAX_LEFT_OUT 64

struct arguments;
struct command {
	const char *name;
	enum domain_snapshot_command does;
	const char *options;		/* letters of its options */
	const char *words;		/* its arguments, for the usage */
	int nr_words;
	const char *summary;
	void (*print)(const struct arguments *args, const struct domain_snapshot_result *result);
};

struct arguments {
	const struct command *command;
	struct domain_snapshot_request request;
	const char *left_out[MAX_LEFT_OUT + 1];
	unsigned nr_left_out;
	bool json, tree, longer;
};

/* xl-snapshot-options.c. A usage error prints a message and ends the program with EINVAL. */
void options_parse(const struct command *command, struct arguments *args, int argc, char **argv);

/* xl-snapshot-print.c */
void print_created(const struct arguments *args, const struct domain_snapshot_result *result);
void print_list(const struct arguments *args, const struct domain_snapshot_result *result);
void print_show(const struct arguments *args, const struct domain_snapshot_result *result);
void print_current(const struct arguments *args, const struct domain_snapshot_result *result);
void print_parent(const struct arguments *args, const struct domain_snapshot_result *result);
void print_reverted(const struct arguments *args, const struct domain_snapshot_result *result);
void print_deleted(const struct arguments *args, const struct domain_snapshot_result *result);
void print_cloned(const struct arguments *args, const struct domain_snapshot_result *result);
void print_nothing(const struct arguments *args, const struct domain_snapshot_result *result);
/* The result as JSON. */
void print_json(const struct arguments *args, const struct domain_snapshot_result *result);

#endif
