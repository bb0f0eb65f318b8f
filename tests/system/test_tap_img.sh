#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tap_img.sh - tap-img as a program: each command, its JSON, its exit codes,
# and its messages for bad input.
#
# Output is TAP. BUILD says where the programs are. Needs: jq python3 util-linux
. "$(dirname "$0")/lib.sh"

# create, info
check "create" tap-img create a.cow 64M
check "info: size" is "$(json '."virtual-size"' tap-img info a.cow)" 67108864
check "info: clean, no snapshots" is "$(json '[.clean, .snapshots] | @csv' tap-img info cow:a.cow)" true,0
check "an empty store takes little space" test "$(json '."actual-size"' tap-img info a.cow)" -lt 4000000
check "create: sectors of 4096" tap-img create -s 4096 b.cow 8M
check "info: sector size" is "$(json '."sector-size"' tap-img info b.cow)" 4096
check "create without a size" refuses 1 "create: SIZE is missing" tap-img create c.cow
check "create without anything" refuses 1 "create: PATH is missing" tap-img create
check "create: not a size" refuses 1 "12Q: not a size" tap-img create c.cow 12Q
check "create: negative" refuses 1 "-5: not a size" tap-img create -- c.cow -5
check "create: too large" refuses 1 "too large" tap-img create c.cow 99999999999P
check "create: no size" refuses 1 "the size must not be 0" tap-img create c.cow 0
check "create: odd size" refuses 1 "512 bytes" tap-img create c.cow 1000
check "a refused create leaves nothing" test ! -e c.cow
check "a refused create leaves what was there" unchanged a.cow refuses 1 "-s 1024: sectors of 512 and 4096 bytes" tap-img create -s 1024 a.cow 1M
check "create: no such directory" refuses 1 "No such file" tap-img create no/c.cow 1M

# check
check "check: clean" exits 0 tap-img check a.cow
check "check: JSON" is "$(json '[.corruptions, .leaks] | @csv' tap-img check a.cow)" 0,0
check "check: not there" refuses 1 "No such file" tap-img check none.cow
head -c 8M /dev/urandom >noise
check "check: not a store" exits 2 tap-img check noise
check "info: not a store" unchanged noise refuses 1 "not a cow store" tap-img info noise
cp --sparse=always a.cow short.cow && truncate -s -4096 short.cow
check "a store that was cut short" refuses 1 "cut short" tap-img info short.cow
cp --sparse=always a.cow one.cow && dd if=/dev/zero of=one.cow bs=4096 count=1 conv=notrunc status=none
check "one superblock will do, as when its creation was cut off" exits 0 tap-img check one.cow
dd if=/dev/zero of=one.cow bs=4096 seek=256 count=1 conv=notrunc status=none
check "none will not" exits 2 tap-img check one.cow
cp --sparse=always a.cow one.cow && dd if=/dev/zero of=one.cow bs=4096 seek=256 count=1 conv=notrunc status=none
check "one superblock is read, and the other one missed" unchanged one.cow exits 2 tap-img check one.cow
check "check: which one" grep -q "superblock copy 1 (store block 256) is damaged" out
check "check: in JSON, too" is "$(tap-img check --json one.cow | jq -c '[.corruptions, .leaks, .repaired]')" '[1,0,false]'
check "check -r: written anew" is "$(tap-img check -r --json one.cow | jq -c '[.corruptions, .repaired, (.problems | length)]')" '[0,true,1]'
check "check: clean" exits 0 tap-img check one.cow
cp --sparse=always a.cow version.cow
printf '\011' | dd of=version.cow bs=1 seek=8 conv=notrunc status=none
printf '\011' | dd of=version.cow bs=1 seek=$((1048576 + 8)) conv=notrunc status=none
check "superblocks that were edited" refuses 1 "damaged" tap-img info version.cow

# snapshots
check "snapshot: create" tap-img snapshot -c one -D "the first" a.cow
check "snapshot: another" tap-img snapshot -c two a.cow
check "snapshot: list" is "$(json 'map([.name, .description, .current] | @csv) | join(" ")' tap-img snapshot -l a.cow)" \
	'"one","the first",false "two","",true'
check "snapshot: apply" tap-img snapshot -a one a.cow
check "snapshot: the disk stands at it now" is "$(json 'map(select(.current))[0].name' tap-img snapshot a.cow)" one
check "snapshot: a name that exists" refuses 1 'already has a snapshot called "one"' tap-img snapshot -c one a.cow
check "snapshot: no name" refuses 1 "not a snapshot name" tap-img snapshot -c "" a.cow
check "snapshot: odd name" refuses 1 "not a snapshot name" tap-img snapshot -c "a b" a.cow
check "snapshot: long name" refuses 1 "not a snapshot name" tap-img snapshot -c "$(printf 'x%.0s' {1..256})" a.cow
check "snapshot: a description that is not UTF-8" refuses 1 "not UTF-8" tap-img snapshot -c z -D $'caf\xe9' a.cow
check "snapshot: one that is" tap-img snapshot -c z -D $'caf\xc3\xa9' a.cow
check "snapshot: listed" is "$(json '.[] | select(.name == "z") | .description' tap-img snapshot a.cow)" $'caf\xc3\xa9'
tap-img snapshot -d z a.cow
check "snapshot: delete what is not there" refuses 1 'no snapshot called "three"' tap-img snapshot -d three a.cow
check "snapshot: apply what is not there" refuses 1 'no snapshot called "three"' tap-img snapshot -a three a.cow
check "snapshot: delete" tap-img snapshot -d one a.cow
check "snapshot: no progress in a pipe" says "" eval 'tap-img snapshot -c p a.cow 2>&1 && tap-img snapshot -d p a.cow 2>&1'
tap-img snapshot -c p a.cow
check "snapshot: apply, unless with -p" bash -c 'tap-img snapshot -p -a p a.cow 2>&1 | grep -q "^apply .*100.0%"'
check "snapshot: delete, unless with -p" bash -c 'tap-img snapshot -d p a.cow -p 2>&1 | grep -q "^delete .*100.0%"'
check "snapshot: gone from the list" is "$(json 'map(.name) | join(" ")' tap-img snapshot a.cow)" two
check "snapshot: two things at once" refuses 1 "only one of -l, -c, -a and -d" tap-img snapshot -c x -d two a.cow
check "snapshot: a description of nothing" refuses 1 "-D needs -c NAME" tap-img snapshot -d two -D text a.cow
check "check after all that" exits 0 tap-img check a.cow
check "check -r" exits 0 tap-img check -r a.cow

# resize
check "resize: larger" tap-img resize a.cow 100M
check "resize: by so much" tap-img resize a.cow +28M
check "resize: seen" is "$(json '."virtual-size"' tap-img info a.cow)" 134217728
check "resize: smaller needs a word" refuses 1 "--shrink" tap-img resize a.cow 1M
check "resize: smaller" tap-img resize --shrink a.cow -127M
check "resize: seen" is "$(json '."virtual-size"' tap-img info a.cow)" 1048576
check "resize: options behind the size" is "$(tap-img resize a.cow +1M --json | jq '."virtual-size"')" 2097152
check "resize: and before it, a smaller one, too" is "$(tap-img resize a.cow --json -1M --shrink -p 2>progress | jq '."virtual-size"')" 1048576
check "resize: -p shows how far it is" grep -q "^shrink .*100.0%" progress
check "resize: a size that looks like an option" tap-img resize --shrink -- a.cow -512k
check "resize: no such option" exits 1 tap-img resize a.cow -x 1M
check "resize: one size" refuses 1 "too many arguments" tap-img resize a.cow 1M 2M
tap-img resize a.cow 1M >/dev/null
check "resize: to nothing" refuses 1 "nothing would be left" tap-img resize --shrink a.cow -1M
check "the snapshot kept its size" is "$(json '.[0]."virtual-size"' tap-img snapshot a.cow)" 67108864

# a base
head -c 4M /dev/urandom >base.raw
check "create on a base" tap-img create -b base.raw -F raw d.cow 8M
check "create on a base, its size" tap-img create -b base.raw -F raw e.cow
check "its size" is "$(json '."virtual-size"' tap-img info e.cow)" 4194304
check "info: base" is "$(json .base tap-img info d.cow)" "aio:$work/base.raw"
check "map" is "$(json 'map([.start, .length, .kind] | @csv) | join(" ")' tap-img map d.cow)" \
	'0,4194304,"base" 4194304,4194304,"zero"'
check "create: the base's format must be said" refuses 1 "-F" tap-img create -b base.raw f.cow
check "create: no such base" refuses 1 "No such file" tap-img create -b none.raw -F raw f.cow 1M
check "create: a format that is none" refuses 1 "no such format" tap-img create -b base.raw -F qcow3 f.cow 1M
check "create: a format that no base can have" refuses 1 "not supported" tap-img create -b base.raw -F qcow2 f.cow 1M
check "create: on itself" unchanged base.raw refuses 1 "its own base" tap-img create -b base.raw -F raw base.raw 1M
mv base.raw moved.raw
check "the base is missing" refuses 1 "base.raw: No such file" tap-img info d.cow
mv moved.raw base.raw
printf x | dd of=base.raw conv=notrunc status=none
check "the base was written since" refuses 1 "base was written" tap-img info d.cow
truncate -s 5M base.raw
check "the base has another size" refuses 1 "resized" tap-img info d.cow

# other users
exec 7<a.cow
flock -x 7
check "in use: no writing" unchanged a.cow refuses 1 "in use" tap-img snapshot -c x a.cow
check "in use: no reading beside a writer" refuses 1 "in use" tap-img info a.cow
exec 7<&-
check "a directory" refuses 1 "directory" tap-img info /tmp

# a full file system
if [ "$(id -u)" = 0 ] && mkdir full && mount -t tmpfs -o size=2M none full; then
	trap 'umount "$work/full"; rm -rf "$work"' EXIT
	check "no room for a store" refuses 1 "No space left" tap-img create full/a.cow 1G
	check "no room: nothing left behind" test ! -e full/a.cow
fi

# interrupted
interrupted() {	# interrupted SIGNAL OPTION...: interrupt create, a little later each time, until it succeeds
	local signal=$1 wait=0 code=1 times=0
	shift
	while [ $code != 0 ]; do
		rm -f x.cow
		env --default-signal="$signal" tap-img create "$@" x.cow 10G >out 2>&1 &
		has_begun $! tap-img
		[ $wait = 0 ] || sleep "$((wait / 1000)).$(printf %03d $((wait % 1000)))"
		kill -"$signal" $! 2>/dev/null
		wait $!
		code=$?
		[ $code = 0 ] || [ ! -e x.cow ] || { echo "exit $code after $wait ms:"; cat out; return 1; }
		[ ! -s out ] || grep -q "x.cow: interrupted\|x.cow: a disk of" out || { cat out; return 1; }
		wait=$((wait + wait / 3 + 1)) times=$((times + 1))
	done
	[ $times -gt 1 ] || { echo "never interrupted"; return 1; }
	exits 0 tap-img check x.cow
}
check "create, interrupted: nothing is left" interrupted INT
check "create, with places for all, terminated: nothing is left" interrupted TERM --preallocation metadata

killed_maker() {	# killed_maker COMMAND...: makes x.cow; killed a little later each time, until it succeeds
	local wait=0 times=0
	while true; do
		rm -f x.cow
		"$@" >out 2>&1 &
		has_begun $! tap-img
		[ $wait = 0 ] || sleep "$((wait / 1000)).$(printf %03d $((wait % 1000)))"
		killed $! || break
		[ ! -e x.cow ] || exits 0 tap-img check x.cow || return 1
		# the next one removes what is left where the file system has no files without a name
		[ -e x.cow ] || is "$(ls x.cow* 2>/dev/null | grep -v '^x.cow.tapsnap-part$')" "" || return 1
		wait=$((wait + wait / 3 + 1)) times=$((times + 1))
	done
	[ $times -gt 1 ] || { echo "never killed"; return 1; }
	exits 0 tap-img check x.cow
}
check "create, killed: a whole store, or nothing" killed_maker tap-img create --preallocation metadata x.cow 4G
head -c 32M /dev/urandom >x.raw
check "convert, killed: a whole store, or nothing" killed_maker tap-img convert -f raw -O cow x.raw x.cow

# Interrupt later each time, until the command succeeds. The message tells of unfinished work, and the store is valid.
cut_off() {	# cut_off COMMAND OPTION...
	local wait=0 code=1 times=0
	while [ $code != 0 ]; do
		env --default-signal=INT tap-img "$@" >out 2>&1 &
		has_begun $! tap-img
		[ $wait = 0 ] || sleep "$((wait / 1000)).$(printf %03d $((wait % 1000)))"
		kill -INT $! 2>/dev/null
		wait $!
		code=$?
		[ ! -s out ] || grep -q "interrupted\|x.cow: [0-9]* bytes\|no snapshot called" out || { cat out; return 1; }
		! grep -q "no snapshot called" out || code=0
		exits 0 tap-img check x.cow || return 1
		wait=$((wait * 2 + 5)) times=$((times + 1))
	done
	[ $times -gt 1 ]
}
rm -f x.cow
tap-img create --preallocation metadata x.cow 1G >/dev/null
tap-img snapshot -c all x.cow
check "resize, interrupted" cut_off resize --shrink x.cow 1M
check "it is as small as it was to be" is "$(json '."virtual-size"' tap-img info x.cow)" 1048576
check "delete, interrupted" cut_off snapshot -d all x.cow
check "the snapshot is gone" is "$(json length tap-img snapshot x.cow)" 0
tap-img snapshot -c one x.cow
check "the next one gives back what is left" tap-img snapshot -d one x.cow
check "all of it" is "$(json .deletions tap-img info x.cow)" 0

# Another process takes the new store's lock as soon as it can: its open store must not be removed.
snatched() {
	local i
	for i in {1..40}; do
		rm -f x.cow
		/usr/bin/python3 - <<-'END' &
			import fcntl, time
			store = None
			while not store:
			    try:
			        store = open("x.cow", "rb")
			    except OSError:
			        pass
			time.sleep(0.001)	# let its creator lock it first
			while True:
			    try:
			        fcntl.flock(store, fcntl.LOCK_EX | fcntl.LOCK_NB)
			        time.sleep(100)
			    except OSError:
			        pass
		END
		tap-img create --preallocation metadata x.cow 1M >out 2>&1
		{ kill $!; wait $!; } 2>/dev/null
		[ -e x.cow ] || { echo "round $i:"; cat out; return 1; }
	done
}
check "create: a store that somebody has open stays" snatched

# truncated output is an error
lost() { "$@" 2>&1 >/dev/full; }
tap-img create lost.cow 1M >/dev/null
check "the output is lost" refuses 1 "cannot be written" lost tap-img info --json lost.cow
check "of a map" refuses 1 "cannot be written" lost tap-img map lost.cow
check "compare: not the code of a difference" exits 4 lost tap-img compare cow:lost.cow cow:lost.cow
cp lost.cow $'lost\xff.cow'
check "what is no JSON" exits 1 tap-img info --json $'lost\xff.cow'

# the whole
check "help" tap-img --help
for tool in tap-ctl xl-snapshot tap-img; do
	check "$tool --help" grep -qx "Usage: $tool COMMAND .*" <($tool --help)
	check "$tool --version" grep -qx "$tool (tapsnap) [0-9.]*" <($tool --version)
	check "$tool without a command: the help, as an error" exits $([ $tool = tap-img ] && echo 1 || echo 22) $tool
	check "... on stderr" is "$($tool 2>/dev/null)" ""
done
failure() { json '"\(.ok) \(.errno) \(.error)"' "$@" 2>/dev/null; }
check "a failure in JSON" is "$(failure tap-img info none.cow)" "false 2 none.cow: No such file or directory"
for each in 'map none.cow' 'check none.cow' 'snapshot none.cow' 'snapshot -c x none.cow' 'resize none.cow 1M' 'commit none.cow' \
	'rebase -b aio:none.raw none.cow' 'create -b aio:none.raw none.cow' 'convert -f raw none.raw some.raw' \
	'compare -f raw -F raw none.raw none.raw' 'measure -f raw none.raw'; do
	check "... of $each" is "$(failure tap-img $each | cut -d' ' -f1-2)" "false 2"
done
check "a usage error in JSON" is "$(failure tap-img info)" "false 22 PATH is missing; see 'tap-img info --help'"
check "... with the error first" is "$(failure tap-img info -z a.cow)" "false 22 -z: no such option; see 'tap-img info --help'"
check "... of compare, which has its own exit status" exits 2 tap-img compare --json a.cow
check "... of no command" is "$(failure tap-img snapshto a.cow)" \
	"false 22 there is no command 'snapshto'; 'tap-img --help' lists them"
check "help of a command" tap-img snapshot --help
check "no such command" refuses 1 "no command 'snapshto'" tap-img snapshto a.cow
check "no such option" refuses 1 "tap-img: info: --frobnicate: no such option" tap-img info --frobnicate a.cow
check "... with a value" refuses 1 "info: --frobnicate: no such option" tap-img info --frobnicate=1 a.cow
check "... among short ones" refuses 1 "check: -z: no such option" tap-img check a.cow --repair -pzr
check "an option without its value" refuses 1 "rebase: -b needs a value" tap-img rebase a.cow -pb
check "... a long one" refuses 1 "rebase: --base needs a value" tap-img rebase a.cow --base
check "... a shortened one" refuses 1 "snapshot: --cre needs a value" tap-img snapshot a.cow --cre
check "a value for an option without one" refuses 1 "info: --json takes no value" tap-img info --json=yes a.cow

finish
