# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: hvm
# Needs: tap
# An HVM guest with an emulated disk. Without script= QEMU opens the image file
# itself, as tapdisk does, which must allow it; with it QEMU goes through tapdisk,
# whose lock then excludes other programs that lock like QEMU.
. ./lib.sh

image=$(image_make disk 64M)

# Print the locks on parts of the image, as QEMU takes them: "100 101"
locks() {
	local inode
	inode=$(stat -c %i "$image") && awk -v inode="$inode" '$2 == "OFDLCK" && $6 ~ ":" inode "$" { print $7, $8 }' /proc/locks
}
# Create the domain without running a single instruction of the guest.
create_paused() { # DISK-LINE
	step "xl create -p: $1"
	must xl create -p -q "$(guest_config a "disk=['$1']")"
}
wake() {
	must xl unpause "$(guest_name a)"
	guest_wait_ready a
	guest_must a "echo mark | dd of=/dev/xvda bs=512 count=1 conv=sync oflag=direct"
	must_equal "the mark" mark "$(head -c 4 "$image")"
}

create_paused "$(disk_line hda "$image")"
[ -n "$(locks)" ] || fail "QEMU has not opened the image"
must_fail tap-ctl create -a "aio:$image"
wake
must_fail tap-ctl create -a "aio:$image"

step "saved and restored"
guest_save a "$WORK/save"
guest_restore a "$WORK/save"
rm "$WORK/save"
guest_must a "dd if=/dev/xvda of=/dev/null bs=64k count=16 iflag=direct"
guest_destroy a
must_say "locks" "" locks

# xvda is emulated, too; the first disk that is not is xvdg at the latest
create_paused "$(disk_line xvda "$image")"
[ -n "$(locks)" ] || fail "QEMU has not opened the image"
wake
guest_destroy a

create_paused "$(disk_line hda "$image" script=block-tapsnap)"
wake
[ -n "$(locks)" ] || fail "tapdisk has not locked the image"
guest_destroy a
must_say "locks" "" locks
