#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tap_img_convert.sh - tap-img convert, compare and measure: each format
# into each other one, compared with qemu-img where it knows the format.
#
# Output is TAP. BUILD says where the programs are. Needs: jq util-linux qemu-utils
. "$(dirname "$0")/lib.sh"

holds() {	# holds FORMAT FILE: for qemu-img it has the contents of disk.raw
	exits 0 qemu-img compare -f raw -F "$1" disk.raw "$2"
}

same() { tap-img compare "$@" >out 2>&1 || { cat out; return 1; }; }

nothing_left() {	# nothing_left NAME: neither the file nor a partial one is left
	! compgen -G "$1*" || return 1
}

# Data, holes, written zeros, and an end within a block of 4 KiB.
head -c 3M /dev/urandom >disk.raw
truncate -s 40M disk.raw
dd if=/dev/urandom of=disk.raw bs=4k seek=5000 count=60 conv=notrunc status=none
dd if=/dev/zero of=disk.raw bs=1M seek=25 count=2 conv=notrunc status=none
head -c 3584 /dev/urandom >>disk.raw

# raw and cow
check "raw to cow" tap-img convert -f raw -O cow disk.raw disk.cow
check "check of the image" exits 0 tap-img check disk.cow
check "cow to raw" tap-img convert -f cow -O raw disk.cow copy.raw
check "the same bytes" cmp disk.raw copy.raw
check "raw is the default" tap-img convert -f cow disk.cow default.raw
check "the same bytes" cmp disk.raw default.raw
check "holes stay holes" test "$(du -k copy.raw | cut -f1)" -lt 4000
check "zeros are not written" test "$(tap-img info --json disk.cow | jq '."actual-size"')" -lt 9000000
check "the size is exact" is "$(json '."virtual-size"' tap-img info disk.cow)" "$(stat -c %s disk.raw)"
check "JSON" is "$(json '[.format, ."virtual-size"] | @csv' tap-img convert -f raw -O cow disk.raw b.cow)" \
	'"cow",'"$(stat -c %s disk.raw)"
check "cow to cow" tap-img convert -O cow cow:disk.cow c.cow
check "the same disk" same cow:disk.cow cow:c.cow
tap-img create -s 4096 4k.cow 8M >/dev/null
check "sectors of 4096 stay" tap-img convert -O cow cow:4k.cow 4k2.cow
check "sectors of 4096 stay: seen" is "$(json '."sector-size"' tap-img info 4k2.cow)" 4096

# runs of zeros: of 4, 60, 64 and 400 KiB; that of 64 crosses a MiB boundary (tap-img reads a MiB at a time)
head -c 2M /dev/urandom >runs.raw
for run in 25:1 100:15 250:16 400:100; do
	dd if=/dev/zero of=runs.raw bs=4k seek=${run%:*} count=${run#*:} conv=notrunc status=none
done
allocated() {	# allocated FILE SIZE: it has the contents of runs.raw and takes SIZE of space
	cmp runs.raw "$1" && is "$(data_in "$1")" "$2"
}
data_in() { qemu-img map -f raw --output=json "$1" | jq '[.[] | select(.data) | .length] | add'; }
total=$((2 << 20))
check "-S, default: zeros of 4k are a hole" tap-img convert -f raw runs.raw runs.default
check "all runs of them" allocated runs.default $((total - (1 + 15 + 16 + 100) * 4096))
check "-S 64k" tap-img convert -S 64k -f raw runs.raw runs.64k
check "runs that are shorter are written" allocated runs.64k $((total - (16 + 100) * 4096))
check "-S 65k" tap-img convert -S 65k -f raw runs.raw runs.65k
check "and one that is just too short" allocated runs.65k $((total - 100 * 4096))
check "-S 0" tap-img convert -S 0 -f raw runs.raw runs.0
check "all of them are" allocated runs.0 $total
check "into a store" tap-img convert -S 64k -f raw -O cow runs.raw runs.cow
check "the same disk" same -f raw -F cow runs.raw runs.cow
check "with holes where the runs are long" is "$(json '[.[] | select(.kind == "zero") | .length] | @csv' tap-img map runs.cow)" \
	"$((16 * 4096)),$((100 * 4096))"
truncate -s 3584 hole.raw
truncate -s 8M hole.raw
check "a hole in the source is a run as any other" tap-img convert -S 0 -f raw hole.raw hole.0
check "and is written" is "$(data_in hole.0)" $((8 << 20))
check "onto a base" tap-img convert -S 64k -f raw -O cow -B runs.default -F raw hole.raw hole.cow
check "the same disk" same -f raw -F cow hole.raw hole.cow
check "half a sector" refuses 1 "-S: 700" tap-img convert -S 700 -f raw runs.raw x.raw
check "too much for -S" refuses 1 "16M at most" tap-img convert -S 17M -f raw runs.raw x.raw

# snapshots
tap-img snapshot -c one disk.cow
tap-img resize disk.cow +1M >/dev/null
check "a snapshot, -l" tap-img convert -f cow -l one disk.cow one.raw
check "a snapshot, PATH@NAME" tap-img convert cow:disk.cow@one two.raw
check "the same bytes" cmp disk.raw one.raw
check "the same bytes" cmp disk.raw two.raw
check "the disk has its own size" is "$(json '."virtual-sizes" | .[0] - .[1]' tap-img compare cow:disk.cow cow:disk.cow@one)" 1048576
check "a snapshot that is not there" refuses 1 'no snapshot called "none"' tap-img convert -f cow -l none disk.cow x.raw
check "a snapshot of a raw image" refuses 1 "only snapshots of cow images" tap-img convert -f raw -l one disk.raw x.raw
check "nothing left of those" nothing_left x.raw

# QEMU's formats
for format in qcow2:qcow2 vhd:vpc vhdx:vhdx vmdk:vmdk; do
	ours=${format%:*} qemu=${format#*:} source=disk.raw
	[ $ours = vhdx ] && { cp --sparse=always disk.raw whole.raw; truncate -s 41M whole.raw; source=whole.raw; }
	[ $ours = vmdk ] && source=whole.raw
	check "raw to $ours" tap-img convert -f raw -O $ours $source disk.$ours
	check "qemu-img reads it" exits 0 qemu-img compare -f raw -F $qemu $source disk.$ours
	check "$ours to cow" tap-img convert -f $ours -O cow disk.$ours from.$ours.cow
	check "the same disk" same -f raw -F cow $source from.$ours.cow
	check "cow to $ours" tap-img convert -f cow -O $ours from.$ours.cow again.$ours
	check "qemu-img reads it" exits 0 qemu-img compare -f raw -F $qemu $source again.$ours
	check "$ours to raw" tap-img convert -f $ours disk.$ours from.$ours.raw
	check "the same bytes" cmp $source from.$ours.raw
done
colon() {	# colon FORMAT NAME: convert to NAME and from it; no file of another name appears
	tap-img convert -f raw -O "$1" whole.raw "$2" && tap-img convert -f "$1" "$2" colon.raw && cmp whole.raw colon.raw &&
		is "$(ls | grep "[:y].*$1" | grep -vFx "$2")" "" && rm "$2"
}
for format in qcow2 vhd vmdk; do
	check "$format: a name that begins like a protocol of QEMU's" colon $format file:y.$format
	check "$format: and one that has colons" colon $format nbd:localhost:1.$format
done
check "qcow2 stays sparse" test "$(du -k disk.qcow2 | cut -f1)" -lt 5000

# what is wrong
check "formats are not guessed" refuses 1 "give its format with -f" tap-img convert -O cow disk.raw x.cow
check "no such format" refuses 1 "no such format" tap-img convert -f raw -O qed disk.raw x.qed
check "it is said to be something else" refuses 1 "contradicts the format" tap-img convert -f raw -O cow cow:disk.cow x.cow
check "not there" refuses 1 "No such file" tap-img convert -f raw -O cow none.raw x.cow
check "not a qcow2 image" refuses 1 "not in qcow2 format" tap-img convert -f qcow2 -O cow disk.raw x.cow
check "not a store" refuses 1 "not a cow store" tap-img convert -f cow disk.raw x.raw
check "onto itself" unchanged disk.raw refuses 1 "is also the source" tap-img convert -f raw -O cow disk.raw ./disk.raw
check "a directory that is not there" refuses 1 "No such file" tap-img convert -f raw -O cow disk.raw no/x.cow
head -c 700 disk.raw >odd.raw
check "half a sector" refuses 1 "not a positive multiple of 512" tap-img convert -f raw -O cow odd.raw x.cow
check "without qemu-utils" refuses 1 "Debian: qemu-utils" env PATH="$build/bin" tap-img convert -f qcow2 -O cow disk.qcow2 x.cow
check "nothing left of those" nothing_left "x."

# no room: QEMU's tools report it, too
mkdir small
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=2M none small 2>/dev/null; then
	for format in raw cow qcow2 vhd vmdk; do
		check "no room for $format" refuses 1 "No space left" tap-img convert -f raw -O $format disk.raw small/x
		check "nothing left of it" says "" ls small
	done
	umount small
else
	skip "no room" "no tmpfs can be mounted here"
fi

# a target that exists
cp disk.raw old.raw
exec 7<old.raw
flock -s 7
check "in use: not touched" unchanged old.raw refuses 1 "in use" tap-img convert -f qcow2 disk.qcow2 old.raw
exec 7<&-
coproc qemu-io -f raw old.raw
qemu=$COPROC_PID
echo length >&"${COPROC[1]}"
read -r -u "${COPROC[0]}"
check "in use by QEMU: not touched" refuses 1 "such as QEMU" tap-img convert -f qcow2 disk.qcow2 old.raw
echo quit >&"${COPROC[1]}"
wait "$qemu"
check "nothing left of those" is "$(ls old.raw*)" old.raw
chmod 644 old.raw
check "replaced" tap-img convert -f cow -O qcow2 disk.cow old.raw
check "its mode stays" is "$(stat -c %a old.raw)" 644
tap-img convert -f raw -O cow disk.raw damaged.cow
echo other >old.raw
python3 - damaged.cow <<-'END'
	import sys
	f = open(sys.argv[1], "r+b")
	f.seek((512 + 256) * 4096)
	data = f.read(40 << 20)
	f.seek((512 + 256) * 4096)
	for at in range(0, len(data), 4096):	# every leaf and node: begins with a birth and is mostly zero
	    block = data[at:at + 4096]
	    if block[5:8] == b"\1\0\0" and block[13:16] == b"\1\0\0":
	        f.seek((512 + 256) * 4096 + at)
	        f.write(b"\xff" * 16)
END
check "check: what is wrong is in the JSON, too" is \
	"$(tap-img check --json damaged.cow | jq -r '[.corruptions > 0, (.problems | length > 0)] | @csv')" true,true
check "a source that cannot be read" unchanged old.raw refuses 1 "could not be copied" tap-img convert -f cow damaged.cow old.raw
check "nothing left of that" is "$(ls old.raw*)" old.raw

# interrupted
head -c 300M /dev/zero | tr '\0' x >full.raw
makes_file() { compgen -G "x.cow.*" || ls -l "/proc/$1/fd" | grep " (deleted)$"; }	# where it needs a name, or without one
interrupted() {	# interrupted SIGNAL CODE: background jobs of a shell ignore SIGINT, hence env
	env --default-signal="$1" tap-img convert -f raw -O cow full.raw x.cow 2>out &
	until makes_file $! >/dev/null 2>&1; do kill -0 $! || return 1; done
	kill -"$1" $!
	wait $!
	is $? "$2" && nothing_left x.cow
}
check "interrupted: dies of the signal, leaves nothing" interrupted INT 130
check "terminated: the same" interrupted TERM 143
over_another() {	# the new file has a name until it replaces the old one
	tap-img create x.cow 1M >/dev/null && cp x.cow old.cow || return 1
	env --default-signal=INT tap-img convert -f raw -O cow full.raw x.cow 2>out &
	until compgen -G "x.cow.*" >/dev/null; do kill -0 $! || return 1; done
	kill -INT $!
	wait $!
	is $? 130 && is "$(ls x.cow*)" x.cow && cmp x.cow old.cow && rm x.cow old.cow
}
check "over another file: leaves that one" over_another
rm full.raw
truncate -s 2T huge.raw
check "nothing to copy takes no time" timeout 20 tap-img convert -f raw -O cow huge.raw huge.cow
check "nothing to compare either" timeout 20 tap-img compare -f raw -F cow huge.raw huge.cow

# progress
check "no progress in a pipe" says "" eval 'tap-img convert -f raw -O cow disk.raw p.cow 2>&1'
check "unless with -p" bash -c 'tap-img convert -p -f raw -O cow disk.raw p.cow 2>&1 | grep -q "100.0%"'
check "a bar on a terminal" bash -c 'script -qec "tap-img convert -f raw -O cow disk.raw p.cow" /dev/null | grep -q "=\]"'

# on a base
cp --sparse=always disk.raw changed.raw
dd if=/dev/urandom of=changed.raw bs=4k seek=300 count=5 conv=notrunc status=none
dd if=/dev/zero of=changed.raw bs=4k seek=400 count=5 conv=notrunc status=none
check "onto a base" tap-img convert -f raw -O cow -B disk.raw -F raw changed.raw diff.cow
check "the same disk" same -f raw -F cow changed.raw diff.cow
check "it has the difference only" is "$(json '[.[] | select(.kind == "data") | .length] | add' tap-img map diff.cow)" 20480
check "check of it" exits 0 tap-img check diff.cow

# compare
check "compare: the same" is "$(tap-img compare -f raw -F raw disk.raw copy.raw)" "Images are identical."
check "compare: different" exits 1 tap-img compare -f raw -F raw disk.raw changed.raw
check "compare: where" is "$(json .offset tap-img compare -f raw -F raw disk.raw changed.raw)" \
	"$(cmp -l disk.raw changed.raw | awk 'NR == 1 { print $1 - 1; exit }')"
truncate -s 1M zeros.raw; truncate -s 3M more.raw
check "compare: more zeros are the same" exits 0 tap-img compare -f raw -F raw zeros.raw more.raw
check "compare: and said" is "$(tap-img compare -f raw -F raw zeros.raw more.raw | head -1)" "Warning: Image size mismatch!"
check "compare: but not strictly" exits 1 tap-img compare -s -f raw -F raw zeros.raw more.raw
printf x | dd of=more.raw bs=1 seek=2000000 conv=notrunc status=none
check "compare: what one has behind the other's end" is "$(json .offset tap-img compare -f raw -F raw zeros.raw more.raw)" 2000000
check "compare: not there" exits 2 tap-img compare -f raw -F raw zeros.raw none.raw
check "compare: something is missing" refuses 2 "compare: B is missing" tap-img compare -f raw -F raw zeros.raw
check "compare: no such option" exits 2 tap-img compare -X zeros.raw more.raw
check "compare: no such format" exits 2 tap-img compare -f qed -F raw zeros.raw more.raw
check "compare: quiet" eval 'exits 1 tap-img compare -q -f raw -F raw zeros.raw more.raw && [ ! -s out ]'

# measure
check "measure: a size" is "$(json '."fully-allocated"' tap-img measure --size 1G)" 1073741824
check "measure: an image fits" test "$(tap-img info --json b.cow | jq '."actual-size"')" -le \
	"$(json .required tap-img measure -f raw -O cow disk.raw)"
check "measure: the largest size" grep -q "fully-allocated\": $((8191 << 50))" <(tap-img measure --json --size 8191P)
check "measure: none" is "$(tap-img measure --size 0 | tail -1)" "fully allocated size: 0"
check "measure: one that is no size" refuses 1 "8192P: size too large" tap-img measure --size 8192P
check "measure: the largest store" tap-img measure -O cow --size 4P
check "measure: one that there cannot be" refuses 1 "4 PiB at most" tap-img measure -O cow --size 5P
check "measure: text" is "$(tap-img measure --size 1G | head -1)" "required size: 0"
check "measure: a format it cannot say" refuses 1 "only raw and cow" tap-img measure -O qcow2 --size 1G
if [ "$(id -u)" = 0 ] && device=$(losetup -f 2>/dev/null) && truncate -s "$(json .required tap-img measure -f raw -O cow disk.raw)" fits.img &&
	losetup "$device" fits.img 2>/dev/null; then
	loops+=("$device")
	check "a device of the measured size" tap-img convert -f raw -O cow disk.raw "$device"
	check "the same disk" same -f raw -F cow disk.raw "$device"
	check "a store on a device, which would be too small: not touched" unchanged "$device" \
		refuses 1 "too small for a store" tap-img convert -f raw -O cow huge.raw "$device"
	check "the same disk" same -f raw -F cow disk.raw "$device"
	head -c 60M /dev/urandom >large.raw
	check "no room for what the source holds" refuses 1 "No space left" tap-img convert -f raw -O cow large.raw "$device"
	check "half a copy is no store" refuses 1 "not a cow store" tap-img info "$device"
	check "raw onto a device that is too small" refuses 1 "too small" tap-img convert -f raw disk.raw "$device"
fi

finish
