#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tap_img_base.sh - images on bases: snapshots in other images as bases,
# tap-img commit and rebase, and what they refuse.
#
# Output is TAP. BUILD says where the programs are. Needs: jq util-linux
. "$(dirname "$0")/lib.sh"

same() { tap-img compare "$@" >out 2>&1 || { cat out; return 1; }; }
clean() { exits 0 tap-img check "$1"; }

put() {	# put IMAGE FILE: copy the raw FILE into the image's disk, on its base
	local base
	base=$(tap-img info --json "$1" | jq -r .base)
	tap-img convert -f raw -O cow -B "$base" "$2" "$1" >/dev/null
}

edit() {	# edit FILE BLOCK COUNT: other random blocks of 4 KiB
	dd if=/dev/urandom of="$1" bs=4k seek="$2" count="$3" conv=notrunc status=none
}

head -c 8M /dev/urandom >one.raw
truncate -s 16M one.raw
cp --sparse=always one.raw two.raw
edit two.raw 5 3
edit two.raw 3000 10
dd if=/dev/zero of=two.raw bs=4k seek=100 count=20 conv=notrunc status=none

# a snapshot as a base
tap-img convert -f raw -O cow one.raw golden.cow
tap-img snapshot -c v1 golden.cow
check "create on a snapshot" tap-img create -b cow:golden.cow@v1 clone.cow
check "create on a snapshot, -F" tap-img create -b golden.cow@v1 -F cow clone.cow
check "its size" is "$(json '."virtual-size"' tap-img info clone.cow)" 16777216
check "its base" is "$(json .base tap-img info clone.cow)" "cow:$work/golden.cow@v1"
check "the same disk" same cow:clone.cow aio:one.raw
tap-img convert -f raw -O cow two.raw other.cow
check "a clone gets its own data" put clone.cow two.raw
check "the same disk" same cow:clone.cow aio:two.raw
check "the base is as it was" same cow:golden.cow@v1 aio:one.raw
check "check of it" clean clone.cow
tap-img snapshot -c w1 clone.cow
check "a clone of a clone" tap-img create -b cow:clone.cow@w1 third.cow 20M
check "the same disk, and zeros" same cow:third.cow aio:two.raw
check "map says base and zero" is "$(json 'map(.kind) | join(" ")' tap-img map third.cow)" "base zero"
check "convert flattens" tap-img convert cow:third.cow third.raw
check "the same bytes" cmp -n 16777216 two.raw third.raw

# what a guest counts its partitions in
tap-img create -s 4096 four.cow 16M >/dev/null
tap-img snapshot -c v1 four.cow
check "a clone has its base's sector size" tap-img create -b cow:four.cow@v1 four-clone.cow
check "4096" is "$(json '."sector-size"' tap-img info four-clone.cow)" 4096
check "unless another is asked for" tap-img create -s 512 -b cow:four.cow@v1 five-clone.cow
check "512" is "$(json '."sector-size"' tap-img info five-clone.cow)" 512

# what a base has to be
check "a base without a name" refuses 1 "PATH@NAME" tap-img create -b golden.cow -F cow x.cow
check "no such snapshot" refuses 1 'no snapshot called "v2"' tap-img create -b cow:golden.cow@v2 x.cow
check "no such store" refuses 1 "No such file" tap-img create -b cow:none.cow@v1 x.cow
check "on itself" unchanged golden.cow refuses 1 "its own base" tap-img create -b cow:golden.cow@v1 golden.cow
tap-img snapshot -c x third.cow
check "on an image that is based on it" unchanged golden.cow refuses 1 "its own base" tap-img create -b cow:third.cow@x golden.cow
check "nothing left of those" test ! -e x.cow
exec 7<golden.cow
flock -x 7
check "the base's store is open elsewhere" refuses 1 "golden.cow: in use" tap-img info clone.cow
exec 7<&-
cp --sparse=always golden.cow golden.keep
tap-img snapshot -d v1 golden.cow
check "the base was deleted" refuses 1 "the base is gone" tap-img info clone.cow
check "for those above, too" refuses 1 "the base is gone" tap-img info third.cow
tap-img snapshot -c v1 golden.cow
check "another one of its name is another one" refuses 1 "the base is gone" tap-img info clone.cow
tap-img convert -f raw -O cow one.raw golden.cow
tap-img snapshot -c v1 golden.cow
check "so is one in another store" refuses 1 "not the store that holds the base" tap-img info clone.cow
mv golden.keep golden.cow
check "the store as it was will do" same cow:clone.cow aio:two.raw

tap-img create -b cow:third.cow@x circle.cow >/dev/null
mv clone.cow clone.keep
mv circle.cow clone.cow
check "a loop" refuses 1 "or a loop" tap-img info third.cow
mv clone.keep clone.cow

# rebase
cp --sparse=always golden.cow moved.cow
check "rebase -u: the base has moved" tap-img rebase -u -b cow:moved.cow@v1 clone.cow
check "the same disk" same cow:clone.cow aio:two.raw
check "rebase: snapshots would change" refuses 1 "need the base" tap-img rebase -b "" clone.cow
tap-img snapshot -d w1 clone.cow
check "rebase: onto another base" tap-img rebase -b aio:one.raw clone.cow
check "the same disk" same cow:clone.cow aio:two.raw
check "what is the same there is not copied" test "$(json '[.[] | select(.kind == "data") | .length] | add' tap-img map clone.cow)" = 53248
check "check of it" clean clone.cow
cp --sparse=always one.raw three.raw
edit three.raw 1000 30
edit three.raw 2500 1
truncate -s 24M three.raw
edit three.raw 4095 50
check "rebase: onto one that differs, and is larger" tap-img rebase -b three.raw -F raw clone.cow
check "the same disk" same cow:clone.cow aio:two.raw
tap-img resize clone.cow +4M >/dev/null
check "what is new at its end is the base's, or zero" exits 0 tap-img check clone.cow
tap-img resize --shrink clone.cow 16M >/dev/null
check "rebase: onto none" tap-img rebase -b "" clone.cow
check "the same disk" same cow:clone.cow aio:two.raw
check "it has no base" is "$(json .base tap-img info clone.cow)" null
check "check of it" clean clone.cow
check "rebase: from none onto one" tap-img rebase -b cow:moved.cow@v1 clone.cow
check "the same disk" same cow:clone.cow aio:two.raw
tap-img create -b cow:golden.cow@v1 top.cow >/dev/null
tap-img snapshot -c t top.cow
check "rebase: onto itself" unchanged golden.cow refuses 1 "would be its own base" tap-img rebase -u -b cow:top.cow@t golden.cow
check "rebase: without -b" refuses 1 "-b BASE is missing" tap-img rebase clone.cow
check "rebase: format not said" refuses 1 "give its format with -F" tap-img rebase -b one.raw clone.cow
check "rebase: to what is not there" unchanged clone.cow refuses 1 "No such file" tap-img rebase -b aio:none.raw clone.cow
check "rebase: JSON" is "$(json .base tap-img rebase -u -b aio:one.raw clone.cow)" "aio:$work/one.raw"
printf x | dd of=one.raw bs=1 conv=notrunc status=none
check "a base that was written" refuses 1 "base was written" tap-img info clone.cow
check "rebase -u says that it is right" tap-img rebase -u -b aio:one.raw clone.cow
check "and it is opened again" exits 0 tap-img info clone.cow

# commit
cp --sparse=always one.raw base.raw
tap-img create -b base.raw -F raw delta.cow >/dev/null
put delta.cow two.raw
check "commit" tap-img commit delta.cow
check "the base has it" cmp base.raw two.raw
check "the image is empty" is "$(json 'map(.kind) | join(" ")' tap-img map delta.cow)" base
check "its space is given back" test "$(tap-img info --json delta.cow | jq '."actual-size"')" -lt 3200000
check "the same disk" same cow:delta.cow aio:two.raw
check "check of it" clean delta.cow
check "commit of nothing" tap-img commit delta.cow
check "and the base is known again" exits 0 tap-img info delta.cow
tap-img resize delta.cow 20M >/dev/null
cp --sparse=always two.raw longer.raw
truncate -s 20M longer.raw
edit longer.raw 5000 100
tap-img convert -f raw -O cow -B base.raw -F raw longer.raw delta.cow
check "commit of a disk that is larger" tap-img commit delta.cow
check "the base has grown" cmp base.raw longer.raw
check "the same disk" same cow:delta.cow aio:longer.raw
tap-img resize --shrink delta.cow 6M >/dev/null
tap-img resize delta.cow 20M >/dev/null
truncate -s 6M longer.raw
truncate -s 20M longer.raw
check "commit of a disk that was smaller once" tap-img commit delta.cow
check "the base shows no more there" cmp base.raw longer.raw
tap-img snapshot -c keep delta.cow
check "commit: snapshots need the base" unchanged base.raw refuses 1 "need the base" tap-img commit delta.cow
check "commit: no base" refuses 1 "no base" tap-img commit other.cow
tap-img create -b cow:golden.cow@v1 top.cow >/dev/null
check "commit: to a snapshot" unchanged golden.cow refuses 1 "which is read-only" tap-img commit top.cow
tap-img snapshot -d keep delta.cow
exec 7<base.raw
flock -s 7
check "commit: somebody reads the base" unchanged base.raw refuses 1 "in use" tap-img commit delta.cow
exec 7<&-

# commit, killed at any moment
head -c 96M /dev/urandom >want.raw
truncate -s 96M big.raw
tap-img create -b big.raw -F raw kill.cow >/dev/null
put kill.cow want.raw
killed() {	# the command is killed a little later each time, until it is through
	local wait=0.01 code=137 kills=0
	while [ $code = 137 ]; do
		tap-img commit kill.cow >out 2>&1 &
		sleep "$wait"
		kill -KILL $! 2>/dev/null
		wait $!
		code=$?
		kills=$((kills + 1))
		same cow:kill.cow aio:want.raw || return 1
		wait=$(awk "BEGIN { print $wait * 1.3 }")
	done
	cat out
	[ $code = 0 ] && [ $kills -gt 3 ]
}
check "commit, killed and begun again" killed
check "the base has it" cmp big.raw want.raw
check "check of it" clean kill.cow

# a device cannot be made larger by a commit
truncate -s 4M volume.img
if [ "$(id -u)" = 0 ] && volume=$(losetup --show -f volume.img 2>/dev/null); then
	loops+=("$volume")
	tap-img create -b "$volume" -F raw on_volume.cow >/dev/null
	tap-img resize on_volume.cow 6M >/dev/null
	head -c 6M /dev/urandom >volume.raw
	put on_volume.cow volume.raw
	check "commit: the device is too small" unchanged volume.img refuses 1 "$volume: smaller than the disk (6291456 bytes)" \
		tap-img commit on_volume.cow
	check "the disk is what it was" same cow:on_volume.cow aio:volume.raw
	truncate -s 6M volume.img
	losetup -c "$volume"
	check "commit: it has been made larger" tap-img commit on_volume.cow
	check "the device has it" cmp "$volume" volume.raw
	truncate -s 7M volume.img
	losetup -c "$volume"
	check "larger without having been asked to" refuses 1 "$volume: the base was written, resized or replaced" \
		tap-img info on_volume.cow
else
	skip "commit to a device" "no loop device"
fi

finish
