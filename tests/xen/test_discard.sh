# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Discard in the guest frees the image's space, and changes no other data.
. ./lib.sh

image=$(image_make disk 64M)
guest_create a "$(disk_line xvda "$image")"
guest_must a "fill xvda 32 9"
used=$(du -k "$image" | cut -f1)
[ "$used" -ge 32768 ] || fail "only $used KiB allocated after writing 32 MiB"
step "discard 16 of 32 MiB"
guest_must a "blkdiscard -o 16777216 -l 16777216 /dev/xvda"
left=$(du -k "$image" | cut -f1)
[ "$left" -le $((used - 16000)) ] || fail "$used KiB before the discard, $left after it"
guest_must a "filled xvda 16 9"
step "the other half reads as zeros"
must cmp -n 16777216 -i 16777216:0 "$image" /dev/zero
guest_destroy a
