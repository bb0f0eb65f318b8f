# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# A filesystem on a disk of a plain `xl create`: made, filled, verified and
# checked in the guest, and checked again in dom0.
. ./lib.sh

image=$(image_make disk 2G)
guest_create a "$(disk_line xvda "$image")" -- vcpus=2
step "mkfs, fio on a file, e2fsck in the guest"
guest_must a "mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt"
guest_must a -t 200 "fio --name=file --directory=/mnt --size=24M --rw=randwrite --bsrange=4k-128k \
--ioengine=libaio --direct=0 --fsync=128 --verify=crc32c --verify_fatal=1 --output=/tmp/fio || { cat /tmp/fio; false; }"
guest_must a "umount /mnt && e2fsck -fn /dev/xvda >/tmp/fsck || { cat /tmp/fsck; false; }"
guest_destroy a
step "e2fsck in dom0"
must e2fsck -fn "$image"
