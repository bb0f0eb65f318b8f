# SPDX-License-Identifier: LGPL-2.1-or-later
#
# lib.sh - shared by the tests of the programs: checks in TAP, a temporary
# directory, which becomes the current one, and tapdisks with a run directory in
# it. The end of a test, normal or not, removes all of them. Sourced; $0 is the
# test. BUILD says where the programs are (default: build).
#
# Invariant: neither this file nor a test touches a file outside $work or a
# process that is not listed in $TAPSNAP_RUN_DIR, so tests can run in parallel.

set -u
here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${BUILD:-$here/build}" && pwd)
PATH=$build/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C		# independent of the machine's locale
engine_so=$build/lib/fio-blkfront.so

work=$(mktemp -d "/var/tmp/$(basename "$0" .sh).XXXXXX") || exit 1
export TAPSNAP_RUN_DIR=$work/run TAPSNAP_STATE_DIR=$work/state
mkdir -m 700 "$TAPSNAP_RUN_DIR"
cd "$work" || exit 1
count=0 failed=0
loops=()	# loop devices to detach at the end
pid=() minor=() disk=() socket=() uri=()	# of disk N, set by open_target

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

# Checks. A check's command runs in this shell; its output is shown if it fails.

check() {	# check NAME COMMAND...: the command must succeed
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

finish() {	# print the plan and set the exit code
	echo "1..$count"
	[ "$failed" = 0 ]
}

exits() {	# exits CODE COMMAND...; the output is in $work/out
	local want=$1 code
	shift
	"$@" >"$work/out" 2>&1
	code=$?
	[ "$code" = "$want" ] || { echo "exit $code, not $want:"; cat "$work/out"; return 1; }
}

refuses() {	# refuses CODE TEXT COMMAND...: exit code CODE, and one line that contains TEXT
	local want=$1 text=$2
	shift 2
	exits "$want" "$@" || return 1
	[ "$(wc -l <"$work/out")" = 1 ] && grep -qF -- "$text" "$work/out" || { cat "$work/out"; return 1; }
}

fails() {	# fails PATTERN COMMAND...: any failure, with output that matches PATTERN; for other projects' programs
	local pattern=$1
	shift
	! "$@" >"$work/out" 2>&1 || { echo "succeeded: $*"; return 1; }
	cat "$work/out"
	grep -q -i -- "$pattern" "$work/out"
}

is() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }

says() {	# says EXPECTED COMMAND...: the command must succeed and print just that; one that fails prints nothing, too
	local expected=$1 said
	shift
	said=$("$@") || { echo "status $?: $*"; return 1; }
	is "$said" "$expected"
}

json() {	# json FILTER COMMAND...: the command's JSON output through jq -r FILTER
	local filter=$1
	shift
	"$@" --json | jq -r "$filter"
}

unchanged() {	# unchanged FILE COMMAND...: the command must succeed and leave the file as it was
	local file=$1 before
	shift
	before=$(sha256sum <"$file")
	"$@" || return 1
	[ "$before" = "$(sha256sum <"$file")" ] || { echo "$file has changed"; return 1; }
}

eventually() {	# eventually COMMAND...: poll until the command succeeds, at most 10 s
	for _ in {1..200}; do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	"$@"
}

# Disks.

open_target() {	# open_target N TYPE:PATH [OPTION...]: sets pid[N], minor[N], disk[N] (options), socket[N], uri[N]
	local n=$1 marker
	shift
	marker=$(tap-ctl create -a "$@") || return 1
	minor[n]=${marker##*-}
	pid[n]=$(tap-ctl list -m "${minor[n]}" --json | jq .tapdisks[0].pid)
	disk[n]="-p ${pid[n]} -m ${minor[n]}"
	socket[n]=$TAPSNAP_RUN_DIR/nbd${pid[n]}.${minor[n]}
	uri[n]="nbd+unix:///?socket=${socket[n]}"
}

end_disks() {	# destroy all disks properly
	local options
	tap-ctl list | sed -n 's/^pid=\([0-9]*\) minor=\([0-9]*\).*/-p \1 -m \2/p' | while read -r options; do
		tap-ctl destroy $options -f || exit 1
	done
}

# Wait until a process and all its threads have ended, so that it has no socket and no lock. An empty /proc/PID/fd is
# not enough: it is empty before the files are closed. A zombie is accepted: not every machine has an init that reaps.
wait_gone() {	# wait_gone PID
	# shellcheck disable=SC2016 # that shell's $0
	timeout 10 sh -c 'while [ "$(ls "/proc/$0/task" 2>/dev/null | wc -l)" -gt 1 ] ||
		grep -q "^State:.[^ZX]" "/proc/$0/status" 2>/dev/null; do :; done' "$1"
}

# Wait until a process that this shell has started has executed PROGRAM, or has ended: before that a signal would run
# this shell's own traps.
has_begun() {	# has_begun PID PROGRAM
	local name=bash
	while [ "$name" ] && [ "$name" != "$2" ]; do
		name=$(cat "/proc/$1/comm" 2>/dev/null)
	done
}

kill_tapdisk() {	# kill_tapdisk PID: kill it and wait until the kernel has released its resources
	kill -9 "$1" && wait_gone "$1"
}

# Pauses of random length before something is killed. The output of a check has the seed: TAPSNAP_SEED=N repeats them.
seed_pauses() {
	local seed=${TAPSNAP_SEED:-$RANDOM}
	RANDOM=$seed
	echo "TAPSNAP_SEED=$seed"
}
pause_up_to() {	# pause_up_to MILLISECONDS
	local ms=$((RANDOM % ($1 + 1)))
	[ $ms = 0 ] || sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
}

killed() {	# killed PID: kill this shell's child; true if that is what it died of
	kill -9 "$1" 2>/dev/null
	wait "$1" 2>/dev/null
	[ $? = 137 ]
}

tapdisks() {	# print the tapdisks' pids, with or without a disk
	tap-ctl list 2>/dev/null | sed -n 's/^pid=\([0-9]*\).*/\1/p' | sort -u
}
