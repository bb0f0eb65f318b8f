# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# A second writer on an image is refused, with a reason, and does no harm.
. ./lib.sh

image=$(image_make disk 64M)
guest_create a "$(disk_line xvda "$image")" "$(disk_line xvdb "$(image_make other 64M)")"
load_start a xvda

step "another guest"
must_fail xl create -q "$(guest_config b "disk=['$(disk_line xvda "$image")']")"
guest_exists b >/dev/null 2>&1 && fail "the second guest exists"

step "another guest by its second disk, then by tap-ctl"
guest_create c "$(disk_line xvda "$(image_make third 64M)")"
must_fail xl block-attach "$(guest_domid c)" "$(disk_line xvdb "$image")"
must_fail tap-ctl xen-attach "$(guest_domid c)" xvdb "aio:$image"

step "dom0"
must_fail xl block-attach 0 "$(disk_line xvdz "$image")"
# Xen's script cannot remove a disk that it could not add, so libxl keeps the nodes;
# while they name the image, the script takes its tapdisk for shared. A guest's
# nodes are removed when it is destroyed.
must xenstore-rm /local/domain/0/backend/vbd3/0
must xenstore-rm /local/domain/0/device/vbd

step "a process of dom0 and a bare tap-ctl"
must_fail tap-ctl create -a "aio:$image"
load_stop a xvda
guest_destroy c
guest_destroy a
