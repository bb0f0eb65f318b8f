#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tapback.sh - tapback as a program, on an empty xenstore: its start as a
# daemon, its pid file, and the queues that it offers. (The unit tests test_tapback_* and tests/xen/ test
# its work on disks.)
#
# Output is TAP. BUILD says where the programs are. Needs: python3
. "$(dirname "$0")/lib.sh"
export XENSTORED_PATH=$work/xenstored

# Start tapback in DIRECTORY; it is a daemon when this returns.
daemon_in() {	# daemon_in DIRECTORY OPTION...
	local directory=$1
	shift
	mkdir -p "$directory" && (cd "$directory" && tapback "$@")
}

# The process that a pid file names is tapback, and removes the file when it ends.
ends() {	# ends PIDFILE
	local pid
	pid=$(cat "$1") || return 1
	tr '\0' '\n' <"/proc/$pid/cmdline" | grep -q '/tapback$\|^tapback$' || return 1
	kill "$pid" && wait_gone "$pid" || return 1
	[ ! -e "$1" ] || { echo "$1 is left"; return 1; }
}

python3 "$here/tests/system/xenstored.py" "$XENSTORED_PATH" &
check "a xenstore" eventually test -S "$XENSTORED_PATH"

check "a daemon's pid file is where it was said, by an absolute path" daemon_in "$work" --pidfile "$work/absolute.pid"
check "and goes with it" ends "$work/absolute.pid"
check "by a path from where it was started" daemon_in "$work/directory" --pidfile relative.pid
check "and goes with it" ends "$work/directory/relative.pid"
check "a path that is too long is refused" refuses 1 "File name too long" tapback --pidfile "$(printf '%05000d' 0)"

offers() {	# offers QUEUES OPTION...: to a new disk
	local queues=$1 store status nodes=$work/nodes
	shift
	rm -f "$work/disk"
	python3 "$here/tests/system/xenstored.py" "$work/disk" disk >"$nodes" &
	store=$!
	eventually test -S "$work/disk" &&
		XENSTORED_PATH=$work/disk tapback --pidfile "$work/queues.pid" "$@" &&
		eventually grep -qx "backend/vbd3/1/51712/state 2" "$nodes" &&
		grep -x "backend/vbd3/1/51712/multi-queue-max-queues $queues" "$nodes" && ends "$work/queues.pid"
	status=$?
	kill $store
	cat "$nodes"
	return $status
}

processors=$(getconf _NPROCESSORS_ONLN)
check "as many queues as processors, at most 4" offers $((processors < 4 ? processors : 4))
check "as many queues as it was told" offers 3 --queues 3
check "16" offers 16 -q 16
for number in 0 17 -1 x ""; do
	check "not $number queues" refuses 1 "a number of 1 to 16" tapback --queues "$number"
done

finish
