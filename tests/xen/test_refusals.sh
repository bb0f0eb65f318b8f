# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Images that cannot be served: `xl create` and `xl block-attach` fail with a
# reason in the log, nothing is left behind, the running guest is not disturbed.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make disk 64M)")"
load_start a xvda
image_make empty 0 >/dev/null
image_make odd 1000 >/dev/null
mkdir "$WORK/folder"
mkfifo "$WORK/fifo"
for what in missing empty odd folder fifo; do
	step "$what"
	must_fail xl block-attach "$(guest_domid a)" "$(disk_line xvdb "$WORK/$what")"
	must_equal "disks in xenstore" 51712 "$(xenstore-list "/local/domain/0/backend/vbd3/$(guest_domid a)")"
done
step "a whole guest"
must_fail xl create -q "$(guest_config b "disk=['$(disk_line xvda "$WORK/missing")']")"
guest_exists b >/dev/null 2>&1 && fail "the guest exists"
load_stop a xvda
guest_destroy a
