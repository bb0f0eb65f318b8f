# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Limit: 600 s
# Memory images with I/O running: save -c and save -p keep the same ring, restore
# makes a new connection and re-issues unanswered requests.
. ./lib.sh

name=$(guest_name a)
guest_create a "$(disk_line xvda "$(image_make disk 256M)")"
load_start a xvda

step "save -c"
must xl save -c "$name" "$WORK/checkpoint" >"$WORK/xl.log"
load_moves a xvda
rm "$WORK/checkpoint"

step "save -p"
must xl save -p "$name" "$WORK/paused" >"$WORK/xl.log"
must_equal "paused state" p "$(xl list "$name" | awk 'NR == 2 {gsub("-", "", $5); print $5}')"
must xl unpause "$name"
load_moves a xvda
rm "$WORK/paused"

step "pause and unpause of the domain"
must xl pause "$name"
must xl unpause "$name"
load_moves a xvda

for round in 1 2; do
	step "save, restore: round $round"
	guest_save a "$WORK/image"
	guest_restore a "$WORK/image"
	load_moves a xvda
done
load_stop a xvda
guest_destroy a
