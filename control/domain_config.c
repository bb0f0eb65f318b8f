/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_config.c - writes a config file for `xl create` from libxl's JSON,
 * which that does not read, for domains that boot from a snapshot of disks.
 *
 * It has the domain's basic settings, disks and network; other kinds of
 * devices are refused, and a comment lists other settings. Snapshots with
 * memory do not need it: a save file contains the JSON.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "array.h"
#include "domain.h"

/* Strings: libxl's name, and the name in a config file. */
static const struct {
	const char *group, *key, *name;
} strings[] = {
	{ "c_info", "name", "name" }, { "c_info", "uuid", "uuid" }, { "c_info", "type", "type" },
	{ "c_info", "pool_name", "pool" }, { "b_info", "kernel", "kernel" }, { "b_info", "ramdisk", "ramdisk" },
	{ "b_info", "cmdline", "cmdline" }, { "b_info", "bootloader", "bootloader" }, { "b_info", "tsc_mode", "tsc_mode" },
	{ NULL, "on_poweroff", "on_poweroff" }, { NULL, "on_reboot", "on_reboot" }, { NULL, "on_watchdog", "on_watchdog" },
	{ NULL, "on_crash", "on_crash" }, { NULL, "on_soft_reset", "on_soft_reset" },
};

/* Members of b_info that are written elsewhere, or computed at each start. */
static const char *const others[] = {
	"max_vcpus", "avail_vcpus", "max_memkb", "target_memkb", "shadow_memkb", "iommu_memkb", "video_memkb", "claim_mode",
	"sched_params", "type.pv", "type.pvh", "type.hvm", "arch_arm", "arch_x86", "device_model_version", "disable_migrate",
};

static const json_t *group_of(const json_t *config, const char *group)
{
	return group ? json_object_get(config, group) : config;
}

/* A config file cannot express a quote or a newline. */
static bool can_be_quoted(const char *string)
{
	return !strpbrk(string, "\"\n\\");
}

static int write_strings(const json_t *config, FILE *file, struct error_text *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		const char *value = info_string(group_of(config, strings[i].group), strings[i].key);
		bool action = !strncmp(strings[i].name, "on_", 3);

		if (!value)
			continue;
		if (!can_be_quoted(value))
			return error_set(text, -EOPNOTSUPP, "the domain's %s has characters that a config file cannot hold",
					 strings[i].name);
		fprintf(file, "%s = \"", strings[i].name);
		for (; *value; value++)
			fputc(action && *value == '_' ? '-' : *value, file);
		fputs("\"\n", file);
	}
	return 0;
}

static void write_numbers(const json_t *config, FILE *file)
{
	const json_t *b_info = json_object_get(config, "b_info"), *value;
	size_t online = json_array_size(json_object_get(b_info, "avail_vcpus"));

	value = json_object_get(b_info, "target_memkb");
	if (!value)
		value = json_object_get(b_info, "max_memkb");
	if (value)
		fprintf(file, "memory = %" PRId64 "\n", (int64_t)json_integer_value(value) / 1024);
	value = json_object_get(b_info, "max_memkb");
	if (value)
		fprintf(file, "maxmem = %" PRId64 "\n", (int64_t)json_integer_value(value) / 1024);
	value = json_object_get(b_info, "max_vcpus");
	if (value)
		fprintf(file, "maxvcpus = %" PRId64 "\nvcpus = %zu\n", (int64_t)json_integer_value(value),
			online ? online : (size_t)json_integer_value(value));
}

static bool is_set(const json_t *device, const char *key)
{
	const json_t *value = json_object_get(device, key);

	return json_is_true(value) || json_integer_value(value);
}

/* The target comes last, because xl takes the rest of the string for it. */
static int write_disk(const json_t *device, FILE *file, struct error_text *text)
{
	static const char *const keys[][2] = { { "backend", "backendtype" }, { "format", "format" }, { "vdev", "vdev" },
					       { "script", "script" } };
	const char *path = info_string(device, "pdev_path");

	if (path && (!can_be_quoted(path) || strchr(path, '\'')))
		return error_set(text, -EOPNOTSUPP, "%s: a config file cannot hold this path", path);
	fputs("    '", file);
	for (size_t i = 0; i < 4; i++) {
		const char *value = info_string(device, keys[i][0]);

		if (value && strcmp(value, "unknown") != 0)
			fprintf(file, "%s=%s,", keys[i][1], value);
	}
	fprintf(file, "access=%s%s%s,target=%s',\n", is_set(device, "readwrite") ? "rw" : "ro",
		is_set(device, "is_cdrom") ? ",devtype=cdrom" : "", is_set(device, "direct_io_safe") ? ",direct-io-safe" : "",
		path ? path : "");
	return 0;
}

static void write_nic(const json_t *device, FILE *file)
{
	static const char *const keys[] = { "mac", "bridge", "script", "model", "ip", "type" };
	const char *comma = "";

	fputs("    '", file);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = info_string(device, keys[i]);

		if (!value || !can_be_quoted(value))
			continue;
		fprintf(file, "%s%s=%s", comma, keys[i], value);
		comma = ",";
	}
	fputs("',\n", file);
}

static int write_devices(const json_t *config, FILE *file, struct error_text *text)
{
	const json_t *value, *device;
	const char *key;
	int error = 0;
	size_t i;

	json_object_foreach((json_t *)config, key, value) {
		if (json_is_array(value) && json_array_size(value) && strcmp(key, "disks") != 0 && strcmp(key, "nics") != 0)
			return error_set(text, -EOPNOTSUPP, "the domain has devices (%s) that cannot be written to a config file here", key);
	}
	fputs("disk = [\n", file);
	json_array_foreach(json_object_get(config, "disks"), i, device) {
		if (!error)
			error = write_disk(device, file, text);
	}
	fputs("]\nvif = [\n", file);
	json_array_foreach(json_object_get(config, "nics"), i, device)
		write_nic(device, file);
	fputs("]\n", file);
	return error;
}

static bool is_written(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (!strcmp(others[i], key))
			return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
		if (strings[i].group && !strcmp(strings[i].key, key))
			return true;
	}
	return false;
}

static void write_rest(const json_t *config, FILE *file)
{
	json_t *value;
	const char *key;

	json_object_foreach(json_object_get(config, "b_info"), key, value) {
		if (!is_written(key))
			fprintf(file, "# not written here: %s\n", key);
	}
}

int config_write(const json_t *config, const char *path, struct error_text *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), error;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file) {
		error = error_set(text, -errno, "%s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return error;
	}
	fputs("# made by xl-snapshot\n", file);
	error = write_strings(config, file, text);
	if (!error) {
		write_numbers(config, file);
		error = write_devices(config, file, text);
	}
	if (!error)
		write_rest(config, file);
	if (!error && (fflush(file) || ferror(file) || fsync(fd)))
		error = error_set(text, -EIO, "%s: cannot be written", path);
	fclose(file);
	return error;
}
