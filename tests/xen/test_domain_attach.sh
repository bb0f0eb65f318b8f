# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pvh
# Needs: tap
# What a disk held at a snapshot is attached to another domain, by a program that
# uses the library: libxl takes the library's libxl_device_disk.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" -- "$DOMAIN_UUID"
guest_create b "$(store_line xvda b)"
guest_must a "mark 1 xvda"
must snap create -n e --disk-only "$name"
guest_must a "mark 2 xvda"

step "attached to the other domain, read-only"
must /payload/examples/snapshot-attach e "$name" xvda "$(guest_name b)" xvdx
guest_must b "appears xvdx"
must_hold b "- - 1" xvda xvdx
must_hold a "2 2" xvda
guest_must b "! dd if=/dev/zero of=/dev/xvdx bs=512 count=1 2>/dev/null"
must_hold b "- - 1" xvda xvdx

step "detached, the snapshot can be deleted"
disk_detach b xvdx
must snap delete -n e "$name"
must_say "snapshots of xvda" "" disk_snapshots xvda
must_say "files" "" snapshot_files -type f
guest_destroy b
guest_destroy a
