# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Needs: tap
# A tapdisk dies under a busy guest: another one takes over, and the guest sees a
# stall, no error. The same goes for `tap-ctl upgrade`. If a takeover is impossible,
# the disk's `error` node says so, no other disk is affected, and the disk can be
# detached and attached again with its data.
. ./lib.sh

# tapdisk_kill GUEST VDEV: kill it, and wait until the disk has a new tapdisk and completes requests
tapdisk_kill() {
	local old
	old=$(tapdisk_pid "$1" "$2")
	must kill -9 "$old"
	follow "$1" "$2" "$old"
}

follow() { # GUEST VDEV OLD-PID
	wait_until 20 "another tapdisk than $3" eval "[ \"\$(tapdisk_pid $1 $2)\" != $3 ]"
	load_moves "$1" "$2"
	must_equal "the socket's path" "/run/blktap-control/nbd$(tapdisk_pid "$1" "$2").$(tapdisk_minor "$1" "$2")" \
		"$(backend_node "$1" "$2" physical-device-path)"
	must_equal "error node" "" "$(backend_node "$1" "$2" error)"
}

must tap-img create "$WORK/store" 128M
guest_create a "$(disk_line xvda "$(image_make first 128M)")" \
	"$(disk_line xvdb "cow:$WORK/store" script=block-tapsnap)"
load_start a xvda
load_start a xvdb

step "kill -9 of a raw disk's, and of a store's, three times"
for round in 1 2 3; do
	tapdisk_kill a xvda
	tapdisk_kill a xvdb
done

step "upgrade"
for disk in xvda xvdb; do
	old=$(tapdisk_pid a $disk)
	echo "# from $old to $(must tap-ctl upgrade -p "$old")"
	follow a $disk "$old"
done

step "nothing was wrong, nothing is lost"
load_stop a xvda
load_stop a xvdb

step "one that cannot be taken over: its record is gone"
second=$(image_make second 64M)
disk_attach a xvdc "$second"
guest_must a "fill xvdc 8 7"
load_start a xvda
tapdisk_end a xvdc
echo "# error: $(backend_node a xvdc error)"
load_moves a xvda

step "detach, attach again: the data is there"
disk_detach a xvdc
disk_attach a xvdc "$second"
guest_must a "filled xvdc 8 7"
load_stop a xvda
guest_destroy a
wait_until 30 "no tapdisk is left" eval "! pgrep -x tapdisk"
