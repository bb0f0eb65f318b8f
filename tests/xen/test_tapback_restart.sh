# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Needs: tap
# tapback is killed and restarted; guests do not notice, and tapback catches up
# with the changes that it missed.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make first 128M)")"
load_start a xvda
disk_attach a xvdb "$(image_make second 64M)"

step "killed: the data path does not need it"
tapback_kill
load_moves a xvda

step "back again: adopted as they are"
tapback_start
load_moves a xvda
must_equal "state" 4 "$(backend_node a xvda state)"

step "it serves on: detach, attach"
disk_detach a xvdb
disk_attach a xvdb "$WORK/second"
guest_must a "fill xvdb 4 1 && filled xvdb 4 1"

step "a domain that goes away while nobody watches"
tapback_kill
load_stop a xvda
xl destroy "$(guest_name a)"
tapback_start
wait_until 30 "no tapdisk is left" eval "! pgrep -x tapdisk"
guest_create b "$(disk_line xvda "$WORK/first")"
guest_must b "fill xvda 4 1 && filled xvda 4 1"
guest_destroy b
