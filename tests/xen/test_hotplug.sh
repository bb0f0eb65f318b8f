# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv hvm
# Disks are attached and detached while they, and other disks, are busy.
. ./lib.sh

second=$(image_make second 128M)
guest_create a "$(disk_line xvda "$(image_make first 128M)")"
load_start a xvda

step "attach and detach beside a busy disk, twice over the same name"
for round in 1 2; do
	disk_attach a xvdb "$second"
	guest_must a "fill xvdb 8 $round && filled xvdb 8 $round"
	disk_detach a xvdb
done

# Linux gives a busy disk up immediately, and writers get an error.
step "detach a disk that is in use"
disk_attach a xvdb "$second"
load_start a xvdb
disk_detach a xvdb
guest_run a "load_stop xvdb" && fail "the writer did not notice"
load_moves a xvda

step "and attach it again"
disk_attach a xvdb "$second"
guest_must a "fill xvdb 8 3 && filled xvdb 8 3"
load_stop a xvda
guest_destroy a
