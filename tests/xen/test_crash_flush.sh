# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Needs: tap
# kill -9 of tapdisk under load, in the pattern of the guest's page cache: every
# write that a completed flush covered is on the disk.
. ./lib.sh

image=$(image_make disk 16M)
flushed() { console_text a | sed -n 's/.*@@flushed \([0-9]*\)@@.*/\1/p' | tail -1; }
flushed_enough() { [ "$(flushed)" -ge "$1" ]; }

guest_create a "$(disk_line xvda "$image")"
guest_must a "flushlog write /dev/xvda </dev/null &"
# more than one pass over the disk, so that blocks are overwritten too
wait_until 180 "6000 writes are flushed" flushed_enough 6000
step "kill -9"
tapdisk_end a xvda
must xl destroy "$(guest_name a)"
last=$(flushed)
step "verify up to write $last"
must /payload/flushlog verify "$image" "$last"
