# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# A domain destroyed in the middle of writing: the filesystem survives as after
# a power cut, and the next guest can open the image immediately.
. ./lib.sh

image=$(image_make disk 512M)
raw=$(image_make raw 128M)
guest_create a "$(disk_line xvda "$image")" "$(disk_line xvdb "$raw")"
guest_must a "mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt && echo kept >/mnt/flushed && sync"
guest_must a "(while :; do cp -r /bin /mods /mnt/; done) >/dev/null 2>&1 &"
load_start a xvdb
load_moves a xvda
guest_destroy a

step "the journal completes it"
e2fsck -fy "$image" >"$WORK/fsck" 2>&1
status=$?
[ $status -le 1 ] || fail "e2fsck ended with $status: $(tail -5 "$WORK/fsck")"
must e2fsck -fn "$image"
must_equal "flushed file" kept "$(debugfs -R 'cat flushed' "$image" 2>/dev/null)"

step "the next guest has it at once"
guest_create b "$(disk_line xvda "$image")"
guest_must b "mount /dev/xvda /mnt && cat /mnt/flushed"
guest_destroy b
