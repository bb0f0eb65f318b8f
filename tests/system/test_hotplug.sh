#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_hotplug.sh - the hotplug script, with a directory as xenstore and with
# stubs for the functions of Xen's own scripts that it uses. (tests/xen/ tests
# it with the real ones.)
#
# Output is TAP. BUILD says where the programs are.
. "$(dirname "$0")/lib.sh"
export XENBUS_BASE_PATH=backend XENBUS_TYPE=vbd3 STORE=$work/store

mkdir xen
ln -s "$here/control/block-tapsnap" xen/
cat >xen/block-common.sh <<'SCRIPT'
command=$1
fatal() { echo "$*"; exit 1; }
success() { xenstore_write "$XENBUS_PATH/hotplug-status" connected; }
do_or_die() { "$@" || fatal "$* failed"; }
canonicalise_mode() { echo "$1"; }
xenstore-list() { ls "$STORE/$1"; }
xenstore_read() { cat "$STORE/$1"; }
xenstore_read_default() { cat "$STORE/$1" 2>/dev/null || echo "$2"; }
xenstore_write() {
	while [ $# != 0 ]; do
		mkdir -p "$STORE/${1%/*}" && echo "$2" >"$STORE/$1" || return 1
		shift 2
	done
}
claim_lock() { exec 9>/dev/null; _lockfd=9; }
release_lock() { :; }
SCRIPT

backend() {	# backend DEVICE MODE TARGET: write libxl's nodes of a disk of domain 1
	export XENBUS_PATH=backend/vbd3/1/$1
	mkdir -p "$STORE/$XENBUS_PATH"
	echo "aio:$3" >"$STORE/$XENBUS_PATH/params"
	echo "$2" >"$STORE/$XENBUS_PATH/mode"
	echo 1 >"$STORE/$XENBUS_PATH/frontend-id"
}

node() { cat "$STORE/$XENBUS_PATH/$1"; }

connected_to_one() {	# all backend nodes name one of disks 1 and 2
	local n
	is "$(node hotplug-status)" connected || return 1
	for n in 1 2; do
		[ "$(node pid)" = "${pid[n]}" ] || continue
		is "$(node minor)" "${minor[n]}" && is "$(node physical-device-path)" "/run/blktap-control/nbd${pid[n]}.${minor[n]}"
		return
	done
	echo "pid: $(node pid)"
	return 1
}

tapdisks_are() { is "$(tapdisks | wc -l)" "$1"; }

truncate -s 1M "$work/image"
check "two tapdisks have an image open read-only" eval 'open_target 1 "aio:$work/image" -R && open_target 2 "aio:$work/image" -R'
backend 51712 r "aio:$work/image"
check "a guest's disk" xen/block-tapsnap add
check "is one of them" connected_to_one
check "which goes with it" xen/block-tapsnap remove
check "and only that one" tapdisks_are 1
refused() {
	fails "in use" xen/block-tapsnap add && [ ! -e "$STORE/$XENBUS_PATH/pid" ]
}
rm -r "$STORE/backend"
backend 51728 w "aio:$work/image"
check "a guest that writes does not get one that is open read-only" refused
check "which is let alone" tapdisks_are 1
rm -r "$STORE/backend"
end_disks
check "a disk for a guest that writes" eval 'open_target 1 "aio:$work/image"'
check "with an export that is read-only" tap-ctl export ${disk[1]} -R "unix:$work/export"
backend 51712 w "aio:$work/image"
check "is shared" eval 'xen/block-tapsnap add && is "$(node pid)" "${pid[1]}"'
check "and gone with it" eval 'xen/block-tapsnap remove && tapdisks_are 0'

export TAPSNAP_DISK_OPTIONS=$work/disk-options
truncate -s 1M "$work/an image"
cat >disk-options <<OPTIONS
# -b 512 aio:$work/an image
-b 4096 -P stop  aio:$work/an image
--rocket aio:$work/image
-P report aio:$work/an image too
OPTIONS
opened_with() { json ".disk.$1" tap-ctl info -p "$(node pid)" -m "$(node minor)"; }
rm -r "$STORE/backend"
backend 51712 w "$work/an image"
check "a disk that has options" xen/block-tapsnap add
check "has its sectors" is "$(opened_with sector_size)" 4096
check "and what becomes of errors" is "$(opened_with on_error.policy)" stop
check "goes" xen/block-tapsnap remove
backend 51712 w "$work/image"
check "an option that there is not is told" fails rocket xen/block-tapsnap add

finish
