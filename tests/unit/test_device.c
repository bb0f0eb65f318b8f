/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_device.c - which devices are known to be done with a page when they
 * complete the request, in a fake sysfs of directories, links and files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <sys/sysmacros.h>

#include "device.h"
#include "scratch.h"

#define PCI "devices/pci0000:00/0000:00:1f.2/"
#define VIRTUAL "devices/virtual/block/"

/* @path below the made-up sysfs, with the directories above it. */
static const char *make_path(const char *path)
{
	static char whole[PATH_MAX];

	snprintf(whole, sizeof(whole), "%s/%s", device_sysfs, path);
	for (char *slash = whole + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		if (mkdir(whole, 0755))
			assert_int_equal(errno, EEXIST);
		*slash = '/';
	}
	return whole;
}

static void put(const char *path, const char *text)
{
	FILE *file = fopen(make_path(path), "w");

	assert_non_null(file);
	assert_true(fprintf(file, "%s\n", text) > 0);
	assert_int_equal(fclose(file), 0);
}

static void put_link(const char *path, const char *target)
{
	char where[PATH_MAX];

	snprintf(where, sizeof(where), "%s/%s", device_sysfs, target);
	assert_int_equal(symlink(where, make_path(path)), 0);
}

/* A block device whose directory is @path. */
static dev_t put_device_as(dev_t device, const char *path)
{
	char name[PATH_MAX], number[32];

	snprintf(number, sizeof(number), "%u:%u", major(device), minor(device));
	snprintf(name, sizeof(name), "%s/dev", path);
	put(name, number);
	snprintf(name, sizeof(name), "dev/block/%s", number);
	put_link(name, path);
	return device;
}

static dev_t put_device(const char *path)
{
	static unsigned next;

	return put_device_as(makedev(240, next++), path);
}

/* @path's slave @name is the device whose directory is @slave. */
static void put_slave(const char *path, const char *name, const char *slave)
{
	char link[PATH_MAX];

	snprintf(link, sizeof(link), "%s/slaves/%s", path, name);
	put_link(link, slave);
}

/* A SCSI disk: the host below @above with its driver, the directories in between, the disk. */
static dev_t put_scsi(const char *host, const char *driver, const char *below)
{
	char path[PATH_MAX];
	const char *name = strrchr(host, '/') + 1;

	snprintf(path, sizeof(path), "%s/scsi_host/%s/proc_name", host, name);
	put(path, driver);
	snprintf(path, sizeof(path), "%s/%s", host, below);
	return put_device(path);
}

static int setup(void **state)
{
	static char sysfs[PATH_MAX];
	static unsigned number;
	char name[16];

	snprintf(name, sizeof(name), "sys%u", number++);
	snprintf(sysfs, sizeof(sysfs), "%s", scratch_path(name));
	device_sysfs = sysfs;
	return 0;
}

static void disks_of_this_machine(void **state)
{
	dev_t partition;

	assert_true(device_is_local(put_scsi(PCI "ata1/host0", "ahci", "target0:0:0/0:0:0:0/block/sda")));
	partition = put_device(PCI "ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1");
	put(PCI "ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1/partition", "1");
	assert_true(device_is_local(partition));
	assert_true(device_is_local(put_scsi(PCI "host1", "mpt3sas",
					     "port-1:0/end_device-1:0/target1:0:0/1:0:0:0/block/sdb")));
	assert_true(device_is_local(put_scsi(PCI "usb1/1-1/1-1:1.0/host2", "usb-storage",
					     "target2:0:0/2:0:0:0/block/sdc")));
	assert_true(device_is_local(put_device(PCI "virtio1/block/vda")));
	assert_true(device_is_local(put_device("devices/vbd-51712/block/xvda")));
	assert_true(device_is_local(put_device("devices/platform/mmc/mmc0/mmc0:0001/block/mmcblk0")));
	assert_true(device_is_local(put_device(VIRTUAL "ram0")));
}

static void network_disks(void **state)
{
	assert_false(device_is_local(put_scsi("devices/platform/host3", "iscsi_tcp",
					      "session1/target3:0:0/3:0:0:0/block/sdd")));
	assert_false(device_is_local(put_scsi(PCI "host4", "qla2xxx",
					      "rport-4:0-2/target4:0:0/4:0:0:0/block/sde")));
	assert_false(device_is_local(put_scsi(PCI "host5", "ib_srp", "target5:0:0/5:0:0:0/block/sdf")));
	assert_false(device_is_local(put_scsi("devices/tcm_loop_0/tcm_loop_adapter_0/host6", "tcm_loopback",
					      "target6:0:1/6:0:1:0/block/sdg")));
	assert_false(device_is_local(put_device(VIRTUAL "nbd0")));
	assert_false(device_is_local(put_device("devices/rbd/0/block/rbd0")));
	assert_false(device_is_local(put_device(VIRTUAL "drbd0")));
}

static void unknown_devices(void **state)
{
	assert_false(device_is_local(makedev(0, 40)));		/* the device number on a network file system */
	assert_false(device_is_local(put_device(VIRTUAL "bcache0")));
	assert_false(device_is_local(put_device("devices/host7/block/sdh")));
	assert_false(device_is_local(put_device(PCI "block/sdi")));
}

static void nvme(void **state)
{
	dev_t pcie = put_device(PCI "nvme/nvme0/nvme0n1"), tcp, multipath;

	put(PCI "nvme/nvme0/transport", "pcie");
	put_link(PCI "nvme/nvme0/nvme0n1/device", PCI "nvme/nvme0");
	assert_true(device_is_local(pcie));

	tcp = put_device("devices/virtual/nvme-fabrics/ctl/nvme1/nvme1n1");
	put("devices/virtual/nvme-fabrics/ctl/nvme1/transport", "tcp");
	put_link("devices/virtual/nvme-fabrics/ctl/nvme1/nvme1n1/device", "devices/virtual/nvme-fabrics/ctl/nvme1");
	assert_false(device_is_local(tcp));

	multipath = put_device("devices/virtual/nvme-subsystem/nvme-subsys2/nvme2n1");
	put("devices/virtual/nvme-subsystem/nvme-subsys2/model", "a disk");
	put_link("devices/virtual/nvme-subsystem/nvme-subsys2/nvme2n1/device",
		 "devices/virtual/nvme-subsystem/nvme-subsys2");
	assert_false(device_is_local(multipath));
}

/* Everything below it counts, however deep. */
static void stacks(void **state)
{
	static const char sda[] = PCI "ata1/host0/target0:0:0/0:0:0:0/block/sda";
	dev_t mirror, volume, mixed;

	put_scsi(PCI "ata1/host0", "ahci", "target0:0:0/0:0:0:0/block/sda");
	put_device(PCI "virtio1/block/vda");
	put_device(VIRTUAL "nbd0");

	mirror = put_device(VIRTUAL "md0");
	assert_false(device_is_local(mirror));			/* of nothing */
	put_slave(VIRTUAL "md0", "sda", sda);
	put_slave(VIRTUAL "md0", "vda", PCI "virtio1/block/vda");
	assert_true(device_is_local(mirror));
	volume = put_device(VIRTUAL "dm-0");
	put_slave(VIRTUAL "dm-0", "md0", VIRTUAL "md0");
	assert_true(device_is_local(volume));

	mixed = put_device(VIRTUAL "dm-1");
	put_slave(VIRTUAL "dm-1", "sda", sda);
	assert_true(device_is_local(mixed));
	put_slave(VIRTUAL "dm-1", "nbd0", VIRTUAL "nbd0");
	assert_false(device_is_local(mixed));
	put_slave(VIRTUAL "md0", "dm-1", VIRTUAL "dm-1");
	assert_false(device_is_local(volume));
}

static void stack_without_end(void **state)
{
	dev_t device = put_device(VIRTUAL "dm-0");

	put_slave(VIRTUAL "dm-0", "dm-0", VIRTUAL "dm-0");
	assert_false(device_is_local(device));
}

/* The file is real; the sysfs is not, so the file's file system is on whatever the test puts there. */
static void loop_over_a_file(void **state)
{
	const char *path = scratch_file("backing", 4096);
	dev_t loop = put_device(VIRTUAL "loop0");
	struct stat st;

	assert_false(device_is_local(loop));			/* not set up */
	put(VIRTUAL "loop0/loop/backing_file", path);
	assert_false(device_is_local(loop));			/* on NFS: no device */
	assert_int_equal(stat(path, &st), 0);
	put_device_as(st.st_dev, PCI "virtio1/block/vda");
	assert_true(device_is_local(loop));			/* on ext4 */
	put(VIRTUAL "loop0/loop/backing_file", scratch_path("deleted"));
	assert_false(device_is_local(loop));
}

static void loop_over_a_network_disk(void **state)
{
	const char *path = scratch_file("backing", 4096);
	dev_t loop = put_device(VIRTUAL "loop0");
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	put(VIRTUAL "loop0/loop/backing_file", path);
	put_device_as(st.st_dev, VIRTUAL "nbd0");
	assert_false(device_is_local(loop));
}

static void lasting_names(void **state)
{
	char id[DEVICE_IDENTITY_MAX];
	dev_t mapped = put_device(VIRTUAL "dm-7"), disk = put_device(PCI "nvme/nvme0/nvme0n1");
	dev_t part = put_device(PCI "nvme/nvme0/nvme0n1/nvme0n1p2"), loop = put_device(VIRTUAL "loop9");

	put(VIRTUAL "dm-7/dm/uuid", "LVM-abcDEF/../x");
	assert_true(device_identity(mapped, id));
	assert_string_equal(id, "LVM-abcDEF_.._x");
	put(PCI "nvme/nvme0/nvme0n1/wwid", "eui.0025 38");
	put(PCI "nvme/nvme0/nvme0n1/nvme0n1p2/partition", "2");
	assert_true(device_identity(disk, id));
	assert_string_equal(id, "eui.0025_38");
	assert_true(device_identity(part, id));
	assert_string_equal(id, "eui.0025_38-part2");
	assert_false(device_identity(loop, id));
	put(VIRTUAL "loop9/serial", " ");
	assert_false(device_identity(loop, id));
	assert_false(device_identity(makedev(241, 0), id));
}

static void attributes(void **state)
{
	dev_t disk = put_device(PCI "virtio1/block/vda"), partition = put_device(PCI "virtio1/block/vda/vda1");

	put(PCI "virtio1/block/vda/vda1/partition", "1");
	put(PCI "virtio1/block/vda/queue/physical_block_size", "4096");
	put(PCI "virtio1/block/vda/discard_alignment", "512");
	put(PCI "virtio1/block/vda/vda1/discard_alignment", "1024");
	put(PCI "virtio1/block/vda/model", "2 fast");
	put(PCI "virtio1/block/vda/huge", "99999999999999999999999");
	assert_int_equal(device_attribute(disk, "queue/physical_block_size", 7), 4096);
	assert_int_equal(device_attribute(partition, "queue/physical_block_size", 7), 4096);
	assert_int_equal(device_attribute(partition, "discard_alignment", 7), 1024);
	assert_int_equal(device_attribute(disk, "model", 7), 7);
	assert_int_equal(device_attribute(disk, "huge", 7), 7);
	assert_int_equal(device_attribute(disk, "missing", 7), 7);
	assert_int_equal(device_attribute(makedev(0, 40), "queue/physical_block_size", 7), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(disks_of_this_machine, setup),
		cmocka_unit_test_setup(network_disks, setup),
		cmocka_unit_test_setup(unknown_devices, setup),
		cmocka_unit_test_setup(nvme, setup),
		cmocka_unit_test_setup(stacks, setup),
		cmocka_unit_test_setup(stack_without_end, setup),
		cmocka_unit_test_setup(loop_over_a_file, setup),
		cmocka_unit_test_setup(loop_over_a_network_disk, setup),
		cmocka_unit_test_setup(lasting_names, setup),
		cmocka_unit_test_setup(attributes, setup),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
