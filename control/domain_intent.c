/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_intent.c - the intent file's domain: what it is now, and its
 * destruction, which the intent records; and the intent's end.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "boot_id.h"
#include "domain.h"

int intent_find_domain(struct domain_operation *operation, const json_t *intent, struct domain_id *id)
{
	const json_t *domain = json_object_get(intent, "domain");
	const char *uuid = info_string(domain, "uuid"), *name = info_string(domain, "name");
	struct domain_host *host = operation->host;
	struct error_text reason = { "" };
	int error;

	if (!uuid || !name)
		return error_set(&operation->text, -EBADMSG, INTENT_FILE " is damaged");
	error = host->ops->find(host, uuid, id, &reason);
	if (error) {
		*id = (struct domain_id){ .there = false };
		snprintf(id->uuid, sizeof(id->uuid), "%s", uuid);
	}
	if (!id->name[0])		/* the domain is gone, or xenstored, which has the names, is */
		snprintf(id->name, sizeof(id->name), "%s", name);
	return !error || error == -ENOENT ? 0 : error_set(&operation->text, error, "%s", reason.text);
}

json_t *domain_to_json(const struct domain_id *id)
{
	char boot[BOOT_ID_SIZE];

	boot_id_read(boot);
	return json_pack("{s:s, s:s, s:i, s:s}", "name", id->name, "uuid", id->uuid, "domid", (int)id->domid, "boot", boot);
}

/* Has the domain not been restarted since @domain, by domain_to_json(), was written? */
static bool is_same(const json_t *domain, const struct domain_id *id)
{
	const json_t *domid = json_object_get(domain, "domid");
	const char *then = info_string(domain, "boot");
	char boot[BOOT_ID_SIZE];

	boot_id_read(boot);
	return id->there && json_is_integer(domid) && json_integer_value(domid) == id->domid && then && *then && !strcmp(then, boot);
}

bool intent_is_same(const json_t *intent, const struct domain_id *id)
{
	return is_same(json_object_get(intent, "domain"), id);
}

/* Who only reports the error need not know that the domain is half destroyed: the intent says so. */
int domain_destroy_error(int error)
{
	return error == -EINPROGRESS ? -EIO : error;
}

bool intent_is_torn(const json_t *intent, const struct domain_id *id)
{
	return is_same(json_object_get(intent, "destroying"), id);
}

/*
 * libxl removes a domain's disks and its name before the domain itself. So the intent says first that this begins, and if it
 * is cut short, a recovery must do it again.
 */
int domain_destroy(struct domain_operation *operation, const struct domain_directory *directory, const json_t *intent,
		   const struct domain_id *id)
{
	json_t *noted = json_copy((json_t *)intent);
	int error;

	json_object_set_new(noted, "destroying", domain_to_json(id));
	error = directory_write(directory, INTENT_FILE, noted, &operation->text);
	json_decref(noted);
	if (!error) {
		domain_did(operation, "destroying");
		error = operation->host->ops->destroy(operation->host, id->domid, &operation->text);
	}
	if (error && error != -EINPROGRESS)
		directory_write(directory, INTENT_FILE, intent, NULL);
	return error;
}

int intent_destroy_torn(struct domain_operation *operation, const json_t *intent, struct domain_id *id)
{
	int error = intent_is_torn(intent, id) ? operation->host->ops->destroy(operation->host, id->domid, &operation->text) : -ENOENT;

	if (!error)
		id->there = false;
	return error == -ENOENT ? 0 : domain_destroy_error(error);
}

bool intent_is_phase(const json_t *intent, const char *phase)
{
	const char *at = info_string(intent, "phase");

	return at && !strcmp(at, phase);
}

/* All is done, or all undone: every disk knows the decision, so the decision records are removed, too. */
int domain_remove_intent(const struct domain_directory *directory, struct error_text *text)
{
	int error = tapctl_records_forget(directory->uuid, text);

	return error ? error : directory_remove(directory, INTENT_FILE, text);
}
