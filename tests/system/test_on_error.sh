#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_on_error.sh - failing disks, from the command line: a raw image, and a
# store, on a full file system, under each policy, and the output of tap-ctl
# on-error, resume and events. test_on_error_sweep.c tests all errors.
#
# Output is TAP. BUILD says where the programs are. Needs: root (mount), jq,
# libnbd-bin, python3-libnbd, e2fsprogs, util-linux

. "$(dirname "$0")/lib.sh"

mkdir small
if [ "$(id -u)" != 0 ] || ! mount -t tmpfs -o size=8M none small; then
	echo "1..0 # SKIP needs root, and a file system to fill"
	exit 0
fi
yes | head -c 12M >data

open_disk() {	# open_disk [OPTION]...: open a sparse image that is larger than the file system
	rm -f small/image
	truncate -s 16M small/image
	mount -o remount,size=8M small || return 1
	open_target 0 "aio:$work/small/image" "$@"
}

# What stops the storage ends only at a later line of the test, so a command that waited for it would never end.
ends() { timeout 60 "$@"; }	# ends COMMAND...: meanwhile

listed() { ends tap-ctl list -p "$1" | grep -q "^pid=$1 .*state="; }	# listed PID: with what only the tapdisk itself knows

fill() {	# start a copy in the background; returns when it waits for room
	nbdcopy --flush data "$uri" >copied 2>&1 &
	copy=$!
	tap-ctl events -p "$pid" -w no-space -t 20
}

# A write that is being retried does not wait; it does again when that has failed.
waits() { json .disk.on_error.waiting tap-ctl info $disk; }
some_wait() { ends tap-ctl on-error $disk | grep -q '^policy=enospc stopped=0 waiting=[1-9][0-9]* answered=0$'; }

writes_wait_for_room() {
	open_disk && fill || return 1
	eventually some_wait || return 1
	listed "$pid" || return 1
	# a listener that starts now gets the event, too
	mkfifo heard
	tap-ctl events -p "$pid" --json >heard &
	exec {events}<heard
	rm heard
	read -r -u "$events" line && is "$line" "{\"event\":\"no-space\",\"minor\":$minor}" || return 1
	ends tap-ctl pause $disk && [ "$(waits)" -gt 0 ] && tap-ctl unpause $disk || return 1
	mount -o remount,size=32M small || return 1
	tap-ctl resume $disk | grep -qxE '[0-9]+' || return 1		# 0: the retry of this second was earlier
	wait "$copy" || return 1
	read -r -t 20 -u "$events" line && is "$line" "{\"event\":\"space\",\"minor\":$minor}" || return 1
	exec {events}<&-
	cmp -n 12582912 data small/image
}
check "a full file system: writes wait, through a pause, and resume tells them that there is room" writes_wait_for_room
check "end" end_disks

answered() {
	open_disk --on-error report || return 1
	fails "No space left" nbdcopy --flush data "$uri" && is "$(waits)" 0
}
check "report: the writer is told" answered
check "end" end_disks

changed() {
	open_disk -P stop && fill && ends tap-ctl on-error $disk -P report || return 1
	! wait $! && grep -q "No space left" copied || { cat copied; return 1; }
	is "$(json .on_error.policy tap-ctl on-error $disk)" report
}
check "the policy is changed: what waited is answered" changed
check "end" end_disks

refused() {
	open_disk || return 1
	refuses 22 '"nothing"' tap-ctl create -a "aio:$work/data" -P nothing || return 1
	refuses 22 '"nothing"' tap-ctl on-error $disk -P nothing || return 1
	refuses 110 '"space"' tap-ctl events -p "$pid" -w space -t 1 || return 1
	is "$(tap-ctl resume $disk)" 0
}
check "what is refused" refused
check "end" end_disks

closed() {
	local listener
	open_disk && fill || return 1
	mkfifo told
	tap-ctl events -p "$pid" >told &
	listener=$!
	exec {events}<told
	read -r -u "$events" line && is "$line" "no-space minor=$minor" || return 1
	ends tap-ctl destroy $disk && wait $listener || return 1
	# a retry that takes longer than a second counts as room until it fails
	while read -r -u "$events" line && [[ $line = *space* ]]; do :; done
	is "$line" "closed minor=$minor" || return 1
	read -r -u "$events" line && is "$line" "ended pid=$pid"
}
check "closing does not wait for room, and events end with their tapdisk" closed

# The log is a hole, so it needs new space, as that of a reflink copy does. All data has its space.
open_full_store() {
	rm -f small/*
	mount -o remount,size=64M small && tap-img create --preallocation full small/store 8M || return 1
	fallocate -p -o $((512 * 4096)) -l $((256 * 4096)) small/store && open_target 0 "cow:$work/small/store" "$@" || return 1
	! head -c 64M /dev/zero >small/filler 2>/dev/null
}

one_waits() { [ "$(waits)" = 1 ]; }
snapshots() {
	local list
	list=$(tap-ctl snapshot-list $disk --json) && jq -r '.snapshots[].name' <<<"$list"
}

store_without_room() {
	local flush
	open_full_store && nbdcopy --flush data.8M "$uri" || return 1
	refuses 28 "No space left" ends tap-ctl snapshot-create $disk -n one && says "" snapshots || return 1
	refuses 28 "No space left" ends tap-ctl snapshot-create $disk -n one || return 1
	nbdsh -u "$uri" -c 'h.flush()' &
	flush=$!
	tap-ctl events -p "$pid" -w no-space -t 20 && ends tap-ctl resume $disk && eventually one_waits || return 1
	ends nbdsh -u "$uri" -c 'assert h.pread(512, 0) == b"y\n" * 256' || return 1
	# only who listens already hears that there is room
	mkfifo space
	tap-ctl events -p "$pid" >space &
	exec {events}<space
	read -r -u "$events" line && is "$line" "no-space minor=$minor" || return 1
	rm small/filler
	until [ "$line" = "space minor=$minor" ]; do read -r -t 60 -u "$events" line || return 1; done
	exec {events}<&-
	wait $flush || return 1
	ends tap-ctl snapshot-create $disk -n one && says one snapshots && end_disks && tap-img check small/store
}
head -c 8M data >data.8M
check "a store whose log has no room: flushes wait, commands fail and leave nothing" store_without_room

store_closes() {
	open_full_store && refuses 28 "No space left" tap-ctl snapshot-create $disk -n one || return 1
	nbdsh -u "$uri" -c 'h.flush()' >out 2>&1 &
	tap-ctl events -p "$pid" -w no-space -t 20 && ends tap-ctl destroy $disk || return 1
	! wait $! || { echo "the flush has succeeded"; return 1; }
	rm small/filler
	tap-img check small/store && says 0 eval 'list=$(tap-img snapshot --json small/store) && jq length <<<"$list"'
}
check "and closing does not wait" store_closes

# A frozen file system accepts writes and does not complete them.
thaw() {
	! mountpoint -q "$work/frozen" || { fsfreeze -u "$work/frozen"; umount -l "$work/frozen"; } 2>/dev/null
}
trap 'thaw; cleanup' EXIT

in_flight() { [ "$(tap-ctl stats ${disk[$1]} | jq .in_flight)" -gt 0 ]; }
no_process() { ! kill -0 "$pid" 2>/dev/null || grep -q '^State:.Z' "/proc/$pid/status"; }

unresponsive() {
	local status
	mkfs.ext4 -q frozen.img 32M && mkdir frozen && mount -o loop frozen.img frozen || return 1
	truncate -s 4M frozen/image
	open_target 0 "aio:$work/frozen/image" && fsfreeze -f frozen || return 1
	head -c 1M data >small.data
	nbdcopy small.data "$uri" >copied 2>&1 &
	eventually in_flight 0 || return 1
	is "$(tap-ctl events -p "$pid" -w not-answering -t 20 | cut -d' ' -f1)" not-answering || return 1
	listed "$pid" && ends tap-ctl info $disk >/dev/null && ends tap-ctl on-error $disk || return 1
	exits 110 tap-ctl pause -f -t 1 $disk || return 1
	tap-ctl destroy -f -t 1 $disk >out 2>&1
	status=$?
	# tapdisk is killed; the kernel may keep it until the device has answered, and then tap-ctl reports that
	[ $status = 0 ] || { [ $status = 110 ] && grep -q "was killed" out; } || { cat out; return 1; }
	fsfreeze -u frozen && eventually no_process || return 1
	! wait $! || { echo "the copy has succeeded"; return 1; }
	[ $status = 0 ] || tap-ctl destroy -f $disk || return 1
	open_target 0 "aio:$work/frozen/image" && tap-ctl destroy $disk && umount frozen
}
check "a device that does not answer: tap-ctl does, and force has an end" unresponsive

asked() {	# asked N: what does not need disk N's storage is answered
	listed "${pid[$1]}" && ends tap-ctl info ${disk[$1]} >/dev/null && ends tap-ctl stats ${disk[$1]} >/dev/null &&
		ends tap-ctl throttle ${disk[$1]} -i 100000 && ends tap-ctl on-error ${disk[$1]} -P stop &&
		ends nbdinfo --size "${uri[$1]}"
}

open_beside() {	# open_beside N TYPE:PATH: as open_target, in the tapdisk of disk 0
	minor[$1]=$(tap-ctl allocate) && minor[$1]=${minor[$1]##*-} && pid[$1]=$pid disk[$1]="-p $pid -m ${minor[$1]}" &&
		uri[$1]="nbd+unix:///?socket=$TAPSNAP_RUN_DIR/nbd$pid.${minor[$1]}" && tap-ctl attach ${disk[$1]} &&
		tap-ctl open ${disk[$1]} -a "$2"
}

# One tapdisk has two disks, the store's and a raw one: neither keeps the other from being served.
unresponsive_store() {
	local status
	mkfs.ext4 -q -F frozen.img 64M && mount -o loop frozen.img frozen && truncate -s 4M awake.img || return 1
	tap-img create frozen/store 16M && tap-img snapshot -c one frozen/store && open_target 0 "cow:$work/frozen/store" || return 1
	nbdcopy --flush data "$uri" && open_beside 1 "aio:$work/awake.img" || return 1
	fsfreeze -f frozen || return 1
	nbdcopy data "$uri" >copied 2>&1 &
	eventually in_flight 0 || return 1
	is "$(tap-ctl events -p "$pid" -w not-answering -t 20 | cut -d' ' -f1)" not-answering || return 1
	asked 0 && asked 1 || return 1
	is "$(ends tap-ctl snapshot-list $disk --json | jq -r '.snapshots[].name')" one || return 1
	ends nbdsh -u "$uri" -c 'assert len(h.pread(65536, 0)) == 65536' || return 1
	ends nbdcopy "${uri[1]}" awake.copy && cmp awake.img awake.copy || return 1
	fsfreeze -u frozen && wait $! && nbdcopy "$uri" - | cmp -n 12582912 - data || return 1
	end_disks && umount frozen
}
check "a store that does not answer: its snapshots, its readers, and the other disk of its tapdisk" unresponsive_store

finish
