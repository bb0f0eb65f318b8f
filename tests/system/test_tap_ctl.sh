#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tap_ctl.sh - every command of tap-ctl against real tapdisks: the output
# that scripts parse, exit status, refusals and their messages, and no leftovers
# after any failure.
#
# Output is TAP. BUILD says where the programs are.
# Needs: jq python3 util-linux (mount and setpriv, as root; tests of those are skipped otherwise)

. "$(dirname "$0")/lib.sh"

# errno values, which are exit statuses
ENOENT=2 EEXIST=17 EACCES=13 EBUSY=16 EISDIR=21 EINVAL=22 ENOSPC=28 EOPNOTSUPP=95 ENODEV=19 EAGAIN=11

# prints WANTED COMMAND...: the command must succeed and print exactly WANTED, and nothing on stderr
prints() {
	local wanted=$1 got
	shift
	got=$("$@" 2>"$work/stderr") || { echo "exit status $?: $*"; cat "$work/stderr"; return 1; }
	[ "$got" = "$wanted" ] && [ ! -s "$work/stderr" ] && return
	printf 'wanted: %s\ngot:    %s\n' "$wanted" "$got"
	cat "$work/stderr"
	return 1
}

# like PATTERN COMMAND...: the same, but the whole output must match an extended regular expression
like() {
	local pattern=$1 got
	shift
	got=$("$@" 2>"$work/stderr") || { echo "exit status $?: $*"; cat "$work/stderr"; return 1; }
	[[ $got =~ ^($pattern)$ ]] && [ ! -s "$work/stderr" ] && return
	printf 'wanted: %s\ngot:    %s\n' "$pattern" "$got"
	cat "$work/stderr"
	return 1
}

# print the state: processes, minors, files, and their contents that should not change
inventory() {
	tap-ctl list
	find "$TAPSNAP_RUN_DIR" | sort
}

stderr_only() {
	"$@" >"$work/stdout"
	local code=$?
	[ ! -s "$work/stdout" ] || cat "$work/stdout" - >&2 <<<'(on stdout)'
	return $code
}

# rejects CODE TEXT COMMAND...: refuses, on stderr, and changes nothing
rejects() {
	local code=$1 text=$2 before after status
	shift 2
	before=$(inventory)
	refuses "$code" "$text" stderr_only "$@"
	status=$?
	after=$(inventory)
	[ $status = 0 ] || return 1
	[ "$before" = "$after" ] || { printf 'before:\n%s\nafter:\n%s\n' "$before" "$after"; return 1; }
}

nothing_left() {
	local left
	left=$(tap-ctl list && find "$TAPSNAP_RUN_DIR" -mindepth 1 ! -path "$TAPSNAP_RUN_DIR/tapdisk") || return 1
	[ -z "$left" ] || { echo "left:"; echo "$left"; return 1; }
}

# create TARGET [OPTION...]: sets pid and minor
create() {
	local json
	json=$(tap-ctl create --json -a "$@") || return
	pid=$(jq .pid <<<"$json")
	minor=$(jq .minor <<<"$json")
}

truncate -s 16M "$work/a.img"
truncate -s 16M "$work/b.img"
truncate -s 0 "$work/empty.img"

#
# The sequence of Xen's hotplug script block-tap, which parses the output
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

rmdir "$TAPSNAP_RUN_DIR"
check 'list without a run directory: nothing' prints '' tap-ctl list
check 'block-tap add' block_tap_add "aio:$work/a.img"
first=$pid
check 'list' prints "pid=$pid minor=0 state=0 args=aio:$work/a.img" tap-ctl list
check 'block-tap add, the same image again' block_tap_add "aio:$work/a.img"
check '... shares the tapdisk' [ "$pid $minor" = "$first 0" ]
check 'the NBD socket is where the script says it is' [ -S "$TAPSNAP_RUN_DIR/nbd$pid.$minor" ]
check 'orphan minor: allocate' prints "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-1" tap-ctl allocate
check 'orphan process: spawn' like '[0-9]+' tap-ctl spawn
check 'block-tap add of another image takes no orphan for it' block_tap_add "aio:$work/b.img"
check 'list shows all of them' like \
	"(pid=[0-9]+( minor=[02] state=0 args=aio:$work/[ab].img)?"$'\n'"){3}minor=1" tap-ctl list
check 'list -p' prints "pid=$pid minor=2 state=0 args=aio:$work/b.img" tap-ctl list -p "$pid"
check 'list -m' prints "pid=$first minor=0 state=0 args=aio:$work/a.img" tap-ctl list -m 0
check 'list -m of an orphan' prints 'minor=1' tap-ctl list -m 1
check 'list -t of another type' prints '' tap-ctl list -t vhd
check 'list -f compares whole paths' prints '' tap-ctl list -t aio -f "$work/a"
check 'list of a process that there is not' prints '' tap-ctl list -p 1
check 'list --json' prints '3 1' sh -c \
	"tap-ctl list --json | jq -r '[.tapdisks[] | has(\"pid\")] | \"\(map(select(.)) | length) \(map(select(. | not)) | length)\"'"
check 'block-tap remove' prints '' tap-ctl destroy -p "$pid" -m "$minor"
check 'block-tap remove' prints '' tap-ctl destroy -p "$first" -m 0
check 'free' prints '' tap-ctl free -m 1
kill $(tapdisks)
# shellcheck disable=SC2016 # in that shell
check 'SIGTERM ends an idle tapdisk, and nothing is left' timeout 10 sh -c 'while list=$(tap-ctl list) && [ -n "$list" ]; do :; done; [ -z "$list" ] && tap-ctl list'
check 'nothing is left' nothing_left

#
# Each command, one disk
#
check 'create' prints "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-0" tap-ctl create -a "aio:$work/a.img"
pid=$(tap-ctl list | sed 's/^pid=\([0-9]*\) .*/\1/')
disk="-p $pid -m 0"
# shellcheck disable=SC2086 # $disk is several words
{
check 'pause' prints '' tap-ctl pause $disk
check 'a paused disk in list' prints "pid=$pid minor=0 state=0x38 args=aio:$work/a.img" tap-ctl list
check 'pause again' prints '' tap-ctl pause $disk -t 10
check 'unpause' prints '' tap-ctl unpause $disk
check 'pause --json has the time of the drain' prints 'number' sh -c "tap-ctl pause $disk --json | jq -r '.drain_us | type'"
check 'pause --force loses nothing of a disk that can be flushed' prints 'false' sh -c "tap-ctl pause $disk -f --json | jq -r .lost_writes"
check 'unpause on another image' prints '' tap-ctl unpause $disk -a "aio:$work/b.img"
check '... is on it' prints "pid=$pid minor=0 state=0 args=aio:$work/b.img" tap-ctl list
truncate -s 32M "$work/b.img"
check 'resize' prints 65536 tap-ctl resize $disk
check 'throttle' prints 'iops=1000 bytes=1048576 burst_ms=50 waiting=0 delayed=0' tap-ctl throttle $disk -i 1000 -B 1M -u 50
check 'throttle: what is not said stays' prints 'iops=0 bytes=1048576 burst_ms=50 waiting=0 delayed=0' tap-ctl throttle $disk -i 0
check 'throttle: too many' rejects $EINVAL 'out of range' tap-ctl throttle $disk -i 1000000001
check 'throttle: no burst' rejects $EINVAL 'out of range' tap-ctl throttle $disk -u 0
check 'throttle: too many bytes' rejects $EINVAL 'at most 1099511627776' tap-ctl throttle $disk -B 2T
check 'throttle: no size' rejects $EINVAL 'not a size' tap-ctl throttle $disk -B fast
check 'stats has it' prints 1048576 sh -c "tap-ctl stats $disk | jq .throttle.bytes"
check 'no limits' prints 'iops=0 bytes=0 burst_ms=50 waiting=0 delayed=0' tap-ctl throttle $disk -B 0
check 'resize to a size: the image is not ours to make larger' rejects $EOPNOTSUPP 'enlarge the image first' tap-ctl resize $disk -s 64M
check 'resize to nothing' rejects $EINVAL 'at least 512' tap-ctl resize $disk -s 0
check 'info' prints '65536' sh -c "tap-ctl info $disk --json | jq .disk.sectors"
check 'stats is JSON' prints 'object' sh -c "tap-ctl stats $disk | jq -r .total.read.latency_us'|type'"
check 'close' prints '' tap-ctl close $disk
check 'a closed disk in list' prints "pid=$pid minor=0 state=0x2" tap-ctl list
check 'pause of a closed disk' rejects $EINVAL 'minor 0' tap-ctl pause $disk
check 'close again' prints '' tap-ctl close $disk -f -t 5
check 'open read-only' prints '' tap-ctl open $disk -a "aio:$work/a.img" -R
check '... is so' prints true sh -c "tap-ctl info $disk --json | jq .disk.read_only"
check 'open when open' rejects $EEXIST 'a.img' tap-ctl open $disk -a "aio:$work/b.img"
check 'detach when open' rejects $EBUSY 'close it first' tap-ctl detach $disk
check 'free when attached' rejects $EBUSY "$pid" tap-ctl free -m 0
check 'close' prints '' tap-ctl close $disk
check 'open through the page cache, path relative to here' sh -c "cd $work && tap-ctl open $disk -D -a aio:a.img"
check '... with the complete path' prints "aio:$work/a.img" sh -c "tap-ctl info $disk --json | jq -r .disk.target"
check 'unpause on an image that is not there' sh -c "tap-ctl pause $disk && ! tap-ctl unpause $disk -a aio:/nonexistent"
check '... leaves it paused and says why' prints "pid=$pid minor=0 state=0x238 args=aio:$work/a.img" tap-ctl list
check 'unpause on a path that is no UTF-8' rejects $EINVAL 'UTF-8' tap-ctl unpause $disk -a $'aio:/nowhere/\xff'
check '... and it can be unpaused' prints '' tap-ctl unpause $disk
check 'a second disk in the same process' sh -c "tap-ctl allocate && tap-ctl attach -p $pid -m 1 && tap-ctl open -p $pid -m 1 -a aio:$work/b.img"
check 'destroy of one of two' prints '' tap-ctl destroy $disk
check '... leaves the other' prints "pid=$pid minor=1 state=0 args=aio:$work/b.img" tap-ctl list
check 'close and detach of the last' prints '' sh -c "tap-ctl close -p $pid -m 1 && tap-ctl detach -p $pid -m 1"
check '... and its tapdisk has ended' prints 'minor=1' tap-ctl list
check 'free' prints '' tap-ctl free -m 1
}
check 'nothing is left' nothing_left

#
# Bad input, while another disk must not be affected
#
create "aio:$work/a.img" || echo "# cannot create"
other=$pid
check 'a path that is not there' rejects $ENOENT /nonexistent/x tap-ctl create -a aio:/nonexistent/x
check 'a directory' rejects $EISDIR "$work" tap-ctl create -a "aio:$work"
check 'an empty image' rejects $EINVAL empty.img tap-ctl create -a "aio:$work/empty.img"
check 'an unknown type' rejects $EINVAL qed tap-ctl create -a qed:/x
check 'no type' rejects $EINVAL /x tap-ctl create -a /x
check 'no path' rejects $EINVAL aio tap-ctl create -a aio:
check 'nothing at all' rejects $EINVAL TYPE:PATH tap-ctl create
check 'a path with a line break' rejects $EINVAL 'control character' tap-ctl create -a $'aio:/a\nb'
check 'a path that is no UTF-8' rejects $EINVAL UTF-8 tap-ctl create -a $'aio:/\xff'
check 'a path that is too long' rejects 36 'File name too long' tap-ctl create -a "aio:/$(printf 'x%.0s' {1..5000})"
check 'a second writer' rejects $EBUSY a.img tap-ctl create -a "aio:$work/a.img"
check 'minor out of range: allocate' rejects $EINVAL 65536 tap-ctl allocate -m 65536
check 'minor out of range: free' rejects $EINVAL -1 tap-ctl free -m -1
check 'minor out of range: attach' rejects $EINVAL 99999999999 tap-ctl attach -p "$other" -m 99999999999
check 'minor that is no number' rejects $EINVAL 1x tap-ctl free -m 1x
check 'minor that is taken' rejects $EEXIST 'minor 0' tap-ctl allocate -m 0
check 'minor that is attached' rejects $EEXIST 'minor 0' tap-ctl attach -p "$other" -m 0
check 'minor that is not allocated: free' rejects $ENOENT 'minor 7' tap-ctl free -m 7
check 'minor that is not allocated: attach' rejects $ENOENT 'minor 7' tap-ctl attach -p "$other" -m 7
check 'minor that is not attached: open' rejects $ENODEV 'minor 7' tap-ctl open -p "$other" -m 7 -a null:1G
check 'minor that is not attached: info' rejects $ENODEV 'minor 7' tap-ctl info -p "$other" -m 7
check 'minor that is not there: destroy' rejects $ENOENT 'minor 7' tap-ctl destroy -p "$other" -m 7
check 'a wrong pid: destroy' rejects $EBUSY "$other" tap-ctl destroy -p 1 -m "$minor"
check 'a wrong pid: info' rejects $ENOENT 'pid 1' tap-ctl info -p 1 -m "$minor"
check 'pid 0' rejects $EINVAL 0 tap-ctl info -p 0 -m "$minor"
check 'an unknown command' rejects $EINVAL frobnicate tap-ctl frobnicate
check 'an unknown option' rejects $EINVAL 'tap-ctl: list: -z: no such option' tap-ctl list -z
check 'an option without its value' rejects $EINVAL 'tap-ctl: list: --minor needs a value' tap-ctl list --minor
check 'an unexpected argument' rejects $EINVAL surplus tap-ctl list surplus
check 'a missing option' rejects $EINVAL MINOR tap-ctl pause -p "$other"
check 'a timeout of nothing' rejects $EINVAL -t tap-ctl pause -p "$other" -m 0 -t 0
for option in '-2 /x' '-s' '-e 3' '-r' '-C /log'; do
	# shellcheck disable=SC2086 # the option and its argument are two words
	check "blktap's open $option" rejects $EOPNOTSUPP "${option%% *}" tap-ctl open -p "$other" -m 0 -a "aio:$work/b.img" $option
done
check 'a bad virtual device' rejects $EINVAL xvd0 tap-ctl xen-attach 1 xvd0 "aio:$work/b.img"
python3 "$here/tests/system/xenstored.py" "$work/xenstored" conflict &
check 'a xenstore' eventually test -S "$work/xenstored"
check 'xen-attach gives up when somebody always comes between' rejects $EAGAIN 'write to xenstore' \
	env XENSTORED_PATH="$work/xenstored" timeout -s KILL 10 tap-ctl xen-attach 1 xvdb "aio:$work/b.img"
kill $!
[ -e /proc/xen ] || check 'xen-attach without Xen' rejects $ENOENT xenstored tap-ctl xen-attach 1 xvdb "aio:$work/b.img"
[ -e /proc/xen ] || check 'xen-detach without Xen' rejects $ENOENT xenstored tap-ctl xen-detach 1 xvdb
check 'a failure with --json' prints '2 false' sh -c \
	"tap-ctl info -p 1 -m 0 --json 2>/dev/null | jq -r '\"\(.errno) \(.ok)\"'"
failure() { json '"\(.ok) \(.errno) \(.error)"' "$@" 2>/dev/null; }
check 'a usage error with --json' is "$(failure tap-ctl pause -p "$other")" "false 22 -m MINOR is missing; see 'tap-ctl pause --help'"
check '... with the error first' is "$(failure tap-ctl list -z)" "false 22 -z: no such option; see 'tap-ctl list --help'"
check '... or a wrong value' is "$(failure tap-ctl free -m 1x | cut -d: -f1)" 'false 22 -m 1x'
check '... of an option of blktap' is "$(failure tap-ctl open -p "$other" -m 0 -a "aio:$work/b.img" -e 1 | cut -d' ' -f-3)" 'false 95 -e'
check '... of no command' is "$(failure tap-ctl frobnicate)" "false 22 there is no command 'frobnicate'; 'tap-ctl --help' lists them"
check 'output that cannot be written is a failure' rejects 5 'No space left' sh -c 'tap-ctl list >/dev/full'
check 'the other disk has not noticed' prints "pid=$other minor=0 state=0 args=aio:$work/a.img" tap-ctl list

#
# Leftovers of other processes
#
touch "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-1"
check 'a stale marker is skipped by allocate' prints "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-2" tap-ctl allocate
check '... shows in list' like "pid=$other .*"$'\n'"minor=1"$'\n'"minor=2" tap-ctl list
check '... and can be freed' prints '' sh -c 'tap-ctl free -m 1 && tap-ctl free -m 2'
create null:1G
kill -STOP "$pid"
check 'a tapdisk that hangs: no longer than told' refuses 110 "tapdisk $pid" tap-ctl pause -p "$pid" -m "$minor" -t 1
check '... list continues without it' sh -c 'tap-ctl list --json >"$0/listed" 2>"$0/err"' "$work"
check '... and names it' is "$(jq -c .unresponsive "$work/listed")" "[$pid]"
check '... on stderr as well' grep -q "tapdisk $pid" "$work/err"
kill -CONT "$pid"
check '... and when it continues it executes the command' prints "pid=$pid minor=$minor state=0x38 args=null:1G" tap-ctl list -p "$pid"
kill_tapdisk "$pid"
check 'a dead tapdisk: info' refuses 111 "tapdisk $pid has died" tap-ctl info -p "$pid" -m "$minor"
check 'a dead tapdisk: destroy clears away socket, NBD socket and marker' prints '' tap-ctl destroy -p "$pid" -m "$minor"
create null:1G
second=$(tap-ctl allocate)
second=${second##*-}
tap-ctl attach -p "$pid" -m "$second"
kill -STOP "$pid"
check 'a tapdisk that hangs, with two disks: destroy -f leaves it alone' refuses 110 'serves other disks' tap-ctl destroy -f -t 1 \
	-p "$pid" -m "$minor"
kill -CONT "$pid"
tap-ctl destroy -p "$pid" -m "$second"
tap-ctl destroy -p "$pid" -m "$minor"
create null:1G
kill -STOP "$pid"
check '... with one: destroy -f ends it' prints '' tap-ctl destroy -f -t 1 -p "$pid" -m "$minor"
wait_gone "$pid"
create null:1G
kill_tapdisk "$pid"
check 'a dead tapdisk: list clears away the sockets' prints "pid=$other minor=0 state=0 args=aio:$work/a.img"$'\n'"minor=$minor" tap-ctl list
check '... all of them' sh -c "! ls '$TAPSNAP_RUN_DIR' | grep -w $pid"
check '... and the marker can still be freed' prints '' tap-ctl destroy -p "$pid" -m "$minor"
check 'its image can be opened again' create "aio:$work/b.img"
kill "$pid"
wait_gone "$pid"
check 'SIGTERM closes disks and removes sockets' prints "pid=$other minor=0 state=0 args=aio:$work/a.img"$'\n'"minor=$minor" tap-ctl list
check 'free' prints '' tap-ctl free -m "$minor"
check 'destroy of the disk that was there all the time' prints '' tap-ctl destroy -p "$other" -m 0
check 'nothing is left' nothing_left

#
# A program that was reinstalled
#
idle=$(tap-ctl spawn)
create null:1G && first=$pid
create "aio:$work/b.img" && second=$pid
check 'upgrade --all' like '[0-9]+'$'\n''[0-9]+' tap-ctl upgrade --all
check '... others have the disks' is "$(tap-ctl list -p "$first"; tap-ctl list -p "$second"; tap-ctl list | grep -c ' minor=')" 2
check '... one without a disk is left alone' prints "pid=$idle" tap-ctl list -p "$idle"
first=$(tap-ctl list -m 0 --json | jq .tapdisks[0].pid) second=$(tap-ctl list -m 1 --json | jq .tapdisks[0].pid)
tap-ctl pause -p "$first" -m 0
check '... one that cannot be is told' refuses $ENOENT "tapdisk $first" tap-ctl upgrade --all
check '... and stays, the other does not' is "$(tap-ctl list -p "$first" | cut -d' ' -f1,2) $(tap-ctl list -p "$second")" "pid=$first minor=0 "
check 'upgrade of none' rejects $EINVAL 'either -p PID or --all' tap-ctl upgrade
end_disks
kill_tapdisk "$idle"
check 'nothing is left' nothing_left

#
# Interrupted
#
create_signalled() {	# create_signalled SIGNAL SECONDS TARGET: SECONDS after the start; returns the exit status
	env --default-signal="$1" tap-ctl create -a "$3" >"$work/made" 2>&1 &
	has_begun $! tap-ctl
	sleep "$2"
	kill -"$1" $! 2>/dev/null
	wait $!
}
interrupted() {	# interrupted SIGNAL TARGET COUNT: a little later each time, until create succeeds; before, COUNT disks
	local wait=0 code=1
	while [ $code != 0 ]; do
		create_signalled "$1" "$((wait / 1000)).$(printf %03d $((wait % 1000)))" "$2"
		code=$?
		[ $code = 0 ] || is "$(tap-ctl list | wc -l)" "$3" || { echo "exit $code after $wait ms"; tap-ctl list; cat "$work/made"; return 1; }
		[ ! -s "$work/made" ] || grep -q 'interrupted\|tapdisk-[0-9]*$' "$work/made" || { cat "$work/made"; return 1; }
		wait=$((wait + wait / 5 + 1))
	done
}
check 'create, interrupted' interrupted INT "aio:$work/a.img" 0
end_disks
check 'nothing is left' nothing_left
tap-img create "$work/a.cow" 16M >/dev/null && tap-img snapshot -c one "$work/a.cow"
create "cow:$work/a.cow"
check 'create of a snapshot in the tapdisk that has the store, terminated' interrupted TERM "cow:$work/a.cow@one" 1
end_disks
check 'nothing is left' nothing_left
create "cow:$work/a.cow"
hung() {	# a command waits for a tapdisk that does not answer
	local code
	kill -STOP "$pid"
	create_signalled INT 0.3 "cow:$work/a.cow@one"
	code=$?
	kill -CONT "$pid"
	is $code 130 && is "$(tap-ctl list | wc -l)" 1
}
check 'create that waits, interrupted' hung
end_disks
check 'nothing is left' nothing_left

#
# A tapdisk that cannot start, a full run directory, no permission
#
check 'tapdisk is not there' rejects $ENOENT /nonexistent env TAPSNAP_TAPDISK=/nonexistent/tapdisk tap-ctl create -a null:1G
check 'a run directory too long for a socket' rejects 36 'too long' env \
	"TAPSNAP_RUN_DIR=$work/$(printf 'x%.0s' {1..100})" tap-ctl spawn
rm -rf "$work"/xxx*
check 'tapdisk: an unknown engine' rejects 1 'io_uring or libaio' tapdisk --engine rocket
check 'tapdisk: the engine that is for tools' rejects 1 'io_uring or libaio' tapdisk --engine sync
check 'tapdisk: an unknown option' rejects $EINVAL rocket tapdisk --rocket
check 'tapdisk: an option without its value' rejects $EINVAL '--poll needs a value' tapdisk --poll
check 'tapdisk: a setting that is no number' rejects $EINVAL 'TAPSNAP_POLL fast: not a number from 0 to 10000' \
	env TAPSNAP_POLL=fast tapdisk
check '... told by who started it' rejects $EINVAL 'TAPSNAP_POLL fast: not a number' env TAPSNAP_POLL=fast tap-ctl spawn
check '... and another one' rejects $EINVAL 'TAPSNAP_OPEN_TIMEOUT soon: not a number' env TAPSNAP_OPEN_TIMEOUT=soon tap-ctl create -a null:1G
check '... that tap-ctl needs itself' rejects $EINVAL 'create: TAPSNAP_OPEN_TIMEOUT 3601: not a number from 0 to 3600' \
	env TAPSNAP_OPEN_TIMEOUT=3601 tap-ctl create -a "cow:$work/none.cow"
check 'tapdisk: whoever waits is told, in whatever order the options are' sh -c \
	'! tapdisk --poll fast --ready-fd 3 3>"$0" && grep -qx "error 22 --poll fast: not a number from 0 to 10000" "$0"' "$work/ready"
check 'tapdisk: nobody attaches a disk' timeout 10 tapdisk --log-stderr --idle-exit 1
check 'tapdisk --version' like 'tapdisk \(tapsnap\) [0-9.]+' tapdisk --version
check 'tap-ctl --version' like 'tap-ctl \(tapsnap\) [0-9.]+' tap-ctl --version
for command in $(tap-ctl --help | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
	check "$command --help" grep -q "^Usage: tap-ctl $command" <(tap-ctl "$command" --help)
done

for command in create open unpause xen-attach; do
	check "$command --help tells the types of images" sh -c "tap-ctl $command --help | grep -q '^  aio:PATH: '"
done
check 'the help of other commands does not' sh -c "! tap-ctl pause --help | grep -q aio:"

mkdir "$work/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k,nr_inodes=3 tapsnap-small "$work/small" 2>/dev/null; then
	export TAPSNAP_RUN_DIR=$work/small
	mkdir "$work/small/tapdisk"		# the 3 inodes: the root, this directory, and one more
	check 'full run directory: create' rejects $ENOSPC "$work/small" tap-ctl create -a null:1G
	touch "$work/small/full"
	check 'full run directory: allocate' rejects $ENOSPC 'make room' tap-ctl allocate
	check 'full run directory: spawn' rejects $ENOSPC "$work/small" tap-ctl spawn
	export TAPSNAP_RUN_DIR=$work/run
	umount "$work/small"
else
	skip 'full run directory' 'no tmpfs can be mounted here'
fi

if [ "$(id -u)" = 0 ]; then
	chmod 711 "$work"
	mkdir "$work/nobody" && chown 65534:65534 "$work/nobody"
	install -d -m 755 "$work/bin"
	cp "$build/bin/tap-ctl" "$build/bin/tapdisk" "$work/bin"
	chmod 600 "$work/a.img"
	as_nobody() {
		setpriv --reuid=65534 --regid=65534 --clear-groups env "TAPSNAP_RUN_DIR=$work/nobody" "$work/bin/tap-ctl" "$@"
	}
	check 'no permission for the image' rejects $EACCES a.img as_nobody create -a "aio:$work/a.img"
	check 'no permission for the run directory' rejects $EACCES "$work/run" setpriv --reuid=65534 --regid=65534 \
		--clear-groups env "TAPSNAP_RUN_DIR=$work/run" "$work/bin/tap-ctl" allocate
	check 'nothing is left of it' prints '' find "$work/nobody" -type s -o -type f
else
	skip 'no permission' 'needs root to become somebody else'
fi
check 'nothing is left' nothing_left

finish
