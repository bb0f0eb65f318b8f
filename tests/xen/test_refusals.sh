# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Images that cannot be served: `xl create` and `xl block-attach` fail with a reason
# in the log, no process or marker is left behind, the running guest is not affected.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make disk 64M)")"
load_start a xvda
image_make empty 0 >/dev/null
image_make odd 1000 >/dev/null
mkdir "$WORK/directory"
mkfifo "$WORK/fifo"
vdevs=(xvdb xvdc xvdd xvde xvdf)
for what in missing empty odd directory fifo; do
	step "$what"
	# Xen's script cannot remove a disk that it could not add (it needs `minor`), so
	# libxl keeps the device's nodes until the domain ends: use a new name each time.
	must_fail xl block-attach "$(guest_domid a)" "$(disk_line "${vdevs[0]}" "$WORK/$what")"
	vdevs=("${vdevs[@]:1}")
	must_equal "tapdisks" "$(tapdisk_pid a xvda)" "$(pgrep -x tapdisk)"
	must_equal "markers" "tapdisk-$(tapdisk_minor a xvda)" "$(ls /run/blktap-control/tapdisk)"
	load_moves a xvda
done
step "a complete guest"
must_fail xl create -q "$(guest_config b "disk=['$(disk_line xvda "$WORK/missing")']")"
guest_exists b >/dev/null 2>&1 && fail "the guest exists"
load_stop a xvda
guest_destroy a
