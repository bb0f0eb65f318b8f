/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_parts.c - removes the parts of a snapshot, when it is deleted or its
 * create is undone: its information, its memory and its disks' snapshots.
 */
#include <fcntl.h>
#include <unistd.h>

#include "domain.h"

int domain_remove_info(struct domain_operation *operation, const struct domain_directory *directory, const char *name)
{
	char file[NAME_MAX + 1];

	info_file(file, name);
	return directory_remove(directory, file, &operation->text);
}

int domain_remove_save(struct domain_operation *operation, const struct domain_directory *directory, const char *name)
{
	char file[NAME_MAX + 1];
	int error;

	info_save_file(file, name, true);
	error = directory_remove(directory, file, &operation->text);
	info_save_file(file, name, false);
	return error ? error : directory_remove(directory, file, &operation->text);
}

void domain_remove_directory(const struct domain_directory *directory, bool aside)
{
	struct error_text damaged = { "" };
	json_t *left;
	bool kept = !aside && !faccessat(directory->fd, INTENT_ASIDE, F_OK, 0);

	if (kept || info_read_all(directory, &left, &damaged, NULL))
		return;
	if (!json_array_size(left) && !damaged.text[0] && !directory_remove(directory, INTENT_ASIDE, NULL) &&
	    !directory_remove(directory, STATE_FILE, NULL))
		directory_remove_empty(directory);
	json_decref(left);
}

/*
 * Move raw disks back from the stores of a create that is undone, and remove stores that none has moved to. A failure is
 * harmless, and @text reports it.
 */
static void move_back(struct domain_disks *disks, const json_t *info, struct error_text *text)
{
	const json_t *vdev;
	size_t i;

	json_array_foreach(json_object_get(info, "moves"), i, vdev) {
		const struct domain_disk *disk = disks_find(disks, json_string_value(vdev));

		if (disk)
			disk_move_back(disk, info_string(info, "stores"), text);
	}
}

int domain_delete_disks(struct domain_operation *operation, const json_t *info, json_int_t since)
{
	struct domain_disks disks = { .adopt = operation->adopts, .give_up = domain_is_forced(operation) };
	int error = disks_from_info(&disks, info, &operation->text);

	if (!error)
		error = disks_open(&disks, &operation->text);
	if (!error)
		error = disks_delete_snapshot(&disks, info_string(info, "name"), since, &operation->text);
	if (!error)
		move_back(&disks, info, &operation->text);
	disks_close(&disks);
	disks_free(&disks);
	return error;
}
