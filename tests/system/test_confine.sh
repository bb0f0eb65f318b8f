#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_confine.sh - the directories allowed for images, the bases allowed for
# stores, and the report of tap-ctl doctor on both.
#
# Output is TAP. BUILD says where the programs are. Needs: jq, losetup (as root; skipped otherwise)
. "$(dirname "$0")/lib.sh"

mkdir images other
for name in images/a images/b images/d other/c other/e; do truncate -s 4M $name.raw; done
tap-img create -F raw -b images/d.raw images/inside.cow >/dev/null
tap-img create -F raw -b other/e.raw images/outside.cow >/dev/null
ln -s ../other/c.raw images/link.raw
printf '# for the test\n%s\n\n%s\n' "$work/images" "$work/not/there" >list
denied="in none of the directories that $work/list allows"

# Without a list, images may be anywhere, but a store's base must be a file, a device or a store.
disk_opens() { open_target 0 "$@" && tap-ctl destroy ${disk[0]}; }
no_disk() { refuses "$1" "$2" tap-ctl create -a "$3" "${@:4}"; }
check "no list: anywhere" disk_opens "aio:$work/other/c.raw"
check "no list: a store on anything" disk_opens "cow:$work/images/outside.cow"
mkfifo pipe.raw
for special in pipe.raw /dev/null; do
	truncate -s 4M base.raw
	tap-img create -F raw -b base.raw special.cow >/dev/null
	mv base.raw kept.raw
	ln -s $special base.raw
	check "a store on $special" no_disk 22 "neither a file nor a block device" "cow:$work/special.cow"
	check "for tap-img, too" refuses 1 "neither a file nor a block device" timeout 10 tap-img convert -f cow -O raw special.cow copy.raw
	rm base.raw special.cow
done

# A block device is a base if the user named it for that store, on this host, or if the list has it. A store that says so
# itself may come from anywhere: this one was made with another state directory.
truncate -s 4M volume.img other_volume.img
if [ "$(id -u)" = 0 ] && volume=$(losetup --show -f volume.img 2>/dev/null) && loops+=("$volume") &&
	other_volume=$(losetup --show -f other_volume.img 2>/dev/null) && loops+=("$other_volume"); then
	not_named="a block device, which only the store"
	volume_refused() {	# volume_refused STORE
		check "$1: not served" no_disk 1 "$not_named" "cow:$work/$1"
		check "$1: not for reading" no_disk 1 "$not_named" "cow:$work/$1" -R
		check "$1: not read by tap-img" refuses 1 "$not_named" tap-img convert -f cow -O raw "$1" copy.raw
		check "$1: not written by tap-img" refuses 1 "$not_named" tap-img commit "$1"
		check "$1: not by a store on it" no_disk 1 "$not_named" "cow:$work/on_$1"
	}
	elsewhere() { TAPSNAP_STATE_DIR=$work/elsewhere "$@" >/dev/null; }
	elsewhere tap-img create -F raw -b "$volume" forged.cow && elsewhere tap-img snapshot -c x forged.cow &&
		elsewhere tap-img create -b cow:forged.cow@x on_forged.cow
	volume_refused forged.cow
	check "the store's user names it" tap-img rebase -u -F raw -b "$volume" forged.cow
	check "served" disk_opens "cow:$work/forged.cow"
	check "read by tap-img" tap-img convert -f cow -O raw forged.cow copy.raw
	check "and a store on it" disk_opens "cow:$work/on_forged.cow"
	elsewhere tap-img rebase -u -F raw -b "$other_volume" forged.cow
	check "it names another device" no_disk 1 "$not_named" "cow:$work/forged.cow"
	printf '%s\n%s\n' "$work" "$other_volume" >volumes
	check "that is in the list" env TAPSNAP_IMAGE_FOLDERS="$work/volumes" tap-img info forged.cow
	echo "$work" >volumes
	check "not in the list" refuses 1 "in none of the directories" env TAPSNAP_IMAGE_FOLDERS="$work/volumes" tap-img info forged.cow
	check "named at the creation" tap-img create -F raw -b "$volume" named.cow
	check "served, too" disk_opens "cow:$work/named.cow"
	check "a copy, too" sh -c "cp named.cow moved.cow && tap-img info moved.cow"
	check "named at a conversion" tap-img convert -F raw -B "$volume" -f raw -O cow images/a.raw converted.cow
	check "served, too" disk_opens "cow:$work/converted.cow"
	check "written by tap-img" tap-img commit named.cow
	check "a creation that cannot be remembered" refuses 1 "" env TAPSNAP_STATE_DIR=/proc/none tap-img create -F raw -b "$volume" none.cow
	check "leaves nothing" [ ! -e none.cow ]
else
	skip "devices as bases" "no loop device"
fi

# A loop: one is based on a snapshot of two, two on one of one. For reading: for writing the lock already refuses it.
tap-img create one.cow 4M >/dev/null && tap-img snapshot -c x one.cow
tap-img create -b cow:one.cow@x two.cow >/dev/null && tap-img snapshot -c y two.cow
tap-img create -b cow:two.cow@y circle.cow >/dev/null && tap-img snapshot -c x circle.cow
mv circle.cow one.cow
check "a loop" no_disk 40 "or a loop" "cow:$work/two.cow" -R
check "a loop, by a snapshot" no_disk 40 "or a loop" "cow:$work/one.cow@x" -R
check "a loop, for writing" no_disk 40 "or a loop" "cow:$work/two.cow"
check "a loop, for tap-img" refuses 1 "or a loop" tap-img info two.cow

doctor() { tap-ctl doctor --json | jq -r "$1"; }
check_opener() {	# as check: of an opener's capabilities
	if grep -q -e '-fsanitize=thread' "$build/flags"; then
		skip "$1" "ThreadSanitizer has a thread of its own in the opener, which keeps what the others give up"
	else
		check "$@"
	fi
}
ulimit -n 70000 2>/dev/null
check "a disk" open_target 0 "aio:$work/images/a.raw"
check_opener "doctor: all is well" tap-ctl doctor
check "doctor: system calls" is "$(doctor .tapdisks[0].seccomp)" 2
check "doctor: no new rights" is "$(doctor .tapdisks[0].no_new_privs)" true
check "doctor: no capability, but one of a tapdisk that stays root" is "$(doctor '.tapdisks[0] | .capabilities == if .uid == 0 then 2 else 0 end')" true
check "doctor: no core file" is "$(doctor .tapdisks[0].core_bytes)" 0
check "doctor: no more open files than it can need" is "$(doctor '.tapdisks[0].open_files <= 65536')" true
check "doctor: no list" is "$(doctor .tapdisks[0].landlock)" false
check "end" end_disks

# Root's tapdisk runs as another user, who can open nothing, and serves images that only root may open.
status() { sed -n "s/^$1:[[:space:]]*//p" "/proc/$2/status"; }
nobody() {	# nobody PID: none of its four user and group ids is root's, and it has no supplementary groups
	status Uid "$1" | grep -Eqx '([1-9][0-9]*)(\s\1){3}' && status Gid "$1" | grep -Eqx '([1-9][0-9]*)(\s\1){3}' &&
		[ -z "$(status Groups "$1" | tr -d ' ')" ]
}
powerless() {
	local set
	for set in CapInh CapPrm CapEff CapBnd CapAmb; do
		[ "$(status $set "$1")" = 0000000000000000 ] || return 1
	done
	[ "$(status NoNewPrivs "$1")" = 1 ] && [ "$(status Seccomp "$1")" = 2 ]
}
all_threads() {	# all_threads WHAT PID
	local thread
	for thread in /proc/"$2"/task/*; do "$1" "$2/task/${thread##*/}" || return 1; done
}
if [ "$(id -u)" = 0 ] && [ -z "${KEEP_USER-}" ]; then	# a coverage build sets KEEP_USER
	mkdir -m 700 private private/stores
	truncate -s 4M private/a.raw private/b.raw
	chmod 600 private/*.raw
	check "root's image" open_target 0 "aio:$work/private/a.raw"
	check "another user serves it" all_threads nobody "${pid[0]}"
	check "who has no right" all_threads powerless "${pid[0]}"
	opener=$(doctor .tapdisks[0].opener.pid)
	check_opener "doctor: its opener" is "$(doctor '.tapdisks[0].opener | [.uid, .capabilities, .no_new_privs, .seccomp]' | tr -d ' \n')" "[0,2,true,2]"
	check "that is its child" is "$(status PPid "$opener")" "${pid[0]}"
	check "read and written" qemu-io -f raw -c "write -P 7 0 64k" -c "read -P 7 0 64k" "${uri[0]}"
	check "onto a store" tap-ctl snapshot-create ${disk[0]} --store "$work/private/stores" -n one
	check "written there" qemu-io -f raw -c "write -P 8 0 4k" -c "read -P 8 0 4k" -c "read -P 7 4k 4k" "${uri[0]}"
	check "goes back" sh -c "tap-ctl snapshot-delete ${disk[0]} -n one && tap-ctl commit ${disk[0]}"
	check "paused" tap-ctl pause ${disk[0]}
	check "and on with another image" tap-ctl unpause ${disk[0]} -a "aio:$work/private/b.raw"
	check "that is locked" refuses 16 "in use" tap-ctl create -a "aio:$work/private/b.raw"
	kill -9 "$opener"
	check "the opener is killed" wait_gone "$opener"
	check "still serves" qemu-io -f raw -c "write -P 9 0 4k" -c "read -P 9 0 4k" "${uri[0]}"
	check "doctor tells" exits 1 tap-ctl doctor
	check "what" grep -q "wrong  opener: process $opener has ended" out
	check "another image cannot be opened" refuses 104 "reset" sh -c "tap-ctl pause ${disk[0]} && tap-ctl unpause ${disk[0]} -a aio:$work/private/a.raw"
	kill_tapdisk "${pid[0]}"
	check "clear away" tap-ctl list
	tap-ctl free -m "${minor[0]}"
	check "another one" open_target 0 "aio:$work/private/a.raw"
	opener=$(doctor .tapdisks[0].opener.pid)
	kill -9 "${pid[0]}"
	check "the opener ends with its tapdisk" wait_gone "$opener"
	tap-ctl list; tap-ctl free -m "${minor[0]}"
fi

export TAPSNAP_IMAGE_FOLDERS=$work/list
check "an image in the directory" open_target 0 "aio:$work/images/a.raw"
check "is read and written" qemu-io -f raw -c "write 0 4k" -c "read 0 4k" "${uri[0]}"
check "doctor: Landlock" is "$(doctor .tapdisks[0].landlock)" true
check "doctor: the directory" is "$(doctor '.host[] | select(.name == "image directories").text')" "$work/images"
check "moves onto a store there" tap-ctl snapshot-create ${disk[0]} --store "$work/images" -n one
check "and goes back" sh -c "tap-ctl snapshot-delete ${disk[0]} -n one && tap-ctl commit ${disk[0]}"
check "not onto one elsewhere" refuses 1 "$denied" tap-ctl snapshot-create ${disk[0]} --store "$work/other" -n one
check "still runs" qemu-io -f raw -c "write 0 4k" "${uri[0]}"
check "paused" tap-ctl pause ${disk[0]}
check "not unpaused on an image elsewhere" refuses 1 "$denied" tap-ctl unpause ${disk[0]} -a "aio:$work/other/c.raw"
check "but on one in the directory" tap-ctl unpause ${disk[0]} -a "aio:$work/images/b.raw"
check "end" end_disks
check "an image elsewhere" no_disk 1 "$denied" "aio:$work/other/c.raw"
check "by a link" no_disk 1 "$denied" "aio:$work/images/link.raw"
check "by a detour" no_disk 1 "$denied" "aio:$work/images/../other/c.raw"
check "a device" no_disk 1 "$denied" aio:/dev/null
check "a store on what is in the directory" disk_opens "cow:$work/images/inside.cow"
check "a store on what is elsewhere" no_disk 1 "$denied" "cow:$work/images/outside.cow"
check "for tap-img, too" refuses 1 "$denied" tap-img convert -f cow -O raw images/outside.cow copy.raw
check "who may read what he names himself" tap-img convert -f raw -O raw other/c.raw copy.raw

echo images >list
check "a list with a mistake" no_disk 22 "line 1" "aio:$work/images/a.raw"
check "doctor tells" exits 1 tap-ctl doctor
check "where" grep -q "wrong  image directories: $work/list: line 1" out
unset TAPSNAP_IMAGE_FOLDERS

tapdisk --log-stderr --no-sandbox 2>tapdisk.log &
started=$!
until [ -S "$TAPSNAP_RUN_DIR/ctl$started" ] || ! kill -0 $started; do sleep 0.02; done
check "doctor: one with all rights" exits 1 tap-ctl doctor
check "says so" grep -q "wrong  seccomp: off" out
kill -9 $started
wait $started 2>/dev/null
check "doctor: a dead one's socket" exits 1 tap-ctl doctor
check "says so" grep -q "wrong  socket: $TAPSNAP_RUN_DIR/ctl$started is a dead" out
check "and leaves it" exits 1 tap-ctl doctor
check "list takes it away" tap-ctl list
check "and all is well" tap-ctl doctor
chmod 777 "$TAPSNAP_RUN_DIR"
check "doctor: a run directory that all may write to" exits 1 tap-ctl doctor
check "says so" grep -q "can be written to by others" out
chmod 700 "$TAPSNAP_RUN_DIR"
finish
