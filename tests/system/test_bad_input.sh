#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_bad_input.sh - unusable stores, invalid names, and file systems without
# room: each program fails, with one line that names the object, and changes
# neither the object nor any other file.
#
# Output is TAP. BUILD says where the programs are. Needs: jq python3 util-linux
# (mount, as root; a full file system is skipped otherwise)
. "$(dirname "$0")/lib.sh"

# Digest of every file, except those that the test and tapdisk write. Only the data of sparse files are read.
everything() {
	/usr/bin/python3 - <<-'END'
		import hashlib, os

		def digest(path):
		    found = hashlib.sha256()
		    with open(path, "rb") as file:
		        size = os.path.getsize(path)
		        at = 0
		        while at < size:
		            try:
		                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
		            except OSError:     # no more of it
		                break
		            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
		            found.update(b"%d %d " % (at, end))
		            found.update(os.pread(file.fileno(), end - at, at))
		            at = end
		    return size, found.hexdigest()

		for directory, directories, files in os.walk("."):
		    if directory == ".":
		        directories[:] = set(directories) - {"run", "state"}
		        files = set(files) - {"out", "output"}
		    for name in sorted(files):
		        path = os.path.join(directory, name)
		        print(path, oct(os.stat(path).st_mode), *digest(path))
	END
}

# harmless NAME TEXT COMMAND...: it must fail with one line that contains TEXT, and change no file
harmless() {
	local name=$1 text=$2
	shift 2
	check "$name: $1 $2" one_line "$text" "$@"
}
one_line() {
	local text=$1 before
	shift
	before=$(everything)
	! "$@" >out 2>&1 || { echo "succeeded: $*"; cat out; return 1; }
	[ "$(wc -l <out)" = 1 ] && grep -qF -- "$text" out || { cat out; return 1; }
	diff <(echo "$before") <(everything)
}

# superblock FILE EDIT: change both copies, with right checksums; EDIT is Python code on a bytearray b
superblock() {
	/usr/bin/python3 - "$@" <<-'END'
		import struct, sys

		def crc32c(data):
		    crc = 0xffffffff
		    for byte in data:
		        crc ^= byte
		        for _ in range(8):
		            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
		    return crc ^ 0xffffffff

		with open(sys.argv[1], "r+b") as store:
		    for block in 0, 256:
		        store.seek(block * 4096)
		        b = bytearray(store.read(4096))
		        old = bytes(b[12:16])
		        b[12:16] = bytes(4)
		        assert struct.pack("<I", crc32c(b)) == old
		        exec(sys.argv[2])
		        b[12:16] = struct.pack("<I", crc32c(b))
		        store.seek(block * 4096)
		        store.write(b)
	END
}

store() {	# store FILE [BASE]: make a store with a snapshot, a MiB of data and, if given, a base
	tap-img convert -f raw -O cow ${2:+-B "$2" -F raw} data.raw "$1" && tap-img snapshot -c there "$1" || exit 1
}
head -c 1M /dev/urandom >data.raw
truncate -s 16M data.raw

# no_use FILE TEXT NAME: each command on the store fails
no_use() {
	local format=cow:$1
	harmless "$3" "$2" tap-img info "$1"
	harmless "$3" "$2" tap-img check "$1"
	harmless "$3" "$2" tap-img snapshot -c new "$1"
	harmless "$3" "$2" tap-img snapshot -a there "$1"
	harmless "$3" "$2" tap-img resize "$1" +1M
	harmless "$3" "$2" tap-img convert "$format" copy.raw
	harmless "$3" "$2" tap-img commit "$1"
	harmless "$3" "$2" tap-ctl create -a "cow:$work/$1"
	harmless "$3" "$2" tap-ctl create -R -a "cow:$work/$1@there"
	check "$3: no tapdisk is left" says "" tap-ctl list
	rm "$1"
}

# Stores.
store short.cow
truncate -s -4096 short.cow
no_use short.cow "short.cow: cut short" "a store that was cut short"
store head.cow
truncate -s 4000 head.cow
no_use head.cow "head.cow: " "one of which not even a block is left"
: >empty.cow
no_use empty.cow "empty.cow: " "an empty file"
store version.cow
superblock version.cow 'b[8:12] = struct.pack("<I", 2)'
no_use version.cow "version.cow: a store of format version 2" "another version"
store feature.cow
superblock feature.cow 'b[16:24] = struct.pack("<Q", 4)'
no_use feature.cow "feature.cow: the store needs features (bits 0x4)" "an unknown incompatible feature"
store reading.cow
superblock reading.cow 'b[24:32] = struct.pack("<Q", 8)'
only_read="reading.cow: the store has features (bits 0x8)"
check "an unknown read-only compatible feature: can be read" tap-img info reading.cow
check "and copied" tap-img convert cow:reading.cow reading.raw
check "to the byte" cmp reading.raw data.raw
harmless "but not changed" "$only_read" tap-img snapshot -c new reading.cow
harmless "but not changed" "$only_read" tap-img resize reading.cow +1M
harmless "but not changed" "$only_read" tap-ctl create -a "cow:$work/reading.cow"
store compatible.cow
superblock compatible.cow 'b[32:40] = struct.pack("<Q", 1)'
check "an unknown compatible feature is nobody's business" tap-img snapshot -c new compatible.cow

# Bases.
cp --sparse=always data.raw base.raw
store keep.cow base.raw
cp --sparse=always keep.cow based.cow
mv base.raw moved.raw
no_use based.cow "base.raw: No such file or directory" "a base that is missing"
mv keep.cow based.cow
cp --sparse=always based.cow keep.cow
truncate -s 15M base.raw
no_use based.cow "base.raw: the base was written, resized or replaced" "a base of another size"
rm base.raw
mv moved.raw base.raw
mv keep.cow based.cow
printf x | dd of=base.raw conv=notrunc status=none
no_use based.cow "base.raw: the base was written, resized or replaced" "a base that was written since"
rm base.raw

# The same of a device; its size is all that shows a change.
if [ "$(id -u)" = 0 ] && loop=$(losetup --show -f data.raw 2>/dev/null); then
	loops+=("$loop")
	store based.cow "$loop"
	truncate -s 15M data.raw && losetup -c "$loop"
	no_use based.cow "$loop: the base was written, resized or replaced" "a base device of another size"
	truncate -s 16M data.raw && losetup -d "$loop" && loops=()
else
	skip "a base device of another size" "no loop device"
fi

# Names.
long=$(printf 'x%.0s' {1..256})
store names.cow
tap-img snapshot -c "${long:1}" names.cow
bad_names() {	# bad_names COMMAND_OF_NAME TOO_LONG CONTROL: run the command with invalid names
	local of=$1
	"$of" "a name that exists" 'already has a snapshot called "there"' there
	"$of" "no name" '"": not a snapshot name' ""
	"$of" "a name that is too long" "$2" "$long"
	"$of" "a space" '"a b": not a snapshot name' "a b"
	"$of" "a line end" "$3" $'a\nb'
	"$of" "a tab" "$3" $'a\tb'
	"$of" "an escape" "$3" $'\e[31mred'
	"$of" "an @" '"a@b": not a snapshot name' "a@b"
	"$of" "a slash" '"../b": not a snapshot name' "../b"
	"$of" "a quote" "not a snapshot name" "a'b"
	"$of" "not ASCII" "not a snapshot name" "früh"
	"$of" "not even UTF-8" "" $'\xff'
}
offline() { harmless "$1" "$2" tap-img snapshot -c "$3" names.cow; }
bad_names offline "not a snapshot name" "not a snapshot name"
check "the longest that can be is there" is "$(tap-img snapshot --json names.cow | jq -r '.[1].name')" "${long:1}"
harmless "to what is not there" 'no snapshot called "none"' tap-img snapshot -a none names.cow
harmless "to what is not there, and is no name" 'no snapshot called' tap-img snapshot -a $'a\nb' names.cow
harmless "what is not there" 'no snapshot called "none"' tap-img snapshot -d none names.cow
harmless "a smaller disk" 'names.cow: would become smaller' tap-img resize names.cow 1M
harmless "no size" '12Q: not a size' tap-img resize names.cow 12Q
harmless "what is not there, of a copy" 'no snapshot called "none"' tap-img convert cow:names.cow@none copy.raw
harmless "what is not there, of a disk on it" 'no snapshot called "none"' tap-img create -b cow:names.cow@none copy.cow

# A disk in use, which no other process may write.
store live.cow
check "a disk" open_target 0 "cow:$work/live.cow"
served() { harmless "$1" "$2" tap-ctl snapshot-create ${disk[0]} -n "$3"; }
bad_names served "'name' is longer than 255 bytes" "'name' contains a control character"
harmless "to what is not there" 'no snapshot called "none"' tap-ctl snapshot-revert ${disk[0]} -n none
harmless "what is not there" 'no snapshot called "none"' tap-ctl snapshot-delete ${disk[0]} -n none
harmless "what is not there, beside the disk" 'no snapshot called "none"' tap-ctl create -a "cow:$work/live.cow@none"
for way in "info" "check" "snapshot -c new" "snapshot -d there" "snapshot -a there"; do
	harmless "a second one" "live.cow: in use" tap-img $way live.cow
done
harmless "a second one" "live.cow: in use" tap-img resize live.cow +1M
harmless "a second one" "live.cow: in use" tap-img create live.cow 1M
harmless "a second one" "live.cow: in use" tap-img convert -f raw -O cow data.raw live.cow
harmless "a second one" "live.cow: in use" tap-img convert cow:live.cow copy.raw
harmless "a second one" "live.cow" tap-ctl create -a "cow:$work/live.cow"
check "the disk is closed" end_disks

# No room.
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=8M none small; then
	store small/a.cow
	cp --sparse=always data.raw small/data.raw
	head -c 8M /dev/zero >small/rest 2>/dev/null
	no_room="No space left on device"
	harmless "no room" "small/b.cow: the store cannot be written: $no_room" tap-img create small/b.cow 1M
	harmless "no room" "small/b.raw" tap-img convert -S 0 -f raw data.raw small/b.raw
	harmless "no room" "small/b.cow: the store cannot be written: $no_room" tap-img convert -f raw -O cow data.raw small/b.cow
	harmless "no room for what is to replace it" "small/a.cow: the store cannot be written: $no_room" tap-img convert -f raw -O cow data.raw small/a.cow
	check "a raw disk" open_target 0 "aio:$work/small/data.raw"
	harmless "no room" "small/data.raw.cow: the store cannot be written: $no_room" tap-ctl snapshot-create ${disk[0]} --store small -n new
	check "the disk is closed" end_disks
	check "the store can be looked at" tap-img check small/a.cow
	# A store copied without its zeros. Opening it to write changes its superblock, which has room, but nothing of the disk.
	rm small/rest
	cp --sparse=always small/a.cow sparse.cow && cp --sparse=always sparse.cow small/a.cow
	head -c 8M /dev/zero >small/rest 2>/dev/null
	what_a_holds() {
		tap-img snapshot --json small/a.cow && tap-img info --json small/a.cow | jq '."virtual-size", .allocation' &&
			tap-img convert cow:small/a.cow copy.raw && cmp copy.raw data.raw && tap-img check small/a.cow
	}
	no_room_to() {	# no_room_to TEXT OPTION...
		local text=$1 before
		shift
		before=$(what_a_holds) && refuses 1 "small/a.cow: $text" "$@" && grep -qF "$no_room" out && diff <(echo "$before") <(what_a_holds)
	}
	check "no room: snapshot -c" no_room_to 'snapshot "new" could not be made durable' tap-img snapshot -c new small/a.cow
	check "no room: snapshot -d" no_room_to 'the log cannot be written' tap-img snapshot -d there small/a.cow
	check "no room: snapshot -a" no_room_to 'the log cannot be written' tap-img snapshot -a there small/a.cow
	check "no room: resize" no_room_to 'cannot be resized' tap-img resize small/a.cow +1M
	rm small/rest
	check "with room: snapshot -c" tap-img snapshot -c new small/a.cow
else
	skip "no room" "needs root"
fi

# A text that is not UTF-8 is still output as valid JSON.
check "JSON of a refusal that names such a path" is "$(tap-ctl export -p 1 -m 0 --json $'unix:/tmp/\xff/x' 2>/dev/null | jq -r 'select(.error | contains("/tmp/?/x")) | .ok')" false

finish
