# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Needs: tap
# A tapdisk dies: said in the disk's `error` node, harms no other disk, and the
# dead disk can be detached and attached again with its data.
. ./lib.sh

second=$(image_make second 64M)
guest_create a "$(disk_line xvda "$(image_make first 128M)")" "$(disk_line xvdb "$second")"
guest_must a "fill xvdb 8 7"
load_start a xvda

step "kill -9"
must kill -9 "$(tapdisk_pid a xvdb)"
wait_until 20 "the error node" backend_node a xvdb error
echo "# error: $(backend_node a xvdb error)"
load_moves a xvda

step "detach, attach again: the data is there"
disk_detach a xvdb
disk_attach a xvdb "$second"
guest_must a "filled xvdb 8 7"
load_stop a xvda
guest_destroy a
