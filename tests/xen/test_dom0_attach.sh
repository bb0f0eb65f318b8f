# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# A disk attached to dom0 itself, as pygrub does it to read a guest's kernel.
. ./lib.sh

image=$(image_make disk 128M)
mkfs.ext4 -q "$image" || fail "no filesystem"
trap 'umount "$WORK/mnt" 2>/dev/null' EXIT
mkdir "$WORK/mnt"
for round in 1 2; do
	step "attach, mount, write, detach: round $round"
	must xl block-attach 0 "$(disk_line xvdz "$image")"
	wait_until 20 "/dev/xvdz is there" test -b /dev/xvdz
	must mount /dev/xvdz "$WORK/mnt"
	must dd if=/dev/urandom of="$WORK/mnt/data" bs=1M count=8 status=none
	checksum=$(sha256sum <"$WORK/mnt/data")
	must umount "$WORK/mnt"
	must xl block-detach 0 xvdz
	wait_until 20 "/dev/xvdz is gone" test ! -e /dev/xvdz
done
step "what was written is in the image"
must_equal checksum "$checksum" "$(debugfs -R 'cat data' "$image" 2>/dev/null | sha256sum)"
must e2fsck -fn "$image"
