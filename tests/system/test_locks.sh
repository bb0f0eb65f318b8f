#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_locks.sh - which programs may open an image that another one has open:
# all pairs of our programs, and of ours and QEMU's, in both orders.
#
# Output is TAP. BUILD says where the programs are. Needs: jq qemu-utils
# python3 python3-libnbd, losetup (as root; skipped otherwise)
. "$(dirname "$0")/lib.sh"

image=$work/image.raw store=$work/store.cow
truncate -s 8M "$image"
truncate -s 4M source.raw
tap-img create "$store" 8M >/dev/null || exit 1

# The second openers. Each leaves the image as it was.
tapdisk_comes() { local marker; marker=$(tap-ctl create "$@") || return 1; tap-ctl destroy -p "$(pid_of "$marker")" -m "${marker##*-}"; }
pid_of() { tap-ctl list -m "${1##*-}" --json | jq .tapdisks[0].pid; }
qemu_writes() { qemu-io -f raw -c "discard 0 0" "$1"; }
qemu_reads() { qemu-io -r -f raw -c "read 0 512" "$1"; }

# QEMU as the first opener: start qemu-nbd and wait until it answers. Its socket exists before it has opened the image.
qemu_has() {	# qemu_has IMAGE [OPTION...]
	local file=$1
	shift
	rm -f qemu.socket
	qemu-nbd -t -f raw -k "$work/qemu.socket" "$@" "$file" &
	qemu=$!
	until [ -S qemu.socket ] || ! kill -0 $qemu; do sleep 0.02; done
	nbdinfo --size "nbd+unix:///?socket=$work/qemu.socket"
}
qemu_ends() { kill $qemu && { wait $qemu; true; }; }

# A reader that allows no writer, like QEMU with a format that has metadata.
reader_has() {
	rm -f locked
	/usr/bin/python3 -c "import fcntl, signal
image = open('$1', 'rb')
fcntl.lockf(image, fcntl.LOCK_SH, 1, 100)
fcntl.lockf(image, fcntl.LOCK_SH, 1, 201)
print('locked', flush=True)
signal.pause()" >locked &
	qemu=$!
	until [ -s locked ] || ! kill -0 $qemu; do sleep 0.02; done
	[ -s locked ]
}

# tap-img as the first opener: it has done nearly all, when the line that says so does not fit into a full pipe.
tap_img_has() {	# tap_img_has COMMAND ARGUMENT...
	rm -f progress
	mkfifo progress && exec {progress}<>progress
	dd if=/dev/zero bs=4096 of=progress oflag=nonblock conv=notrunc 2>dd.log
	dd if=/dev/zero bs=1 of=progress oflag=nonblock conv=notrunc 2>dd.log
	tap-img "$1" -p "${@:2}" 2>progress &
	holder=$!
	until [ "$(cut -d ' ' -f 2 "/proc/$holder/syscall" 2>/dev/null)" = 0x2 ]; do	# in a call on its standard error output
		kill -0 $holder || { wait $holder; return 1; }
		sleep 0.02
	done
}
tap_img_ends() {
	kill -9 $holder
	wait $holder
	exec {progress}>&-
}

by_tapdisk="in use by another process (pid"
by_qemu="in use by another program, such as QEMU"
no_lock='Failed to get .* lock'

writer_keeps_away() {	# writer_keeps_away WHO IMAGE TEXT: our programs
	local who=$1 file=$2 text=$3
	check "$who: no second tapdisk" refuses 16 "$text" tap-ctl create -a "aio:$file"
	check "$who: not for reading either" refuses 16 "$text" tap-ctl create -R -a "aio:$file"
	check "$who: tap-img does not read it" refuses 1 "$text" tap-img convert -f raw -O raw "$file" copy.raw
	check "$who: tap-img makes no other in its place" unchanged "$file" refuses 1 "$text" tap-img convert -f raw -O raw source.raw "$file"
}

check "tapdisk writes an image" open_target 0 "aio:$image"
writer_keeps_away "tapdisk writes" "$image" "$by_tapdisk ${pid[0]})"
check "QEMU does not write to it" fails "$no_lock" qemu_writes "$image"
check "nor serves it for writing" fails "$no_lock" timeout 20 qemu-nbd -f raw -k "$work/no.socket" "$image"
check "nor makes it larger" fails "$no_lock" qemu-img resize -f raw "$image" 16M
check "it may read, by its own rules" qemu_reads "$image"
check "paused, the image is anybody's" tap-ctl pause ${disk[0]}
check "QEMU writes then" qemu_writes "$image"
check "QEMU serves it then" qemu_has "$image"
check "then it cannot be unpaused" refuses 16 "$by_qemu" tap-ctl unpause ${disk[0]}
check "QEMU ends" qemu_ends
check "and now it can" tap-ctl unpause ${disk[0]}
check "and QEMU does not write" fails "$no_lock" qemu_writes "$image"
check "end" end_disks

check "tapdisk reads an image" open_target 0 "aio:$image" -R
check "no other one writes" refuses 16 "$by_tapdisk ${pid[0]})" tap-ctl create -a "aio:$image"
check "another one reads" tapdisk_comes -R -a "aio:$image"
check "tap-img reads" tap-img convert -f raw -O raw "$image" copy.raw
check "tap-img makes no other in its place" refuses 1 "$by_tapdisk ${pid[0]})" tap-img convert -f raw -O raw source.raw "$image"
check "QEMU does not write" fails "$no_lock" qemu_writes "$image"
check "QEMU reads" qemu_reads "$image"
check "end" end_disks

check "QEMU writes an image" qemu_has "$image"
writer_keeps_away "QEMU writes" "$image" "$by_qemu"
check "QEMU ends" qemu_ends
check "tapdisk has it then" tapdisk_comes -a "aio:$image"

check "QEMU reads an image" qemu_has "$image" -r
check "tapdisk reads it, too" tapdisk_comes -R -a "aio:$image"
check "QEMU ends" qemu_ends
check "somebody can stand no writer" reader_has "$image"
check "tapdisk does not write" refuses 16 "$by_qemu" tap-ctl create -a "aio:$image"
check "but reads" tapdisk_comes -R -a "aio:$image"
check "who has gone" qemu_ends

check "tap-img reads an image" tap_img_has convert -f raw -O raw "$image" copy.raw
check "tapdisk does not write to it" refuses 16 "$by_tapdisk $holder)" tap-ctl create -a "aio:$image"
check "but reads it" tapdisk_comes -R -a "aio:$image"
check "another tap-img, too" tap-img convert -f raw -O raw "$image" other.raw
check "which makes no other in its place" refuses 1 "$by_tapdisk $holder)" tap-img convert -f raw -O raw source.raw "$image"
check "QEMU does not write to it" fails "$no_lock" qemu_writes "$image"
check "nor serves it for writing" fails "$no_lock" timeout 20 qemu-nbd -f raw -k "$work/no.socket" "$image"
check "but reads it" qemu_reads "$image"
check "tap-img ends" tap_img_ends
check "and tapdisk has it" tapdisk_comes -a "aio:$image"
check "tap-img makes another in its place" tap_img_has convert -f raw -O raw source.raw "$image"
writer_keeps_away "tap-img makes another" "$image" "$by_tapdisk $holder)"
check "nor does QEMU write" fails "$no_lock" qemu_writes "$image"
check "tap-img ends" unchanged "$image" tap_img_ends
check "and tapdisk has it" tapdisk_comes -a "aio:$image"

# A store and its base.
check "tapdisk writes a store" open_target 0 "cow:$store"
check "no second one" refuses 16 "$by_tapdisk ${pid[0]})" tap-ctl create -a "aio:$store"
check "tap-img does not change it" refuses 1 "$by_tapdisk ${pid[0]})" tap-img snapshot -c one "$store"
check "nor look into it" refuses 1 "$by_tapdisk ${pid[0]})" tap-img check "$store"
check "QEMU does not write to it" fails "$no_lock" qemu_writes "$store"
check "end" end_disks
check "QEMU writes a store's file" qemu_has "$store"
check "no tapdisk has it" refuses 16 "$by_qemu" tap-ctl create -a "cow:$store"
check "no tap-img has it" refuses 1 "$by_qemu" tap-img snapshot -c one "$store"
check "QEMU ends" qemu_ends

check "two stores on an image" sh -c "tap-img create -F raw -b '$image' one.cow && tap-img create -F raw -b '$image' two.cow"
check "tapdisk has one" open_target 0 "cow:$work/one.cow"
check "and another the other" open_target 1 "cow:$work/two.cow"
check "QEMU does not write to the image" fails "$no_lock" qemu_writes "$image"
check "no tapdisk does" refuses 16 "in use by another process" tap-ctl create -a "aio:$image"
check "end" end_disks
rm one.cow two.cow

check "a store on an image" tap-img create -F raw -b "$image" one.cow
check "tap-img writes the base" tap_img_has commit one.cow
check "no tapdisk has the store" refuses 16 "$by_tapdisk $holder)" tap-ctl create -a "cow:$work/one.cow"
check "not for reading either" refuses 16 "$by_tapdisk $holder)" tap-ctl create -R -a "cow:$work/one.cow"
check "QEMU does not write to the store" fails "$no_lock" qemu_writes one.cow
writer_keeps_away "tap-img commits" "$image" "$by_tapdisk $holder)"
check "nor does QEMU write" fails "$no_lock" qemu_writes "$image"
check "tap-img ends" tap_img_ends
check "and can begin again" tap-img commit one.cow
rm one.cow

# A raw disk that moves onto a store, and back.
is_locked() { ! flock -n "$@" true || { echo "not locked"; return 1; }; }
fill() { nbdsh -u "${uri[0]}" -c 'for at in range(0, 8 << 20, 1 << 20): h.pwrite(b"a" * (1 << 20), at)'; }
check "tapdisk has the image" open_target 0 "aio:$image"
check "it moves onto a store" tap-ctl snapshot-create ${disk[0]} --store "$work" -n one
check "QEMU does not write to the image" fails "$no_lock" qemu_writes "$image"
check "others may read it" flock -n -s "$image" true
check "write" fill
check "delete the snapshot" tap-ctl snapshot-delete ${disk[0]} -n one
check "somebody can stand no writer" reader_has "$image"
check "then it does not go back" refuses 16 "other processes also read it" tap-ctl commit ${disk[0]}
check "who has gone" qemu_ends
check "QEMU does not write still" fails "$no_lock" qemu_writes "$image"
check "nor any program of ours" is_locked -x "$image"
check "it goes back, slowly" tap-ctl commit ${disk[0]} -r 1 -w
check "while it does nobody else reads" is_locked -s "$image"
check "canceled" tap-ctl commit ${disk[0]} -c
check "others may read again" flock -n -s "$image" true
check "but QEMU not write" fails "$no_lock" qemu_writes "$image"
check "it goes back" tap-ctl commit ${disk[0]}
check "others may not read then" is_locked -s "$image"
check "nor QEMU write" fails "$no_lock" qemu_writes "$image"
check "end" end_disks

# The guest's own QEMU, for a disk without script=: it opens the file itself, at the same time as tapdisk.
check "a disk whose image QEMU opens, too" open_target 0 "aio:$image" --beside-qemu
check "QEMU does" qemu_has "$image"
check "it is paused" tap-ctl pause ${disk[0]}
check "and is unpaused" tap-ctl unpause ${disk[0]}
check "no second tapdisk" refuses 16 "$by_tapdisk ${pid[0]})" tap-ctl create -a "aio:$image"
check "it cannot move onto a store" refuses 16 "also has it open" tap-ctl snapshot-create ${disk[0]} --store "$work" -n one
check "end" end_disks
check "no such disk while QEMU writes" refuses 16 "$by_qemu" tap-ctl create --beside-qemu -a "aio:$image"
check "QEMU ends" qemu_ends

if [ "$(id -u)" = 0 ] && loop=$(losetup --show -f "$image" 2>/dev/null); then
	loops+=("$loop")
	check "tapdisk writes a device" open_target 0 "aio:$loop"
	check "QEMU does not write to it" fails "$no_lock" qemu_writes "$loop"
	check "end" end_disks
	check "QEMU writes a device" qemu_has "$loop"
	check "tapdisk does not" refuses 16 "$by_qemu" tap-ctl create -a "aio:$loop"
	check "QEMU ends" qemu_ends
	check "tap-img writes a device" tap_img_has convert -f raw -O raw source.raw "$loop"
	check "tapdisk does not" refuses 16 "$by_tapdisk $holder)" tap-ctl create -a "aio:$loop"
	check "nor reads" refuses 16 "$by_tapdisk $holder)" tap-ctl create -R -a "aio:$loop"
	check "nor does QEMU" fails "$no_lock" qemu_writes "$loop"
	check "tap-img ends" tap_img_ends
	check "and tapdisk writes" tapdisk_comes -a "aio:$loop"
else
	skip "locks on a device" "no loop device"
fi
finish
