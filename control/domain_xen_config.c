/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_config.c - reads the disks from the config file of a domain that
 * is shut off, and boots a domain.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <libxl.h>
#include <libxl_utils.h>
#include <libxlutil.h>

#include "domain.h"

/* Parse the disks as xl does: one disk per string of the list. */
static int read_disks(XLU_Config *file, libxl_domain_config *domain)
{
	XLU_ConfigList *list;
	const char *spec;
	int count = 0;

	if (xlu_cfg_get_list(file, "disk", &list, &count, 1))
		return 0;
	domain->disks = calloc(count + 1, sizeof(*domain->disks));
	if (!domain->disks)
		return -ENOMEM;
	for (int i = 0; i < count; i++) {
		libxl_device_disk *disk = &domain->disks[i];

		libxl_device_disk_init(disk);
		domain->num_disks++;
		spec = xlu_cfg_get_listitem(list, i);
		if (!spec || xlu_disk_parse(file, 1, &spec, disk))
			return -EINVAL;
	}
	return 0;
}

static int read_names(XLU_Config *file, struct domain_id *id)
{
	const char *string;
	libxl_uuid uuid;

	*id = (struct domain_id){ .there = false };
	if (xlu_cfg_get_string(file, "name", &string, 0))
		return -EINVAL;
	snprintf(id->name, sizeof(id->name), "%s", string);
	if (xlu_cfg_get_string(file, "uuid", &string, 1))
		return 0;
	if (libxl_uuid_from_string(&uuid, string))
		return -EINVAL;
	snprintf(id->uuid, sizeof(id->uuid), LIBXL_UUID_FMT, LIBXL_UUID_BYTES(uuid));
	return 0;
}

static char *make_json(XLU_Config *file, const struct domain_id *id)
{
	libxl_domain_config domain;
	char *config = NULL;

	libxl_domain_config_init(&domain);
	domain.c_info.name = strdup(id->name);
	if (!read_disks(file, &domain))
		config = libxl_domain_config_to_json(NULL, &domain);
	libxl_domain_config_dispose(&domain);
	return config;
}

int xen_read_config(struct domain_host *host, const char *path, struct domain_id *id, char **config,
		    struct error_text *text)
{
	char *words = NULL;
	size_t length = 0;
	FILE *report = open_memstream(&words, &length);
	XLU_Config *file = report ? xlu_cfg_init(report, path) : NULL;
	int error = file ? 0 : -ENOMEM;

	*config = NULL;
	if (!error && access(path, R_OK))
		error = -errno;
	else if (!error && xlu_cfg_readfile(file, path))
		error = -EINVAL;
	if (!error)
		error = read_names(file, id);
	if (!error)
		*config = make_json(file, id);
	if (!error && !*config)
		error = -EINVAL;
	if (file)
		xlu_cfg_destroy(file);
	if (report)
		fclose(report);
	if (words)
		words[strcspn(words, "\n")] = '\0';
	if (error)
		error_set(text, error, "%s: %s", path, words && *words ? words : strerror(-error));
	free(words);
	return error;
}

#define MADE "/tmp/xl-snapshot-XXXXXX"

/* A temporary config file, in its own directory. */
struct made {
	char directory[sizeof(MADE)], file[sizeof(MADE) + 8];
};

static void made_remove(const struct made *made)
{
	unlink(made->file);
	rmdir(made->directory);
}

static int made_write(struct made *made, const json_t *info, struct error_text *text)
{
	int error;

	strcpy(made->directory, MADE);
	if (!mkdtemp(made->directory))
		return error_set(text, -errno, "%s: %s", made->directory, strerror(errno));
	snprintf(made->file, sizeof(made->file), "%s/config", made->directory);
	error = config_write(json_object_get(info, "config"), made->file, text);
	if (error)
		made_remove(made);
	return error;
}

int xen_can_boot(struct domain_host *host, const json_t *info, struct error_text *text)
{
	const char *named = info_string(info, "config_file");
	struct domain_id id;
	struct made made;
	char *config;
	int error;

	if (named) {
		error = xen_read_config(host, named, &id, &config, text);
		free(config);
		return error;
	}
	error = made_write(&made, info, text);
	if (!error)
		made_remove(&made);
	return error;
}

/* Boot from the domain's own config file if it is known, otherwise from one written from its configuration. */
int xen_boot(const struct domain_operation *operation, const json_t *info, bool paused, struct error_text *text)
{
	const char *named = info_string(info, "config_file");
	struct made made;
	const char *const arguments[] = { "xl", "create", paused ? "-qp" : "-q", named ? named : made.file, NULL };
	char unwritten[300];
	int error;

	if (named)
		return xl_run(operation, arguments, text);
	error = made_write(&made, info, text);
	if (error)
		return error;
	error = xl_run(operation, arguments, text);
	made_remove(&made);
	config_unwritten(json_object_get(info, "config"), unwritten, sizeof(unwritten));
	return error || !unwritten[0] ? error : error_set(text, 0, DOMAIN_UNWRITTEN, unwritten);
}
