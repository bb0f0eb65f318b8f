# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# A grown image, and a grown device-mapper volume as LVM makes them, reach the
# running guest, under load.
. ./lib.sh

image=$(image_make disk 64M)
truncate -s 256M "$WORK/volume"
loop=$(losetup -f --show "$WORK/volume") || fail "no loop device"
trap 'dmsetup remove tests-resize; losetup -d "$loop"' EXIT
must dmsetup create tests-resize --table "0 131072 linear $loop 0"
volume=/dev/mapper/tests-resize
guest_create a "$(disk_line xvda "$image")" "$(disk_line xvdb $volume)"
load_start a xvda

grow() { # VDEV SECTORS
	must tap-ctl resize -p "$(tapdisk_pid a "$1")" -m "$(tapdisk_minor a "$1")"
	guest_must a -t 30 "until [ \$(cat /sys/block/$1/size) = $2 ]; do usleep 50000; done"
	must_equal "sectors" "$2" "$(backend_node a "$1" sectors)"
}

step "a file from 64 to 128 MiB"
must truncate -s 128M "$image"
grow xvda 262144
load_moves a xvda
guest_must a "fio --name=end --filename=/dev/xvda --offset=120M --size=8M --rw=write --bs=64k --direct=1 \
--verify=crc32c --verify_fatal=1 --output=/tmp/end"

step "a volume from 64 to 256 MiB"
must dmsetup suspend tests-resize
must dmsetup load tests-resize --table "0 524288 linear $loop 0"
must dmsetup resume tests-resize
grow xvdb 524288
guest_must a "fio --name=end --filename=/dev/xvdb --offset=248M --size=8M --rw=write --bs=64k --direct=1 \
--verify=crc32c --verify_fatal=1 --output=/tmp/end"

step "an image that shrank is refused, and served on"
must truncate -s 100M "$image"
must_fail tap-ctl resize -p "$(tapdisk_pid a xvda)" -m "$(tapdisk_minor a xvda)"
must_equal "sectors" 262144 "$(backend_node a xvda sectors)"
load_stop a xvda
guest_destroy a
