# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# A disk with 4096-byte sectors under a guest that sees 512-byte ones.
. ./lib.sh

truncate -s 128M "$WORK/disk"
loop=$(losetup -f --show --sector-size 4096 --direct-io=on "$WORK/disk") || fail "no loop device"
trap 'losetup -d "$loop"' EXIT
must_equal "sector size of $loop" 4096 "$(blockdev --getss "$loop")"
guest_create a "$(disk_line xvda "$loop")"
must_equal "sector-size" 512 "$(backend_node a xvda sector-size)"
must_equal "sectors" 262144 "$(backend_node a xvda sectors)"
must_equal "physical block in the guest" 4096 "$(guest_must a "cat /sys/block/xvda/queue/physical_block_size")"
step "512-byte writes, neighbours in flight together"
guest_must a -t 200 "fio --name=small --filename=/dev/xvda --direct=1 --ioengine=libaio --iodepth=16 --rw=randwrite \
--bsrange=512-6k --size=2M --verify=crc32c --verify_fatal=1 --fdatasync=32 --output=/tmp/small || { cat /tmp/small; false; }"
step "a filesystem with blocks of 1 KiB"
guest_must a "mkfs.ext4 -q -b 1024 /dev/xvda 32M && mount /dev/xvda /mnt && cp -r /bin /mnt && umount /mnt"
guest_must a "e2fsck -fn /dev/xvda >/tmp/fsck || { cat /tmp/fsck; false; }"
guest_destroy a
