#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tap_ctl.sh - every command of tap-ctl against real tapdisks: the output
# that scripts parse, exit status, what is refused and how, and that nothing
# is left behind, whatever went wrong.
#
# Prints TAP. Takes the programs from $BUILD (default: build), works in a
# folder and a run directory of its own and removes both.
# Needs: jq util-linux (mount and setpriv, as root; tests of those are skipped otherwise)

set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
PATH=$BUILD/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORK=$(mktemp -d /var/tmp/tapsnap-tap-ctl.XXXXXX) || exit 1
export TAPSNAP_RUN_DIR=$WORK/run
number=0
failures=0

# errno values, which are exit statuses
ENOENT=2 EEXIST=17 EACCES=13 EBUSY=16 EISDIR=21 EINVAL=22 ENOSPC=28 EOPNOTSUPP=95 ENODEV=19

# all of our processes, with or without a disk
end_tapdisks() {
	local line
	tap-ctl list 2>/dev/null | while read -r line; do
		line=${line#pid=}
		case $line in minor=*) continue ;; esac
		kill "${line%% *}"
	done
}

cleanup() {
	end_tapdisks
	! mountpoint -q "$WORK/small" || umount "$WORK/small"
	rm -rf "$WORK"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# check NAME COMMAND...: one test; its output is shown when it fails
check() {
	local name=$1
	shift
	number=$((number + 1))
	if "$@" >"$WORK/output" 2>&1; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		echo "# failed: $*"
		sed 's/^/# /' "$WORK/output"
		failures=$((failures + 1))
	fi
}

skip() {
	number=$((number + 1))
	echo "ok $number - $1 # SKIP $2"
}

# is WANTED COMMAND...: the command succeeds and prints exactly that, and nothing on stderr
is() {
	local wanted=$1 got
	shift
	got=$("$@" 2>"$WORK/stderr") || { echo "exit status $?: $*"; cat "$WORK/stderr"; return 1; }
	[ "$got" = "$wanted" ] && [ ! -s "$WORK/stderr" ] && return
	printf 'wanted: %s\ngot:    %s\n' "$wanted" "$got"
	cat "$WORK/stderr"
	return 1
}

# like PATTERN COMMAND...: the same with an extended regular expression for the whole output
like() {
	local pattern=$1 got
	shift
	got=$("$@" 2>"$WORK/stderr") || { echo "exit status $?: $*"; cat "$WORK/stderr"; return 1; }
	[[ $got =~ ^($pattern)$ ]] && [ ! -s "$WORK/stderr" ] && return
	printf 'wanted: %s\ngot:    %s\n' "$pattern" "$got"
	cat "$WORK/stderr"
	return 1
}

# what there is: processes, minors, files, and what is in them that should not change
inventory() {
	tap-ctl list
	find "$TAPSNAP_RUN_DIR" | sort
}

# refuses STATUS TEXT COMMAND...: fails with that status and one line that has TEXT in it, and changes nothing
refuses() {
	local status=$1 text=$2 before after got=0
	shift 2
	before=$(inventory)
	"$@" >"$WORK/stdout" 2>"$WORK/stderr" || got=$?
	after=$(inventory)
	cat "$WORK/stderr"
	[ "$got" = "$status" ] || { echo "exit status $got, wanted $status"; return 1; }
	[ ! -s "$WORK/stdout" ] || { echo "printed:"; cat "$WORK/stdout"; return 1; }
	[ "$(wc -l <"$WORK/stderr")" = 1 ] || { echo "not one line"; return 1; }
	grep -q -F -- "$text" "$WORK/stderr" || { echo "nothing about '$text'"; return 1; }
	[ "$before" = "$after" ] || { printf 'before:\n%s\nafter:\n%s\n' "$before" "$after"; return 1; }
}

nothing_left() {
	local left
	left=$(tap-ctl list; find "$TAPSNAP_RUN_DIR" -mindepth 1 ! -path "$TAPSNAP_RUN_DIR/tapdisk")
	[ -z "$left" ] || { echo "left:"; echo "$left"; return 1; }
}

# create TARGET [OPTION...]: sets pid and minor
create() {
	local json
	json=$(tap-ctl create --json -a "$@") || return
	pid=$(jq .pid <<<"$json")
	minor=$(jq .minor <<<"$json")
}

# until the process and all its threads have ended, so has no socket and no lock (an empty /proc/PID/fd is not enough:
# the files are closed after they are out of it); it may stay a zombie, being nobody's child
wait_gone() {
	# shellcheck disable=SC2016 # that shell's $0
	timeout 10 sh -c 'while [ "$(ls "/proc/$0/task" 2>/dev/null | wc -l)" -gt 1 ] ||
		grep -q "^State:.[^ZX]" "/proc/$0/status" 2>/dev/null; do :; done' "$1"
}

die_at_once() {
	kill -9 "$pid" && wait_gone "$pid"
}

# says STATUS TEXT COMMAND...: as refuses(), for when looking at the inventory would change it
says() {
	local status=$1 text=$2 got=0
	shift 2
	"$@" >"$WORK/stdout" 2>"$WORK/stderr" || got=$?
	cat "$WORK/stderr"
	[ $got = "$status" ] && [ ! -s "$WORK/stdout" ] && grep -q -F -- "$text" "$WORK/stderr"
}

truncate -s 16M "$WORK/a.img"
truncate -s 16M "$WORK/b.img"
truncate -s 0 "$WORK/empty.img"

#
# The sequence of Xen's hotplug script block-tap, with what it does to the output
#
block_tap_add() {
	local target=$1 type=${1%%:*} file=${1#*:} info param
	pid='' minor=''
	info=$(tap-ctl list -t "$type" -f "$file") || return
	for param in $(echo "$info" | tr "," "\n"); do
		case $param in
		pid=*) pid=${param#pid=} ;;
		minor=*) minor=${param#minor=} ;;
		esac
	done
	[ -z "$pid" ] || [ -z "$minor" ] || return 0
	minor=$(tap-ctl allocate) || return
	minor=${minor#"$TAPSNAP_RUN_DIR"/tapdisk/tapdisk-}
	pid=$( (exec 9>&-; tap-ctl spawn) ) || return
	tap-ctl attach -p "$pid" -m "$minor" && tap-ctl open -p "$pid" -m "$minor" -a "$target"
}

check 'list without a run directory: nothing' is '' tap-ctl list
check 'block-tap add' block_tap_add "aio:$WORK/a.img"
first=$pid
check 'list' is "pid=$pid minor=0 state=0 args=aio:$WORK/a.img" tap-ctl list
check 'block-tap add, the same image again' block_tap_add "aio:$WORK/a.img"
check '... shares the tapdisk' [ "$pid $minor" = "$first 0" ]
check 'the NBD socket is where the script says it is' [ -S "$TAPSNAP_RUN_DIR/nbd$pid.$minor" ]
check 'orphan minor: allocate' is "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-1" tap-ctl allocate
check 'orphan process: spawn' like '[0-9]+' tap-ctl spawn
check 'block-tap add of another image takes no orphan for it' block_tap_add "aio:$WORK/b.img"
check 'list shows all of them' like \
	"(pid=[0-9]+( minor=[02] state=0 args=aio:$WORK/[ab].img)?"$'\n'"){3}minor=1" tap-ctl list
check 'list -p' is "pid=$pid minor=2 state=0 args=aio:$WORK/b.img" tap-ctl list -p "$pid"
check 'list -m' is "pid=$first minor=0 state=0 args=aio:$WORK/a.img" tap-ctl list -m 0
check 'list -m of an orphan' is 'minor=1' tap-ctl list -m 1
check 'list -t of another type' is '' tap-ctl list -t vhd
check 'list -f compares whole paths' is '' tap-ctl list -t aio -f "$WORK/a"
check 'list of a process that there is not' is '' tap-ctl list -p 1
check 'list --json' is '3 1' sh -c \
	"tap-ctl list --json | jq -r '[.tapdisks[] | has(\"pid\")] | \"\(map(select(.)) | length) \(map(select(. | not)) | length)\"'"
check 'block-tap remove' is '' tap-ctl destroy -p "$pid" -m "$minor"
check 'block-tap remove' is '' tap-ctl destroy -p "$first" -m 0
check 'free' is '' tap-ctl free -m 1
end_tapdisks
# shellcheck disable=SC2016 # in that shell
check 'SIGTERM ends an idle tapdisk, and nothing is left' timeout 10 sh -c 'while [ -n "$(tap-ctl list)" ]; do :; done'
check 'nothing is left' nothing_left

#
# Each command, one disk
#
check 'create' is "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-0" tap-ctl create -a "aio:$WORK/a.img"
pid=$(tap-ctl list | sed 's/^pid=\([0-9]*\) .*/\1/')
disk="-p $pid -m 0"
# shellcheck disable=SC2086 # $disk is several words
{
check 'pause' is '' tap-ctl pause $disk
check 'a paused disk in list' is "pid=$pid minor=0 state=0x38 args=aio:$WORK/a.img" tap-ctl list
check 'pause again' is '' tap-ctl pause $disk -t 10
check 'unpause' is '' tap-ctl unpause $disk
check 'pause --json has the time of the drain' is 'number' sh -c "tap-ctl pause $disk --json | jq -r '.drain_us | type'"
check 'pause --force loses nothing of a disk that can be flushed' is 'false' sh -c "tap-ctl pause $disk -f --json | jq -r .lost_writes"
check 'unpause on another image' is '' tap-ctl unpause $disk -a "aio:$WORK/b.img"
check '... is on it' is "pid=$pid minor=0 state=0 args=aio:$WORK/b.img" tap-ctl list
truncate -s 32M "$WORK/b.img"
check 'resize' is 65536 tap-ctl resize $disk
check 'throttle' is 'iops=1000 bytes=1048576 burst_ms=50 waiting=0 delayed=0' tap-ctl throttle $disk -i 1000 -B 1M -u 50
check 'throttle: what is not said stays' is 'iops=0 bytes=1048576 burst_ms=50 waiting=0 delayed=0' tap-ctl throttle $disk -i 0
check 'throttle: too many' refuses $EINVAL 'out of range' tap-ctl throttle $disk -i 1000000001
check 'throttle: no burst' refuses $EINVAL 'out of range' tap-ctl throttle $disk -u 0
check 'throttle: no size' refuses $EINVAL 'not a size' tap-ctl throttle $disk -B fast
check 'stats has it' is 1048576 sh -c "tap-ctl stats $disk | jq .throttle.bytes"
check 'no limits' is 'iops=0 bytes=0 burst_ms=50 waiting=0 delayed=0' tap-ctl throttle $disk -B 0
check 'resize to a size: the image is not ours to make larger' refuses $EOPNOTSUPP 'make that larger' tap-ctl resize $disk -s 64M
check 'info' is '65536' sh -c "tap-ctl info $disk --json | jq .disk.sectors"
check 'stats is JSON' is 'object' sh -c "tap-ctl stats $disk | jq -r .total.read.latency_us'|type'"
check 'close' is '' tap-ctl close $disk
check 'a closed disk in list' is "pid=$pid minor=0 state=0x2" tap-ctl list
check 'pause of a closed disk' refuses $EINVAL 'minor 0' tap-ctl pause $disk
check 'close again' is '' tap-ctl close $disk -f -t 5
check 'open read-only' is '' tap-ctl open $disk -a "aio:$WORK/a.img" -R
check '... is so' is true sh -c "tap-ctl info $disk --json | jq .disk.read_only"
check 'open when open' refuses $EEXIST 'a.img' tap-ctl open $disk -a "aio:$WORK/b.img"
check 'detach when open' refuses $EBUSY 'close it first' tap-ctl detach $disk
check 'free when attached' refuses $EBUSY "$pid" tap-ctl free -m 0
check 'close' is '' tap-ctl close $disk
check 'open through the page cache, path relative to here' sh -c "cd $WORK && tap-ctl open $disk -D -a aio:a.img"
check '... the path is whole' is "aio:$WORK/a.img" sh -c "tap-ctl info $disk --json | jq -r .disk.target"
check 'unpause on an image that is not there' sh -c "tap-ctl pause $disk && ! tap-ctl unpause $disk -a aio:/nonexistent"
check '... leaves it paused and says why' is "pid=$pid minor=0 state=0x238 args=aio:$WORK/a.img" tap-ctl list
check 'unpause on a path that is no UTF-8' refuses $EINVAL 'UTF-8' tap-ctl unpause $disk -a $'aio:/nowhere/\xff'
check '... and it can go on' is '' tap-ctl unpause $disk
check 'a second disk in the same process' sh -c "tap-ctl allocate && tap-ctl attach -p $pid -m 1 && tap-ctl open -p $pid -m 1 -a aio:$WORK/b.img"
check 'destroy of one of two' is '' tap-ctl destroy $disk
check '... leaves the other' is "pid=$pid minor=1 state=0 args=aio:$WORK/b.img" tap-ctl list
check 'close and detach of the last' is '' sh -c "tap-ctl close -p $pid -m 1 && tap-ctl detach -p $pid -m 1"
check '... and its tapdisk has ended' is 'minor=1' tap-ctl list
check 'free' is '' tap-ctl free -m 1
}
check 'nothing is left' nothing_left

#
# Bad input, beside a disk that must not notice
#
create "aio:$WORK/a.img" || echo "# cannot create"
other=$pid
check 'a path that is not there' refuses $ENOENT /nonexistent/x tap-ctl create -a aio:/nonexistent/x
check 'a directory' refuses $EISDIR "$WORK" tap-ctl create -a "aio:$WORK"
check 'an empty image' refuses $EINVAL empty.img tap-ctl create -a "aio:$WORK/empty.img"
check 'an unknown type' refuses $EINVAL qed tap-ctl create -a qed:/x
check 'no type' refuses $EINVAL /x tap-ctl create -a /x
check 'no path' refuses $EINVAL aio tap-ctl create -a aio:
check 'nothing at all' refuses $EINVAL TYPE:PATH tap-ctl create
check 'a path with a line break' refuses $EINVAL 'control character' tap-ctl create -a $'aio:/a\nb'
check 'a path that is no UTF-8' refuses $EINVAL UTF-8 tap-ctl create -a $'aio:/\xff'
check 'a path that is too long' refuses 36 'File name too long' tap-ctl create -a "aio:/$(printf 'x%.0s' {1..5000})"
check 'a second writer' refuses $EBUSY a.img tap-ctl create -a "aio:$WORK/a.img"
check 'minor out of range: allocate' refuses $EINVAL 65536 tap-ctl allocate -m 65536
check 'minor out of range: free' refuses $EINVAL -1 tap-ctl free -m -1
check 'minor out of range: attach' refuses $EINVAL 99999999999 tap-ctl attach -p "$other" -m 99999999999
check 'minor that is no number' refuses $EINVAL 1x tap-ctl free -m 1x
check 'minor that is taken' refuses $EEXIST 'minor 0' tap-ctl allocate -m 0
check 'minor that is attached' refuses $EEXIST 'minor 0' tap-ctl attach -p "$other" -m 0
check 'minor that is not allocated: free' refuses $ENOENT 'minor 7' tap-ctl free -m 7
check 'minor that is not allocated: attach' refuses $ENOENT 'minor 7' tap-ctl attach -p "$other" -m 7
check 'minor that is not attached: open' refuses $ENODEV 'minor 7' tap-ctl open -p "$other" -m 7 -a null:1G
check 'minor that is not attached: info' refuses $ENODEV 'minor 7' tap-ctl info -p "$other" -m 7
check 'minor that is not there: destroy' refuses $ENOENT 'minor 7' tap-ctl destroy -p "$other" -m 7
check 'a wrong pid: destroy' refuses $EBUSY "$other" tap-ctl destroy -p 1 -m "$minor"
check 'a wrong pid: info' refuses $ENOENT 'pid 1' tap-ctl info -p 1 -m "$minor"
check 'pid 0' refuses $EINVAL 0 tap-ctl info -p 0 -m "$minor"
check 'an unknown command' refuses $EINVAL frobnicate tap-ctl frobnicate
check 'an unknown option' refuses $EINVAL z tap-ctl list -z
check 'an unexpected argument' refuses $EINVAL surplus tap-ctl list surplus
check 'a missing option' refuses $EINVAL MINOR tap-ctl pause -p "$other"
check 'a timeout of nothing' refuses $EINVAL -t tap-ctl pause -p "$other" -m 0 -t 0
for option in '-2 /x' '-s' '-e 3' '-r' '-C /log'; do
	# shellcheck disable=SC2086 # the option and its argument are two words
	check "blktap's open $option" refuses $EOPNOTSUPP "${option%% *}" tap-ctl open -p "$other" -m 0 -a "aio:$WORK/b.img" $option
done
check 'a bad virtual device' refuses $EINVAL xvd0 tap-ctl xen-attach 1 xvd0 "aio:$WORK/b.img"
[ -e /proc/xen ] || check 'xen-attach without Xen' refuses $ENOENT xenstored tap-ctl xen-attach 1 xvdb "aio:$WORK/b.img"
[ -e /proc/xen ] || check 'xen-detach without Xen' refuses $ENOENT xenstored tap-ctl xen-detach 1 xvdb
check 'a failure with --json' is '2 false' sh -c \
	"tap-ctl info -p 1 -m 0 --json 2>/dev/null | jq -r '\"\(.errno) \(.ok)\"'"
check 'output that cannot be written is a failure' refuses 5 'No space left' sh -c 'tap-ctl list >/dev/full'
check 'the other disk has not noticed' is "pid=$other minor=0 state=0 args=aio:$WORK/a.img" tap-ctl list

#
# What others left behind
#
touch "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-1"
check 'a stale marker is skipped by allocate' is "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-2" tap-ctl allocate
check '... shows in list' like "pid=$other .*"$'\n'"minor=1"$'\n'"minor=2" tap-ctl list
check '... and can be freed' is '' sh -c 'tap-ctl free -m 1 && tap-ctl free -m 2'
create null:1G
kill -STOP "$pid"
check 'a tapdisk that hangs: no longer than told' says 110 "tapdisk $pid" tap-ctl pause -p "$pid" -m "$minor" -t 1
kill -CONT "$pid"
check '... and when it goes on it has done it' is "pid=$pid minor=$minor state=0x38 args=null:1G" tap-ctl list -p "$pid"
die_at_once
check 'a dead tapdisk: info' says 111 "tapdisk $pid has died" tap-ctl info -p "$pid" -m "$minor"
check 'a dead tapdisk: destroy clears away socket, NBD socket and marker' is '' tap-ctl destroy -p "$pid" -m "$minor"
create null:1G
die_at_once
check 'a dead tapdisk: list clears away the sockets' is "pid=$other minor=0 state=0 args=aio:$WORK/a.img"$'\n'"minor=$minor" tap-ctl list
check '... all of them' sh -c "! ls '$TAPSNAP_RUN_DIR' | grep -w $pid"
check '... and the marker can still be freed' is '' tap-ctl destroy -p "$pid" -m "$minor"
check 'its image can be opened again' create "aio:$WORK/b.img"
kill "$pid"
wait_gone "$pid"
check 'SIGTERM closes disks and removes sockets' is "pid=$other minor=0 state=0 args=aio:$WORK/a.img"$'\n'"minor=$minor" tap-ctl list
check 'free' is '' tap-ctl free -m "$minor"
check 'destroy of the disk that was there all the time' is '' tap-ctl destroy -p "$other" -m 0
check 'nothing is left' nothing_left

#
# A tapdisk that cannot start, a full run directory, no permission
#
# shellcheck disable=SC2016 # in that shell
check 'tapdisk is not there' refuses $ENOENT /nonexistent env TAPSNAP_TAPDISK=/nonexistent/tapdisk \
	bash -c 'cp "$(command -v tap-ctl)" "$0" && PATH=$PATH "$0" create -a null:1G' "$WORK/tap-ctl"
check 'a run directory too long for a socket' refuses 36 'too long' env \
	"TAPSNAP_RUN_DIR=$WORK/$(printf 'x%.0s' {1..100})" tap-ctl spawn
rm -rf "$WORK"/xxx*
check 'tapdisk: an unknown engine' refuses 1 'io_uring or libaio' tapdisk --engine rocket
check 'tapdisk: the engine that is for tools' refuses 1 'io_uring or libaio' tapdisk --engine sync
check 'tapdisk: an unknown option' refuses $EINVAL rocket tapdisk --rocket
check 'tapdisk: nobody attaches a disk' timeout 10 tapdisk --foreground --idle-exit 1
check 'tapdisk --version' like 'tapdisk \(tapsnap\) [0-9.]+' tapdisk --version
check 'tap-ctl --version' like 'tap-ctl \(tapsnap\) [0-9.]+' tap-ctl --version
for command in $(tap-ctl --help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
	check "$command --help" grep -q "^Usage: tap-ctl $command" <(tap-ctl "$command" --help)
done

for command in create open unpause xen-attach; do
	check "$command --help tells the types of images" sh -c "tap-ctl $command --help | grep -q '^  aio:PATH: '"
done
check 'the help of other commands does not' sh -c "! tap-ctl pause --help | grep -q aio:"

mkdir "$WORK/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k,nr_inodes=3 tapsnap-small "$WORK/small" 2>/dev/null; then
	export TAPSNAP_RUN_DIR=$WORK/small
	mkdir "$WORK/small/tapdisk"		# root, this, and one more inode
	check 'full run directory: create' refuses $ENOSPC "$WORK/small" tap-ctl create -a null:1G
	touch "$WORK/small/full"
	check 'full run directory: allocate' refuses $ENOSPC 'make room' tap-ctl allocate
	check 'full run directory: spawn' refuses $ENOSPC "$WORK/small" tap-ctl spawn
	export TAPSNAP_RUN_DIR=$WORK/run
	umount "$WORK/small"
else
	skip 'full run directory' 'no tmpfs can be mounted here'
fi

if [ "$(id -u)" = 0 ]; then
	chmod 711 "$WORK"
	mkdir "$WORK/nobody" && chown 65534:65534 "$WORK/nobody"
	install -d -m 755 "$WORK/bin"
	cp "$BUILD/bin/tap-ctl" "$BUILD/bin/tapdisk" "$WORK/bin"
	chmod 600 "$WORK/a.img"
	as_nobody() {
		setpriv --reuid=65534 --regid=65534 --clear-groups env "TAPSNAP_RUN_DIR=$WORK/nobody" "$WORK/bin/tap-ctl" "$@"
	}
	check 'no permission for the image' refuses $EACCES a.img as_nobody create -a "aio:$WORK/a.img"
	check 'no permission for the run directory' refuses $EACCES "$WORK/run" setpriv --reuid=65534 --regid=65534 \
		--clear-groups env "TAPSNAP_RUN_DIR=$WORK/run" "$WORK/bin/tap-ctl" allocate
	check 'nothing is left of it' [ -z "$(find "$WORK/nobody" -type s -o -type f)" ]
else
	skip 'no permission' 'needs root to become somebody else'
fi
check 'nothing is left' nothing_left

echo "1..$number"
[ $failures = 0 ]
