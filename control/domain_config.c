/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_config.c - writes a config file for `xl create` from libxl's JSON,
 * which that does not read, for domains that boot from a snapshot of disks.
 *
 * It has the domain's basic settings, disks and network; other kinds of
 * devices are refused, and config_unwritten() names other settings. Snapshots
 * with memory do not need it: a save file contains the JSON.
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

#define HVM "type.hvm"
#define SCHEDULER "sched_params"

/* Members of b_info, of an object in it, or of one in that: libxl's names, and the name in a config file. */
static const struct {
	const char *group, *subgroup, *key, *name;
} settings[] = {
	{ NULL, NULL, "acpi", "acpi" }, { NULL, NULL, "apic", "apic" }, { NULL, NULL, "nested_hvm", "nestedhvm" },
	{ HVM, NULL, "acpi", "acpi" }, { HVM, NULL, "apic", "apic" }, { HVM, NULL, "nested_hvm", "nestedhvm" },
	{ HVM, NULL, "bios", "bios" }, { HVM, NULL, "boot", "boot" }, { HVM, NULL, "pae", "pae" }, { HVM, NULL, "hpet", "hpet" },
	{ HVM, NULL, "serial", "serial" }, { HVM, NULL, "usb", "usb" }, { HVM, NULL, "usbdevice", "usbdevice" },
	{ HVM, NULL, "keymap", "keymap" }, { HVM, NULL, "nographic", "nographic" }, { HVM, "vga", "kind", "vga" },
	{ HVM, "vnc", "enable", "vnc" }, { HVM, "vnc", "listen", "vnclisten" }, { HVM, "vnc", "passwd", "vncpasswd" },
	{ HVM, "vnc", "display", "vncdisplay" }, { HVM, "vnc", "findunused", "vncunused" },
	{ HVM, NULL, "pirq", "hvm_pirq" }, { "type.pvh", NULL, "pvshim", "pvshim" }, { "type.pv", NULL, "e820_host", "e820_host" },
	{ "arch_x86", NULL, "msr_relaxed", "msr_relaxed" },
	{ SCHEDULER, NULL, "weight", "cpu_weight" }, { SCHEDULER, NULL, "cap", "cap" },
};

/* Members of b_info that are written elsewhere, or computed at each start. */
static const char *const others[] = {
	"max_vcpus", "avail_vcpus", "max_memkb", "target_memkb", "shadow_memkb", "iommu_memkb", "video_memkb", "claim_mode",
	"slack_memkb", "device_model_version", "disable_migrate",
	"sched",		/* of the scheduler of the pool */
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

/* libxl's defbools are strings. */
static int write_setting(FILE *file, const char *name, const json_t *value, struct error_text *text)
{
	const char *words = json_string_value(value);

	if (json_is_integer(value))
		fprintf(file, "%s = %" PRId64 "\n", name, (int64_t)json_integer_value(value));
	if (!words || !strcmp(words, "<default>"))
		return 0;
	if (!strcmp(words, "True") || !strcmp(words, "False"))
		fprintf(file, "%s = %d\n", name, !strcmp(words, "True"));
	else if (!can_be_quoted(words))
		return error_set(text, -EOPNOTSUPP, "the domain's %s has characters that a config file cannot hold", name);
	else
		fprintf(file, "%s = \"%s\"\n", name, !strcmp(name, "vga") && !strcmp(words, "std") ? "stdvga" : words);
	return 0;
}

static int write_settings(const json_t *config, FILE *file, struct error_text *text)
{
	int error = 0;

	for (size_t i = 0; !error && i < ARRAY_SIZE(settings); i++) {
		const json_t *group = json_object_get(config, "b_info");

		group = settings[i].group ? json_object_get(group, settings[i].group) : group;
		group = settings[i].subgroup ? json_object_get(group, settings[i].subgroup) : group;
		error = write_setting(file, settings[i].name, json_object_get(group, settings[i].key), text);
	}
	return error;
}

static bool is_same(const char *one, const char *other)
{
	return one == other || (one && other && !strcmp(one, other));
}

static bool is_written(const char *group, const char *subgroup, const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++) {
		if (is_same(settings[i].group, group) && is_same(settings[i].subgroup, subgroup) && !strcmp(settings[i].key, key))
			return true;
	}
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

static void add_name(char *names, size_t size, const char *name)
{
	size_t used = strlen(names);

	snprintf(names + used, size - used, "%s%s", used ? ", " : "", name);
}

/* An object is looked into, at most two deep. */
static void find_unwritten(const json_t *object, const char *group, const char *subgroup, char *names, size_t size)
{
	const char *key, *words;
	json_t *value;

	json_object_foreach((json_t *)object, key, value) {
		words = json_string_value(value);
		if (json_is_null(value) || (json_is_array(value) && !json_array_size(value)) || (words && !strcmp(words, "<default>")))
			continue;
		if (json_is_object(value) && !subgroup)
			find_unwritten(value, group ? group : key, group ? key : NULL, names, size);
		else if (!is_written(group, subgroup, key))
			add_name(names, size, key);
	}
}

void config_unwritten(const json_t *config, char *names, size_t size)
{
	names[0] = '\0';
	find_unwritten(json_object_get(config, "b_info"), NULL, NULL, names, size);
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
		error = write_settings(config, file, text);
	}
	if (!error)
		error = write_devices(config, file, text);
	if (!error && (fflush(file) || ferror(file) || fsync(fd)))
		error = error_set(text, -EIO, "%s: cannot be written", path);
	fclose(file);
	return error;
}
