# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# tap-ctl xen-attach and xen-detach: a disk without the toolstack's help.
. ./lib.sh

image=$(image_make second 64M)
guest_create a "$(disk_line xvda "$(image_make first 64M)")"
domain=$(guest_domid a)
for round in 1 2; do
	step "attach, use, detach: round $round"
	must tap-ctl xen-attach "$domain" xvdb "aio:$image"
	guest_must a "appears xvdb"
	guest_must a "fill xvdb 8 $round && filled xvdb 8 $round"
	must tap-ctl xen-detach "$domain" xvdb
	guest_must a "vanishes xvdb"
done
step "refusals leave nothing behind"
must_fail tap-ctl xen-attach "$domain" xvdc aio:/nowhere/at/all
must_fail tap-ctl xen-attach "$domain" nonsense "aio:$image"
must_fail tap-ctl xen-attach 4321 xvdb "aio:$image"
must_fail tap-ctl xen-detach "$domain" xvdc
must_equal "disks in xenstore" 51712 "$(xenstore-list "/local/domain/0/backend/vbd3/$domain")"
guest_destroy a
