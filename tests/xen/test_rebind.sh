# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# A frontend that closes with the disk still there and starts over, as firmware,
# pvgrub and kexec do.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make first 64M)")" "$(disk_line xvdb "$(image_make second 64M)")"
load_start a xvda
guest_must a "fill xvdb 8 5"
for round in 1 2 3; do
	step "unbind and bind: round $round"
	guest_must a "echo vbd-51728 >/sys/bus/xen/drivers/vbd/unbind && vanishes xvdb"
	guest_must a "echo vbd-51728 >/sys/bus/xen/drivers/vbd/bind"
	guest_must a -t 40 "appears xvdb && filled xvdb 8 5"
done
load_stop a xvda
guest_destroy a
