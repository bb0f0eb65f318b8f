#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_overlay.sh - raw disks that move onto a store while they are in use
# (snapshot-create --store), and back to their image (commit): under fio that
# verifies its reads, with tapdisk and tap-ctl killed in between. While the disk
# is in the store, opening the image by its name opens the store.
#
# Output is TAP. BUILD says where the programs are. Needs: fio jq
# python3-libnbd libnbd-bin util-linux (mount, as root; an image that has no
# space is skipped otherwise)
. "$(dirname "$0")/lib.sh"
writer="/usr/bin/python3 $here/tests/system/overlay_writer.py"
size=64M

open_disk() { open_target "$1" "aio:$work/$1.img"; }
make_disk() { rm -f "$1".*; truncate -s $size "$1.img" && open_disk "$1"; }
kill_disk() { kill_tapdisk "${pid[$1]}"; }
reopen_disk() { tap-ctl destroy ${disk[$1]} >/dev/null 2>&1; open_disk "$1"; }

pattern() { yes "pattern $1" | head -c 8M; }
fill() { pattern "$2" | nbdcopy - "${uri[$1]}"; }
holds() { nbdcopy "$1" - | head -c 8M | cmp - <(pattern "$2"); }
image_holds() { head -c 8M "$1.img" | cmp - <(pattern "$2"); }
names() {
	local list
	list=$(tap-ctl snapshot-list ${disk[$1]} --json) && jq -r '[.snapshots[].name] | sort[]' <<<"$list"
}
store_of() { tap-ctl info ${disk[$1]} --json | jq -r '.disk.store // "none"'; }
is_raw() { is "$(store_of "$1")" none && [ ! -e "$1.img.tapsnap-overlay" ] && [ ! -e "$1.img.cow" ]; }
in_store() { is "$(store_of "$1")" "$work/$1.img.cow" && [ -e "$1.img.tapsnap-overlay" ]; }
move() { tap-ctl snapshot-create ${disk[$1]} --store . -n "$2"; }
back() { tap-ctl snapshot-delete ${disk[$1]} -n "$2" && tap-ctl commit ${disk[$1]} --json; }

# Every open of the image opens the store.
check "a raw disk" make_disk 0
check "write" fill 0 old
check "no snapshot without a store" refuses 95 '' tap-ctl snapshot-create ${disk[0]} -n before
check "a snapshot with one" move 0 before
check "the disk is in the store" in_store 0
check "list says what was asked for" is "$(tap-ctl list | sed 's/.*args=//')" "aio:$work/0.img"
check "overwrite" fill 0 new
check "the disk has the new" holds "${uri[0]}" new
check "the image has the old" image_holds 0 old
snapshot_holds() {
	local marker status
	marker=$(tap-ctl create -a "cow:$work/0.img.cow@before") || return 1
	[ "$(tap-ctl list -m "${marker##*-}" --json | jq .tapdisks[0].pid)" = "${pid[0]}" ] || return 1
	holds "nbd+unix:///?socket=$TAPSNAP_RUN_DIR/nbd${pid[0]}.${marker##*-}" old
	status=$?
	tap-ctl destroy -p "${pid[0]}" -m "${marker##*-}" && return $status
}
check "the snapshot has the old" snapshot_holds
check "a second snapshot needs no store" tap-ctl snapshot-create ${disk[0]} -n again
check "and takes none" refuses 17 '' tap-ctl snapshot-create ${disk[0]} --store other.cow -n third
check "a second tapdisk is kept away" refuses 16 '' tap-ctl create -a "aio:$work/0.img"
check "no commit under snapshots" refuses 16 '' tap-ctl commit ${disk[0]}
check "pause" tap-ctl pause ${disk[0]}
check "unpause" tap-ctl unpause ${disk[0]}
check "still in the store" holds "${uri[0]}" new
check "kill -9" kill_disk 0
check "opened again by the image's name" reopen_disk 0
check "it is the store" holds "${uri[0]}" new
check "with its snapshots" is "$(names 0 | xargs)" "again before"
check "closed" tap-ctl destroy ${disk[0]}

tap_img_refuses() {
	truncate -s $size other.img
	refuses 1 '' tap-img convert -f raw -O raw 0.img copy.img && refuses 1 '' tap-img convert -f raw -O raw other.img 0.img &&
		refuses 1 '' tap-img create -b 0.img -F raw other.cow && refuses 1 '' tap-img create 0.img 64M &&
		refuses 2 '' tap-img compare -f raw -F raw 0.img other.img && refuses 1 '' tap-img info 0.img &&
		refuses 1 '' tap-img measure -f raw 0.img && refuses 1 '' tap-img check 0.img && image_holds 0 old
}
check "tap-img does not take the image for the disk" tap_img_refuses
check "the store is clean" tap-img check 0.img.cow

# A store that does not fit is refused, and nothing is changed.
cp 0.img.tapsnap-overlay record
no_open() { refuses "$1" '' tap-ctl create -a "aio:$work/0.img" && grep -q "$2" out && says "" tap-ctl list; }
head -c 40 record >0.img.tapsnap-overlay
check "a record that was cut short" no_open 117 damaged
sed 's/^uuid ./uuid x/' record >0.img.tapsnap-overlay
check "a record that is damaged" no_open 117 damaged
sed 's/^uuid .*/uuid 00112233445566778899aabbccddeeff/' record >0.img.tapsnap-overlay
check "a record of another store" no_open 116 "does not match the store"
cp record 0.img.tapsnap-overlay
mv 0.img.cow away.cow
check "a store that is missing" no_open 2 "0.img.cow"
mv away.cow 0.img.cow
mv 0.img away.img
truncate -s $size 0.img
check "another image in its place" no_open 116 "written, resized or replaced"
mv away.img 0.img
touch -d "1 minute ago" 0.img
check "an image that was written since" no_open 116 "written, resized or replaced"
rm 0.img 0.img.*

# A failed command leaves the disk as it was.
truncate -s $size 0.img
check "a store as one is before its record is made" eval "tap-img create -b 0.img -F raw left.cow && tap-img snapshot -c one left.cow"
cp left.cow used.cow
check "and one that has been used" tap-img snapshot -c two used.cow
check "a raw disk" make_disk 0
check "what has been used is not taken" unchanged used.cow refuses 17 '' tap-ctl snapshot-create ${disk[0]} --store used.cow -n one
check "what was never used is" tap-ctl snapshot-create ${disk[0]} --store left.cow -n one
check "the disk is in it" is "$(store_of 0)" "$work/left.cow"
check "and back" eventually eval "tap-ctl snapshot-delete ${disk[0]} -n one; tap-ctl commit ${disk[0]}"
check "the disk is raw" eventually is_raw 0
ln 0.img second.img
check "an image with two names" refuses 31 '' tap-ctl snapshot-create ${disk[0]} --store . -n one
rm second.img
/usr/bin/python3 -c "import fcntl, signal
image = open('0.img', 'r+')
fcntl.lockf(image, fcntl.LOCK_SH, 1, 100)
print('locked', flush=True)
signal.pause()" >locked &
other=$!
until [ -s locked ] || ! kill -0 $other; do sleep 0.1; done
check "an image that another program has open, as QEMU does" refuses 16 '' tap-ctl snapshot-create ${disk[0]} --store . -n one
kill $other
wait $other 2>/dev/null
touch there.cow
check "a store that is there" refuses 17 '' tap-ctl snapshot-create ${disk[0]} --store there.cow -n one
check "a directory that is not there" refuses 2 '' tap-ctl snapshot-create ${disk[0]} --store none/a.cow -n one
check "a bad name" refuses 22 '' tap-ctl snapshot-create ${disk[0]} --store . -n a@b
check "the disk is raw, and nothing is left" eventually is_raw 0
check "no commit of a raw disk" refuses 22 "is not in a store" tap-ctl commit ${disk[0]}
check "and none to cancel" refuses 22 "no commit is running" tap-ctl commit ${disk[0]} -c
check "pause" tap-ctl pause ${disk[0]}
check "nor of one that is paused" refuses 16 "is paused" tap-ctl commit ${disk[0]}
check "unpause" tap-ctl unpause ${disk[0]}

# Pace and cancel.
check "write" fill 0 old
check "a snapshot" move 0 one
check "overwrite" fill 0 new
check "delete" tap-ctl snapshot-delete ${disk[0]} -n one
commit_state() { tap-ctl info ${disk[0]} --json | jq -r .disk.commit.state; }
check "a commit of a MiB a second is begun" tap-ctl commit ${disk[0]} -r 1 -w
check "it runs" is "$(commit_state)" running
check "no snapshot meanwhile" refuses 16 '' tap-ctl snapshot-create ${disk[0]} -n two
check "it is canceled" tap-ctl commit ${disk[0]} -c
check "the disk is in the store" in_store 0
check "and holds what it did" holds "${uri[0]}" new
check "begun again" tap-ctl commit ${disk[0]} -r 1 -w
check "a pause ends it" tap-ctl pause ${disk[0]}
check "unpause" tap-ctl unpause ${disk[0]}
check "it says so" is "$(commit_state)" failed
check "the disk is in the store" in_store 0
check "the pace of one that runs is changed" tap-ctl commit ${disk[0]} -r 1 -w
check "to as fast as can be" tap-ctl commit ${disk[0]} -r 0
check "the disk is raw" is_raw 0
check "and holds what it did" holds "${uri[0]}" new
check "there again" move 0 one
check "delete" tap-ctl snapshot-delete ${disk[0]} -n one
check "overwrite" fill 0 newer
check "overwrite" fill 0 new
commit_runs() { is "$(commit_state)" running; }
kill_commit() {
	tap-ctl commit ${disk[0]} -r 1 &
	eventually commit_runs && kill -9 $! && ! wait $! 2>/dev/null
}
check "tap-ctl is killed" kill_commit
check "opened again in the middle" eventually tap-ctl commit ${disk[0]} -w -r 1
check "kill -9" kill_disk 0
check "the disk opens on the store" reopen_disk 0
check "in it" in_store 0
check "and holds what it did" holds "${uri[0]}" new
check "a commit, again" tap-ctl commit ${disk[0]}
check "the disk is raw" is_raw 0
check "and holds what it did" holds "${uri[0]}" new
check "end" end_disks
check "so does the image" image_holds 0 new

# The guest is off.
check "a raw disk" make_disk 0
check "write" fill 0 old
check "a snapshot" move 0 one
check "overwrite" fill 0 new
check "end" end_disks
check "delete" tap-img snapshot -d one 0.img.cow
check "a commit by tap-img" tap-img commit 0.img.cow
check "the record is gone" [ ! -e 0.img.tapsnap-overlay ]
check "the image is the disk" image_holds 0 new
check "which can be opened" open_disk 0
check "end" end_disks

# Another store on the image, such as a copy, must not write the image: its record names the original store.
rm 0.img.cow
check "a raw disk" open_disk 0
check "a snapshot" move 0 one
check "overwrite" fill 0 more
check "end" end_disks
check "a copy of the store" cp --sparse=always 0.img.cow other.cow
check "delete" tap-img snapshot -d one other.cow
check "no commit of the copy" unchanged 0.img refuses 1 "its disk has moved to the store $work/0.img.cow" tap-img commit other.cow
check "the disk is opened" open_disk 0
check "and holds what it did" holds "${uri[0]}" more
check "end" end_disks
check "delete" tap-img snapshot -d one 0.img.cow
check "a commit of the one that the record names" tap-img commit 0.img.cow
check "the image is the disk" image_holds 0 more

# The disk grows in the store; the commit grows its image.
at() { nbdsh -u "${uri[$1]}" -c "assert h.pread(512, $2) == b'$3'.ljust(512, b'\\0')"; }
put_at() { nbdsh -u "${uri[$1]}" -c "h.pwrite(b'$3'.ljust(512, b'\\0'), $2); h.flush()"; }
size_of() { tap-ctl info ${disk[$1]} --json | jq '.disk.sectors * 512'; }
sizes() { is "$(size_of "$1")" "$2" && is "$(stat -c %s "$1.img")" "$3"; }
old_size=$((64 << 20)) new_size=$((80 << 20))
check "a raw disk" make_disk 7
check "write" fill 7 old
check "it is as large as its image" refuses 95 "enlarge the image first" tap-ctl resize ${disk[7]} -s 80M
check "a snapshot" move 7 one
check "in the store it cannot become smaller" refuses 22 "cannot become smaller" tap-ctl resize ${disk[7]} -s 32M
check "but larger" is "$(tap-ctl resize ${disk[7]} -s 80M --json | jq .sectors)" $((new_size / 512))
check "overwrite" fill 7 new
check "write at its end, and flush" put_at 7 $((new_size - 512)) end
check "the image is not touched" image_holds 7 old
check "and as large as it was" sizes 7 $new_size $old_size
check "kill -9" kill_disk 7
check "opened again" reopen_disk 7
check "it is as large as it was" sizes 7 $new_size $old_size
check "and has its end" at 7 $((new_size - 512)) end
check "delete" tap-ctl snapshot-delete ${disk[7]} -n one
check "a commit is begun" tap-ctl commit ${disk[7]} -r 1 -w
check "no resize meanwhile" refuses 16 '' tap-ctl resize ${disk[7]} -s 96M
check "kill -9" kill_disk 7
check "opened again" reopen_disk 7
check "it is in the store" in_store 7
check "and holds what it did" holds "${uri[7]}" new
check "and has its end" at 7 $((new_size - 512)) end
check "a commit" eventually tap-ctl commit ${disk[7]}
check "the disk is raw" is_raw 7
check "the image has grown with it" sizes 7 $new_size $new_size
check "the disk holds what it did" holds "${uri[7]}" new
check "to its end" at 7 $((new_size - 512)) end
check "and zeros where nothing was written" at 7 $old_size ''
check "end" end_disks
check "so does the image" image_holds 7 new
check "it has no more space than before" test "$(($(stat -c '%b * %B' 7.img)))" -lt $((16 << 20))

# The image has no room for all data: the disk stays in the store until it has.
make_narrow() {
	mkdir small && mount -t tmpfs -o size=16M none small && truncate -s $size small/8.img && open_target 8 "aio:$work/small/8.img" &&
		move 8 one
}
large() { yes "large $1" | head -c 32M; }
narrow_holds() { nbdcopy "${uri[8]}" - | head -c 32M | cmp - <(large "$1"); }
if [ "$(id -u)" = 0 ]; then
	check "a raw disk on a file system that is too small for it, in a store on another" make_narrow
	check "write" eval "large 1 | nbdcopy - '${uri[8]}'"
	check "delete" tap-ctl snapshot-delete ${disk[8]} -n one
	check "the commit finds no space" refuses 28 "cannot be committed to" tap-ctl commit ${disk[8]}
	check "it says so" is "$(tap-ctl info ${disk[8]} --json | jq -r .disk.commit.state)" failed
	check "the disk is in the store" is "$(store_of 8)" "$work/8.img.cow"
	check "and holds what it did" narrow_holds 1
	check "and is written" eval "large 2 | nbdcopy - '${uri[8]}'"
	check "there is space" mount -o remount,size=64M small
	check "a commit" tap-ctl commit ${disk[8]}
	check "the disk is raw" is "$(store_of 8)" none
	check "and holds what it did" narrow_holds 2
	check "end" end_disks
	check "so does the image" cmp -n $((32 << 20)) small/8.img <(large 2)
else
	skip "a commit that finds no space" "needs root"
fi

# On a terminal a commit shows how far it is: of 32 MiB all but the last four at the pace.
check "a raw disk" make_disk 11
check "moves" move 11 s
check "delete" tap-ctl snapshot-delete ${disk[11]} -n s
check "write" sh -c "head -c 32M /dev/urandom | nbdcopy - '${uri[11]}'"
bar() {
	script -qec "tap-ctl commit ${disk[11]} -r 28" /dev/null | tr '\r' '\n' >bar && grep -v '^ *$' bar
	grep -q '^commit  \[=* *\] *[0-9]*\.[0-9]%, pass 1, [0-9]* MiB left' bar && grep -q "the raw image is the disk again" bar
}
check "a commit shows a bar on a terminal" bar
check "the disk is raw" is_raw 11
check "end" end_disks

# With fio on the disk.
fio_run() {
	timeout 300 fio --name=verify --size=$size --rw=randwrite --bsrange=4k-64k --blockalign=4k --serialize_overlap=1 \
		--iodepth=32 --end_fsync=1 \
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 --verify_backlog=512 --time_based --runtime="$1" \
		--ioengine="external:$engine_so" --tapdisk_pid="${pid[$2]}" --minor="${minor[$2]}" >"fio.$2" 2>&1
}
there_and_back() {
	local rounds=0

	fio_run 3 1 &
	fio=$!
	while kill -0 $fio 2>/dev/null; do
		move 1 s && in_store 1 && back 1 s && is_raw 1 || return 1
		rounds=$((rounds + 1))
	done
	wait $fio || { cat fio.1; return 1; }
	echo "$rounds times"
	[ $rounds -ge 1 ]
}
check "a raw disk" make_disk 1
check "fio verifies while it goes there and back" there_and_back
check "end" end_disks

# tapdisk is killed at any time: every answered write is there.
deaths() {
	local k hits=0

	seed_pauses
	make_disk 2 || return 1
	for k in {1..4}; do
		$writer write "${uri[2]}" may $k >written 2>&1 &
		client=$!
		if [ "$(store_of 2)" = none ]; then
			move 2 s 2>/dev/null &
		else
			{ tap-ctl snapshot-delete ${disk[2]} -n s; tap-ctl commit ${disk[2]}; } >/dev/null 2>&1 &
		fi
		pause_up_to $(((k - 1) * 300))
		kill_disk 2 || return 1
		wait $! || hits=$((hits + 1))
		wait $client || { cat written; return 1; }
		reopen_disk 2 || return 1
		$writer check "${uri[2]}" may || return 1
		echo "after $k: $(store_of 2)"
	done
	echo "$hits of 4 were on the way"
	[ $hits -ge 1 ]
}
check "tapdisk is killed on the way, there and back" deaths
check "in the end it can be brought back" eventually sh -c "tap-ctl snapshot-delete ${disk[2]} -n s; tap-ctl commit ${disk[2]} || [ ! -e 2.img.tapsnap-overlay ]"
check "and every write is there" $writer check "${uri[2]}" may
check "end" end_disks

# tap-ctl is killed at any time: the disk still works, on its image or in the store.
coordinators() {
	local k hits=0

	seed_pauses
	make_disk 6 && fill 6 old || return 1
	for k in {1..5}; do
		tap-ctl snapshot-create ${disk[6]} --store . -n c 2>/dev/null &	# not move, which would be another shell
		has_begun $! tap-ctl
		pause_up_to $(((k - 1) * 15))
		! killed $! || hits=$((hits + 1))
		# the disk still takes writes
		fill 6 old && holds "${uri[6]}" old || return 1
		echo "after $k: $(store_of 6)"
		# what was left does not block the next move
		[ "$(store_of 6)" != none ] || eventually move 6 c || return 1
		if [ "$(store_of 6)" != none ]; then
			says c names 6 || eventually says "" names 6 || return 1
			tap-ctl snapshot-delete ${disk[6]} -n c 2>/dev/null
			eventually tap-ctl commit ${disk[6]} || return 1
		fi
		is_raw 6 && image_holds 6 old || return 1
	done
	echo "$hits of 5 were killed"
	[ $hits -ge 1 ]
}
check "tap-ctl is killed on the way there" coordinators
check "nothing is left of it" [ ! -e 6.img.tapsnap-overlay.new ]
check "end" end_disks

# Several disks at one instant, raw ones and a store.
make_group() {
	rm -f may
	make_disk 3 && make_disk 4 || return 1
	tap-img create 5.cow $size && marker=$(tap-ctl create -a "cow:$work/5.cow") || return 1
	minor[5]=${marker##*-}
	pid[5]=$(tap-ctl list -m "${minor[5]}" --json | jq .tapdisks[0].pid)
	disk[5]="-p ${pid[5]} -m ${minor[5]}"
}
check "two raw disks and a store" make_group
check "a group where one fails" refuses 95 '' tap-ctl snapshot-create -n g0 ${disk[3]} --store . ${disk[4]} ${disk[5]}
check "leaves all as they were" eventually is_raw 3
check "a snapshot in the store" tap-ctl snapshot-create -n g1 ${disk[5]}
check "which has no image to go back to" refuses 22 "was opened as a store" tap-ctl commit ${disk[5]}
check "a group where the last step fails on one" refuses 17 '' tap-ctl snapshot-create -n g1 --store . ${disk[3]} ${disk[4]} ${disk[5]}
check "the raw disks go back by themselves" eventually is_raw 3
check "both" eventually is_raw 4
check "a group" tap-ctl snapshot-create -n g2 --store . ${disk[3]} ${disk[4]} ${disk[5]}
same_names() { says g2 names 3 && says g2 names 4 && is "$(names 5 | xargs)" "g1 g2"; }
check "all have it" same_names
check "the raw ones are in stores" in_store 3
check "each in its own" in_store 4
check "end" end_disks

finish
