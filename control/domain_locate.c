/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_locate.c - finds the domain that a request names: one that exists,
 * one whose config file is named, or one that is shut off and has snapshots.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"

struct search {
	const char *domain;		/* name or uuid */
	struct domain_id found;
	unsigned count;
};

static int look_at(const char *uuid, void *owner)
{
	struct search *search = owner;
	struct domain_directory directory;
	json_t *intent = NULL;
	const char *name;
	char *known = directory_open(&directory, uuid, false, NULL) ? NULL : info_domain_name(&directory);

	if (!known && directory.fd >= 0)		/* its first create was killed */
		directory_read(&directory, INTENT_FILE, &intent, NULL);
	name = known ? known : info_string(json_object_get(intent, "domain"), "name");
	directory_close(&directory);
	if (!strcmp(uuid, search->domain) || (name && !strcmp(name, search->domain))) {
		search->count++;
		snprintf(search->found.uuid, sizeof(search->found.uuid), "%s", uuid);
		snprintf(search->found.name, sizeof(search->found.name), "%s", name ? name : uuid);
	}
	json_decref(intent);
	free(known);
	return 0;
}

/* Search the domains that have snapshots. 0, -ENOENT, -EEXIST: there are several. */
static int find_directory(const char *domain, struct domain_id *id)
{
	struct search search = { .domain = domain };
	int error = directory_each(look_at, &search);

	if (error)
		return error;
	*id = search.found;
	return search.count == 1 ? 0 : search.count ? -EEXIST : -ENOENT;
}

/*
 * No domain with this uuid exists. If a domain of that name runs with another uuid, its disks are in use, so the old snapshots
 * can only be listed and deleted.
 */
static int check_not_there(struct domain_operation *operation)
{
	enum domain_snapshot_command command = operation->request->command;
	const struct domain_id *id = &operation->id;
	struct error_text reason = { "" };
	struct domain_id other;
	int error;

	if (command != DOMAIN_SNAPSHOT_CREATE && command != DOMAIN_SNAPSHOT_REVERT)
		return 0;
	error = operation->host->ops->find(operation->host, id->name, &other, &reason);
	if (error)
		return error == -ENOENT ? 0 : error_set(&operation->text, error, "%s", reason.text);
	if (strcmp(other.name, id->name))
		return 0;
	return error_set(&operation->text, -ENOENT, "domain %s is running with uuid %s, not %s; put uuid=\"%s\" into its "
			 "configuration, and restart it", id->name, other.uuid, id->uuid, id->uuid);
}

static int locate_config(struct domain_operation *operation, char **config)
{
	const char *path = operation->request->domain;
	struct domain_host *host = operation->host;
	struct domain_id *id = &operation->id, there;
	int error = host->ops->read_config(host, path, id, config, &operation->text);

	if (!error && !id->uuid[0] && find_directory(id->name, id))
		error = error_set(&operation->text, -EINVAL, "%s: has no uuid, so each start creates a domain with a new one; "
				  "add a line like uuid=\"...\" (uuidgen makes one)", path);
	if (error)
		return error;
	error = host->ops->find(host, id->uuid, &there, NULL);
	if (!error)
		*id = there;
	if (error == -ENOENT)
		return check_not_there(operation);
	return error ? error_set(&operation->text, error, "%s: %s", path, strerror(-error)) : 0;
}

/* Find it by its name at its last snapshot; it may have another name now. */
static int locate_directory(struct domain_operation *operation)
{
	const char *domain = operation->request->domain;
	struct domain_host *host = operation->host;
	struct domain_id there;
	int error = find_directory(domain, &operation->id);

	if (error == -EEXIST)
		return error_set(&operation->text, error, "several domains called %s have snapshots; name one by its uuid, a "
				 "directory in %s", domain, directory_root());
	if (error)
		return error_set(&operation->text, error, "there is no domain '%s', and no shut off one with snapshots; the "
				 "path of a config file can also be given", domain);
	error = host ? host->ops->find(host, operation->id.uuid, &there, &operation->text) : -ENOENT;
	if (error && error != -ENOENT)
		return error;
	operation->text.text[0] = '\0';
	if (!error)
		operation->id = there;
	return error && host ? check_not_there(operation) : 0;
}

/* A domain without a uuid in its config file gets a new one at each start, and its snapshots stay with the old one. */
static int check_uuid(struct domain_operation *operation)
{
	struct domain_id *id = &operation->id, other;
	struct domain_directory directory;
	int error = directory_open(&directory, id->uuid, false, NULL);

	directory_close(&directory);
	if (!error || operation->request->command == DOMAIN_SNAPSHOT_CREATE || find_directory(id->name, &other))
		return 0;
	return error_set(&operation->text, -ENOENT, "domain %s has a new uuid %s, without snapshots; name the domain by its "
			 "old uuid %s to reach its snapshots, and put uuid=\"%s\" into its configuration to keep it", id->name,
			 id->uuid, other.uuid, other.uuid);
}

int domain_locate(struct domain_operation *operation, char **config)
{
	const char *domain = operation->request->domain;
	struct domain_host *host = operation->host;
	struct error_text reason = { "" };
	int error = -ENOENT;

	*config = NULL;
	operation->id = (struct domain_id){ .there = false };
	if (strchr(domain, '/') && host)
		return locate_config(operation, config);
	if (host)
		error = host->ops->find(host, domain, &operation->id, &reason);
	if (!error)
		return check_uuid(operation);
	return error == -ENOENT ? locate_directory(operation) : error_set(&operation->text, error, "%s", reason.text);
}
