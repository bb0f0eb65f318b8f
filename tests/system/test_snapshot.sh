#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_snapshot.sh - snapshots of disks that are being written to: of one
# disk and of three at one instant, under fio that verifies its reads, with
# processes killed in between. Snapshots are read while the disk is in use, and
# every store is checked in the end.
#
# Output is TAP. BUILD says where the programs are. Needs: fio jq
# python3-libnbd libnbd-bin util-linux (mount, as root; the test of a full file system is skipped
# otherwise)
. "$(dirname "$0")/lib.sh"
order="/usr/bin/python3 $here/tests/system/snapshot_order.py"
size=64M

open_disk() { open_target "$1" "cow:$1.cow"; }

make_disks() {
	for n in "$@"; do
		tap-img create "$n.cow" $size && open_disk "$n" || return 1
	done >/dev/null
	group=
	for n in "$@"; do
		group+=" ${disk[$n]}"
	done
}

# fill N SEED / holds URI SEED: write / compare the pattern of SEED in the first 8 MiB
pattern() { yes "pattern $1" | head -c 8M; }
fill() { pattern "$2" | nbdcopy - "${uri[$1]}"; }
holds() { nbdcopy "$1" - | head -c 8M | cmp - <(pattern "$2"); }

# open_snapshot N NAME: in the disk's process; sets $minor_of and $uri_of
open_snapshot() {
	local marker

	marker=$(tap-ctl create -a "cow:$1.cow@$2") || return 1
	minor_of=${marker##*-}
	[ "$(tap-ctl list -m "$minor_of" --json | jq .tapdisks[0].pid)" = "${pid[$1]}" ] || { echo "another process"; return 1; }
	uri_of="nbd+unix:///?socket=$TAPSNAP_RUN_DIR/nbd${pid[$1]}.$minor_of"
}
open_snapshot_of() {	# open_snapshot_of TARGET N: in the process of disk N
	local marker

	marker=$(tap-ctl create -a "$1") || return 1
	minor_of_clone=${marker##*-}
	[ "$(tap-ctl list -m "$minor_of_clone" --json | jq .tapdisks[0].pid)" = "${pid[$2]}" ] || { echo "another process"; return 1; }
	uri_of_clone="nbd+unix:///?socket=$TAPSNAP_RUN_DIR/nbd${pid[$2]}.$minor_of_clone"
}
open_again() {	# open_again N [STORE]: in the same process
	local before=${pid[$1]}

	open_target "$1" "cow:${2:-$1.cow}" && is "${pid[$1]}" "$before"
}
make_levels() {	# make_levels COUNT: make stores, each based on a snapshot of the one before
	tap-img create level0.cow 8M || return 1
	for ((n = 1; n <= $1; n++)); do
		tap-img snapshot -c s "level$((n - 1)).cow" && tap-img create -b "level$((n - 1)).cow@s" -F cow "level$n.cow" || return 1
	done
}
close_snapshot() { tap-ctl destroy -p "${pid[$1]}" -m "$minor_of"; }

names() {
	local list
	list=$(tap-ctl snapshot-list ${disk[$1]} --json) && jq -r '[.snapshots[].name] | sort[]' <<<"$list"
}
stores_are_clean() {
	for n in "$@"; do
		tap-img check "$n.cow" || return 1
	done
}

# One disk: a snapshot's contents, read while the disk is in use and after a revert.
check "a disk" make_disks 0
check "write" fill 0 old
check "snapshot" tap-ctl snapshot-create -n before -d "the old one" ${disk[0]}
check "overwrite" fill 0 new
check "the snapshot is open beside the disk, in its process" open_snapshot 0 before
check "it holds what was there" holds "$uri_of" old
check "a disk on it, while the store is in use" tap-img create -b "0.cow@before" -F cow clone.cow
check "opens in the same process" open_snapshot_of "cow:clone.cow" 0
check "it holds what the snapshot does" holds "$uri_of_clone" old
check "and is let go" tap-ctl destroy -p "${pid[0]}" -m "$minor_of_clone"
check "no disk on what is not there" refuses 1 '' tap-img create -b "0.cow@beforr" -F cow none.cow
check "the disk holds what is there now" holds "${uri[0]}" new
check "a snapshot that is open is not deleted" refuses 16 '' tap-ctl snapshot-delete -n before ${disk[0]}
check "nor one that is not there" refuses 2 '' tap-ctl snapshot-delete -n beforr ${disk[0]}
check "a name that exists" refuses 17 '' tap-ctl snapshot-create -n before ${disk[0]}
check "a bad name" refuses 22 '' tap-ctl snapshot-create -n a@b ${disk[0]}
check "the snapshot is closed" close_snapshot 0
check "a disk on it again" open_snapshot_of "cow:clone.cow" 0
check "its base is closed" tap-ctl destroy ${disk[0]}
check "and opened again, where the other is" open_again 0
check "it holds what is there now" holds "${uri[0]}" new
check "the other what the snapshot does" holds "$uri_of_clone" old
check "and is let go" tap-ctl destroy -p "${pid[0]}" -m "$minor_of_clone"

# A store in use is found at the bottom of the longest allowed chain of bases.
check "twenty stores on one" make_levels 20
check "the lowest" open_target 9 "cow:level0.cow"
check "the highest opens in the same process" open_snapshot_of "cow:level20.cow" 9
check "the lowest is closed" tap-ctl destroy ${disk[9]}
check "and opened again, where the highest is" open_again 9 level0.cow
check "both are let go" sh -c "tap-ctl destroy -p ${pid[9]} -m $minor_of_clone && tap-ctl destroy ${disk[9]}"

/usr/bin/python3 -c "import nbd, signal, sys
disk = nbd.NBD()
disk.connect_uri(sys.argv[1])
print('connected', flush=True)
signal.pause()" "${uri[0]}" >connected &
client=$!
until [ -s connected ] || ! kill -0 $client; do sleep 0.1; done
check "no way back while a client is connected" refuses 16 '' tap-ctl snapshot-revert -n before ${disk[0]}
kill $client
wait $client 2>/dev/null
# tapdisk notices the client's end with some delay
check "back" eventually tap-ctl snapshot-revert -n before ${disk[0]}
check "the disk holds what was there" holds "${uri[0]}" old
check "a larger disk" is "$(tap-ctl resize ${disk[0]} -s 96M)" 196608
check "is seen at once" is "$(tap-ctl info ${disk[0]} --json | jq .disk.sectors)" 196608
check "it has zeros behind what was there" sh -c "nbdcopy '${uri[0]}' - | tail -c 32M | cmp -n 33554432 - /dev/zero"
check "no smaller one while it is open" refuses 22 '' tap-ctl resize ${disk[0]} -s 64M
check "nor one of no size" refuses 22 '' tap-ctl resize ${disk[0]} -s 0
check "nor one of half a sector" refuses 22 '' tap-ctl resize ${disk[0]} -s 1000
check "back, the size too" eventually tap-ctl snapshot-revert -n before ${disk[0]}
check "is seen" is "$(tap-ctl info ${disk[0]} --json | jq .disk.sectors)" 131072
check "delete" tap-ctl snapshot-delete -n before ${disk[0]}
check "no snapshot is left" says "" names 0
given_back() { is "$(tap-ctl stats ${disk[$1]} | jq -c '[.deletions, .unpunched]')" '[0,0]'; }
check "and its space is given back" eventually given_back 0
check "the disk is as it was" holds "${uri[0]}" old
check "end" end_disks
check "the store is clean" stores_are_clean 0
rm 0.cow

# fio_run SECONDS N: writes to disk N and verifies, through the ring. The order of two writes in flight to the same
# place is undefined, so there are none.
fio_run() {
	timeout 300 fio --name=verify --size=$size --rw=randwrite --bsrange=4k-64k --blockalign=4k --serialize_overlap=1 \
		--iodepth=32 --end_fsync=1 \
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 --verify_backlog=512 --time_based --runtime="$1" \
		--ioengine="external:$engine_so" --tapdisk_pid="${pid[$2]}" --minor="${minor[$2]}" >"fio.$2" 2>&1
}

# While fio runs: take snapshots N, N + 1, ..., and keep four.
snapshots_meanwhile() {	# OPTIONS...: the disks
	local number=0

	while kill -0 "$fio" 2>/dev/null; do
		number=$((number + 1))
		tap-ctl snapshot-create -n "s$number" "$@" || return 1
		[ $number -le 4 ] || tap-ctl snapshot-delete -n "s$((number - 4))" "$@" || return 1
	done
	echo "$number snapshots"
	[ $number -ge 10 ]
}

fio_and_snapshots() {	# fio_and_snapshots SECONDS N...: fio on each disk, snapshots of all of them
	local seconds=$1 status=0 fios=() n
	shift
	for n in "$@"; do
		fio_run "$seconds" "$n" &
		fios+=($!)
	done
	fio=${fios[0]}
	snapshots_meanwhile $group || status=1
	for n in "$@"; do
		wait "${fios[0]}" || { status=1; cat "fio.$n"; }
		fios=("${fios[@]:1}")
	done
	return $status
}

check "a disk" make_disks 0
check "fio verifies while snapshots come and go" fio_and_snapshots 5 0
check "stalls were counted" test "$(tap-ctl stats ${disk[0]} | jq '.stalls.count >= 10')" = true
check "end" end_disks
check "the store is clean" stores_are_clean 0
rm 0.cow

# Three disks.
check "three disks" make_disks 0 1 2
check "fio verifies on each while groups are taken" fio_and_snapshots 5 0 1 2
same_names() {
	local first
	first=$(names 0) && says "$first" names 1 && says "$first" names 2
}
check "each has the same snapshots" same_names
listed_together() {
	is "$(tap-ctl snapshot-list $group --json | jq -c '[.disks[] | ["-p", .pid, "-m", .minor, ([.snapshots[].name] | sort)]]')" \
		"$(for n in 0 1 2; do echo "-p ${pid[$n]} -m ${minor[$n]}" $(names $n); done |
			jq -Rc 'split(" ") | [.[0], (.[1] | tonumber), .[2], (.[3] | tonumber), .[4:]]' | jq -sc .)"
}
check "they are listed in one call" listed_together
check "for people, too" is "$(tap-ctl snapshot-list $group | grep -c '^pid=')" 3
check "no decision is left over" says "" ls state/groups
check "a snapshot of all" tap-ctl snapshot-create -n read $group
check "one of them is open" open_snapshot 1 read
check "it is deleted of none" refuses 16 '' tap-ctl snapshot-delete -n read $group
check "each has the same snapshots" same_names
check "it is closed" close_snapshot 1
check "it is deleted of all" tap-ctl snapshot-delete -n read $group
check "each has the same snapshots" same_names
check "end" end_disks
check "the stores are clean" stores_are_clean 0 1 2
rm ./*.cow

# The order of dependent writes: 12 group snapshots in the middle of them, each checked from outside.
check "three disks" make_disks 0 1 2
order_holds() {
	local k n uris minors=()

	rm -f stop
	$order write stop "${uri[@]:0:3}" >written &
	writer=$!
	for k in {1..12}; do
		tap-ctl snapshot-create -n "k$k" $group || return 1
	done
	touch stop
	wait $writer || return 1
	cat written
	for k in {1..12}; do
		uris=() minors=()
		for n in 0 1 2; do
			open_snapshot $n "k$k" || return 1
			uris+=("$uri_of") minors+=("$minor_of")
		done
		$order check "${uris[@]}" || return 1
		for n in 0 1 2; do
			tap-ctl destroy -p "${pid[$n]}" -m "${minors[$n]}" || return 1
		done
	done
}
check "no snapshot of a group shows a write without the one before it" order_holds

# All or none, whichever process is killed.
all_or_none() { same_names && is "$(tap-ctl list --json | jq '[.tapdisks[] | select(.state != 0)] | length')" 0; }
kill_coordinators() {
	local k hits=0

	seed_pauses
	for k in {1..30}; do
		tap-ctl snapshot-create -n "c$k" $group 2>/dev/null &
		has_begun $! tap-ctl
		pause_up_to $((k % 10))
		! killed $! || hits=$((hits + 1))
	done
	echo "$hits of 30 were killed"
	[ $hits -ge 3 ]
}
fio_run 5 0 &
fio=$!
check "coordinators are killed at any time" kill_coordinators
check "nothing is left that is in the way of another" eventually tap-ctl snapshot-create -n last $group
check "each disk has the same snapshots" all_or_none
wait $fio
check "and fio did not see it" grep -q 'err= 0' fio.0

# Revert: all or none, too. Each disk's contents show whether it was reverted.
fill_all() { for n in 0 1 2; do fill $n "$1" || return 1; done; }
where_all() {	# puts "old" or "new" into the file where, once all disks are open
	if holds "${uri[0]}" old >/dev/null; then want=old; else want=new; fi
	for n in 0 1 2; do holds "${uri[$n]}" $want || return 1; done
	echo $want >where
}
kill_reverters() {
	local k hits=0

	seed_pauses
	for k in {0..11}; do
		fill_all new || return 1
		tap-ctl snapshot-revert -n there $group 2>/dev/null &
		has_begun $! tap-ctl
		pause_up_to $((3 * k))
		! killed $! || hits=$((hits + 1))
		eventually where_all || return 1
	done
	echo "$hits of 12 were killed"
	[ $hits -ge 1 ]
}
all_are() { where_all && is "$(<where)" "$1"; }
check "the same on all disks" fill_all old
check "and a snapshot of it" tap-ctl snapshot-create -n there $group
check "who goes back is killed at any time" kill_reverters
check "all go back" eventually tap-ctl snapshot-revert -n there $group
check "and hold what they held" all_are old
check "no decision is in the way" tap-ctl snapshot-delete -n there $group

reopen() {
	for n in 0 1 2; do
		tap-ctl destroy ${disk[$n]} 2>/dev/null
		open_disk $n || return 1
	done
	group="${disk[0]} ${disk[1]} ${disk[2]}"
}
kill_tapdisks() {
	local k victim hits=0

	seed_pauses
	for k in {0..11}; do
		victim=${pid[$((k % 3))]}
		tap-ctl snapshot-create -n "t$k" $group 2>/dev/null &
		has_begun $! tap-ctl
		pause_up_to $((k % 7))
		kill -9 "$victim" || return 1
		wait $! || hits=$((hits + 1))
		# its locks last until it ends, which is when the kernel has finished its I/O
		tail --pid="$victim" -s 0.01 -f /dev/null
		reopen || return 1
		same_names || { echo "after t$k"; return 1; }
	done
	echo "$hits of 12 snapshots failed"
	[ $hits -ge 1 ]
}
check "tapdisks are killed at any time; each disk has the same snapshots" kill_tapdisks
check "and another group can be taken" tap-ctl snapshot-create -n after $group
check "end" end_disks
check "the stores are clean" stores_are_clean 0 1 2
rm ./*.cow

# tapdisk is killed when the blocks of a deleted snapshot, every second 64 KiB of the disk, are free and take space on the host.
write_all() { yes "all of it" | head -c $size | nbdcopy --flush - "${uri[6]}"; }
write_half() {
	nbdsh -u "${uri[6]}" -c "for at in range(0, h.get_size(), 2 << 16): h.pwrite(b'half of it'.ljust(1 << 16), at)" -c "h.flush()"
}
takes() { echo $(($(stat -c "%b * %B" 6.cow) >> 20)); }	# MiB
takes_at_most() { [ "$(takes)" -le "$1" ]; }
# Beside reads holes are made slowly.
read_on() {
	/usr/bin/python3 -c "import nbd, sys
disk = nbd.NBD()
disk.connect_uri(sys.argv[1])
print('reads', flush=True)
while True:
    disk.pread(4096, 0)" "${uri[6]}" >reads 2>/dev/null &
	until [ -s reads ]; do kill -0 $! || return 1; done
}
kill_before_holes() {
	tap-ctl snapshot-create -n s ${disk[6]} && write_half && nbdcopy "${uri[6]}" want.raw && read_on || return 1
	tap-ctl snapshot-delete -n s ${disk[6]} || return 1
	until [ "$(tap-ctl stats ${disk[6]} | jq .deletions)" = 0 ]; do kill -0 "${pid[6]}" || return 1; done
	kill_tapdisk "${pid[6]}" && wait_gone $! || return 1
	tap-ctl destroy ${disk[6]} 2>/dev/null
	echo "before the snapshot it took $before MiB, now $(takes)"
	is "$(tap-img info 6.cow --json | jq .deletions)" 0
}
killed_before_holes() {
	local tries

	before=$(takes)
	for tries in {1..20}; do
		rm -f reads
		kill_before_holes || return 1
		takes_at_most $((before + 7)) || return 0
		open_disk 6 || return 1		# too late, the holes were there
	done
	return 1
}
gives_back() {
	open_disk 6 && eventually takes_at_most $((before + 4)) || { echo "$(takes) MiB, before it $before"; return 1; }
	nbdcopy "${uri[6]}" - | cmp - want.raw
}
check "a disk" make_disks 6
check "write all of it" write_all
check "killed when what a snapshot held is free, and takes space" killed_before_holes
check "the next tapdisk gives it back" gives_back
check "end" end_disks
check "tap-img sees it, too" test "$(tap-img info 6.cow --json | jq '."actual-size"')" -le $(((before + 4) << 20))
check "the store is clean" stores_are_clean 6
rm 6.cow

# A full store: writes wait, and continue.
full_store() {
	local tries state

	mkdir small
	mount -t tmpfs -o size=24M none small || return 1
	tap-img create small/store.cow $size || return 1
	ln -s small/store.cow 3.cow
	open_disk 3 || return 1
	fallocate -l $(($(df --output=avail -B1 small | tail -1) - (4 << 20))) small/filler || return 1
	yes | head -c 12M | nbdcopy - "${uri[3]}" &
	for tries in {1..100}; do
		[ "$(tap-ctl info ${disk[3]} --json | jq .disk.no_space)" != true ] || break
		sleep 0.1
	done
	[ "$tries" -lt 100 ] || { echo "never full"; return 1; }
	tap-ctl info ${disk[3]} | grep -q "^no space:" || return 1
	tap-ctl snapshot-create -n full ${disk[3]} && is "$(names 3)" full || return 1
	is "$(tap-ctl info ${disk[3]} --json | jq .disk.no_space)" true || return 1
	rm small/filler
	wait $! || return 1
	for tries in {1..100}; do
		[ "$(tap-ctl info ${disk[3]} --json | jq .disk.no_space)" = true ] || break
		sleep 0.1
	done
	[ "$tries" -lt 100 ] || { echo "still full"; return 1; }
	nbdcopy "${uri[3]}" - | head -c 12M | cmp - <(yes | head -c 12M)
}
if [ "$(id -u)" = 0 ]; then
	check "a full store: writes wait until there is room" full_store
	check "end" end_disks
	check "the store is clean" tap-img check 3.cow
else
	skip "a full store" "needs root"
fi

# The same for a store on a device, which grows while it is in use.
full_device() {
	tap-img create "$loop" $size && open_target 4 "cow:$loop" || return 1
	yes | head -c 32M | timeout 60 nbdcopy --flush - "${uri[4]}" &
	eventually full_is true || { echo "never full"; return 1; }
	tap-ctl snapshot-create -n full ${disk[4]} && is "$(names 4)" full && full_is true || return 1
	truncate -s 64M device.img && losetup -c "$loop" || return 1
	wait $! || { echo "the writer failed"; return 1; }
	eventually full_is false || { echo "still full"; return 1; }
	nbdcopy "${uri[4]}" - | head -c 32M | cmp - <(yes | head -c 32M)
}
full_is() { is "$(tap-ctl info ${disk[4]} --json | jq .disk.no_space)" "$1"; }
truncate -s 24M device.img
if [ "$(id -u)" = 0 ] && loop=$(losetup --show -f device.img 2>/dev/null); then
	loops+=("$loop")
	check "a full device: writes wait until it is larger" full_device
	check "end" end_disks
	check "the store is clean" tap-img check "$loop"
else
	skip "a full device" "no loop device"
fi

finish
