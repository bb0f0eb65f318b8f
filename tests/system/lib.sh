# SPDX-License-Identifier: LGPL-2.1-or-later
#
# lib.sh - what the tests of the programs share: checks in TAP, a directory of
# their own, which is the current one, and tapdisks with a run directory in it.
# When the test ends, however it does, all of them have gone. Sourced; $0 is
# the test. BUILD says where the programs are (default: build).
#
# Invariant: nothing here or of a test touches a file outside $work or a
# process that is not listed in $TAPSNAP_RUN_DIR, so tests run side by side.

set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${BUILD:-$here/build}" && pwd)
PATH=$build/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C		# whatever the machine speaks
engine_so=$build/lib/fio-blkfront.so

work=$(mktemp -d "/var/tmp/$(basename "$0" .sh).XXXXXX") || exit 1
export TAPSNAP_RUN_DIR=$work/run TAPSNAP_STATE_DIR=$work/state
mkdir -m 700 "$TAPSNAP_RUN_DIR"
cd "$work" || exit 1
count=0 failed=0
loops=()	# loop devices that are given back
pid=() minor=() disk=() socket=() uri=()	# of disk N, by open_target

cleanup() {
	local each loop
	kill $(jobs -p) 2>/dev/null
	for each in $(tapdisks); do
		kill_tapdisk "$each"
		rm -rf "/dev/shm/td3-$each"
	done
	! mountpoint -q "$work/small" || umount "$work/small"
	for loop in "${loops[@]}"; do
		losetup -d "$loop"
	done
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# Checks. A command of a check runs in this shell; what it prints is shown when it fails.

check() {	# check NAME COMMAND...: the command succeeds
	local name=$1
	shift
	count=$((count + 1))
	if "$@" >"$work/output" 2>&1; then
		echo "ok $count - $name"
	else
		failed=$((failed + 1))
		echo "not ok $count - $name"
		{ echo "failed: $*"; tail -40 "$work/output"; } | sed 's/^/# /'
	fi
}

skip() {	# skip NAME WHY
	count=$((count + 1))
	echo "ok $count - $1 # SKIP $2"
}

finish() {	# the plan, and the exit code
	echo "1..$count"
	[ "$failed" = 0 ]
}

exits() {	# exits CODE COMMAND...; what it printed is in $work/out
	local want=$1 code
	shift
	"$@" >"$work/out" 2>&1
	code=$?
	[ "$code" = "$want" ] || { echo "exit $code, not $want:"; cat "$work/out"; return 1; }
}

refuses() {	# refuses CODE TEXT COMMAND...: that exit code, and one line with TEXT in it
	local want=$1 text=$2
	shift 2
	exits "$want" "$@" || return 1
	[ "$(wc -l <"$work/out")" = 1 ] && grep -qF -- "$text" "$work/out" || { cat "$work/out"; return 1; }
}

fails() {	# fails PATTERN COMMAND...: somehow, and says something like PATTERN; for programs that are not ours
	local pattern=$1
	shift
	! "$@" >"$work/out" 2>&1 || { echo "succeeded: $*"; return 1; }
	cat "$work/out"
	grep -q -i -- "$pattern" "$work/out"
}

is() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }

json() {	# json FILTER COMMAND...: what jq -r makes of its output
	local filter=$1
	shift
	"$@" --json | jq -r "$filter"
}

unchanged() {	# unchanged FILE COMMAND...: the command, and the file is the same after it
	local file=$1 before
	shift
	before=$(sha256sum <"$file")
	"$@" || return 1
	[ "$before" = "$(sha256sum <"$file")" ] || { echo "$file has changed"; return 1; }
}

eventually() {	# eventually COMMAND...: what it looks at comes without an answer to us
	for _ in {1..200}; do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	"$@"
}

# Disks.

open_target() {	# open_target N TYPE:PATH [OPTION...]: in a tapdisk; sets pid[N], minor[N], disk[N] (options), socket[N] and uri[N]
	local n=$1 marker
	shift
	marker=$(tap-ctl create -a "$@") || return 1
	minor[n]=${marker##*-}
	pid[n]=$(tap-ctl list -m "${minor[n]}" --json | jq .tapdisks[0].pid)
	disk[n]="-p ${pid[n]} -m ${minor[n]}"
	socket[n]=$TAPSNAP_RUN_DIR/nbd${pid[n]}.${minor[n]}
	uri[n]="nbd+unix:///?socket=${socket[n]}"
}

end_disks() {	# as they should
	local options
	tap-ctl list | sed -n 's/^pid=\([0-9]*\) minor=\([0-9]*\).*/-p \1 -m \2/p' | while read -r options; do
		tap-ctl destroy $options -f || exit 1
	done
}

# Until a process and all its threads have ended, so that it has no socket and no lock. An empty /proc/PID/fd is not
# enough: it is so before the files are closed. A zombie will do: not every machine has somebody who collects them.
wait_gone() {	# wait_gone PID
	# shellcheck disable=SC2016 # that shell's $0
	timeout 10 sh -c 'while [ "$(ls "/proc/$0/task" 2>/dev/null | wc -l)" -gt 1 ] ||
		grep -q "^State:.[^ZX]" "/proc/$0/status" 2>/dev/null; do :; done' "$1"
}

# Until a process that this shell has started is the program that it is to become, or has ended: before that a signal would
# meet this shell's own traps.
has_begun() {	# has_begun PID PROGRAM
	local name=bash
	while [ "$name" ] && [ "$name" != "$2" ]; do
		name=$(cat "/proc/$1/comm" 2>/dev/null)
	done
}

kill_tapdisk() {	# kill_tapdisk PID: what the kernel ends for it has ended
	kill -9 "$1" && wait_gone "$1"
}

tapdisks() {	# the processes, with or without a disk
	tap-ctl list 2>/dev/null | sed -n 's/^pid=\([0-9]*\).*/\1/p' | sort -u
}
