# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# lib.sh - shared by the tests in dom0: guests, their consoles, disks, waits.
#
# A test is a script that sources this file, announces each step with step(),
# and ends by success or by fail(). The runner gives it
#   TEST_NAME    prefix for the names of its guests
#   GUEST_TYPE   pv, pvh or hvm
#   WORK         an empty directory for images
#   BACKEND      tap, or qdisk to check the test itself
#   SOAK         not empty: there is time for many rounds
#
# Nothing here waits for a fixed time: wait_until() polls a condition and fails
# the test at its deadline. The guests' init (guest/init) runs lines that are
# typed on their console, and prints @@TOKEN STATUS@@ after each.

#
# Starting a process is expensive inside the emulation: polling loops use shell
# builtins where they can.

set -uo pipefail
: "${TEST_NAME:=adhoc}" "${GUEST_TYPE:=pv}" "${BACKEND:=tap}" "${WORK:=/payload/images/adhoc}" "${SOAK:=}"
LOGS=/var/log/xen
declare -A DOMID TTY	# of running guests, see guest_find()
exec {NEVER}<> <(:)	# a pipe without data, to read with a timeout

# ---- results ----

step() { echo "# step: $* [$SECONDS s]"; }

# On stderr, so that it is visible from inside a redirection or a $(...) too.
fail() {
	local i
	{
		echo "# FAILED: $*"
		for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
			echo "#    at ${BASH_SOURCE[$i]##*/}:${BASH_LINENO[$((i - 1))]} ${FUNCNAME[$i]}"
		done
		disks_now
	} >&2
	exit 1
}

# Print each tapdisk's report on its disks, to help find the cause of a failure.
disks_now() {
	local line
	[ "$BACKEND" = tap ] || return 0
	timeout 10 tap-ctl list | while read -r line; do
		echo "# $line"
		[[ $line =~ pid=([0-9]+)\ minor=([0-9]+) ]] || continue
		timeout 10 tap-ctl stats -p "${BASH_REMATCH[1]}" -m "${BASH_REMATCH[2]}" | sed 's/^/#   /'
	done
}

# must COMMAND...: the command must succeed; its output is shown if it does not
must() {
	local output status
	output=$("$@" 2>&1)
	status=$?
	[ $status = 0 ] || fail "'$*' ended with $status: $output"
	[ -z "$output" ] || echo "$output"
}

# must_fail COMMAND...: the command must fail and print the reason, which is left in REFUSAL
must_fail() {
	REFUSAL=$("$@" 2>&1) && fail "'$*' should have been refused, and was not"
	[ -n "$REFUSAL" ] || fail "'$*' was refused without a word"
	echo "# refused: $(tail -1 <<<"$REFUSAL")"
}

must_equal() { # WHAT EXPECTED ACTUAL
	[ "$2" = "$3" ] || fail "$1 is '$3', expected '$2'"
}

# must_say WHAT EXPECTED COMMAND...: the query must succeed and print just that; one that fails prints nothing, too
must_say() {
	local what=$1 expected=$2 said
	shift 2
	said=$("$@") || fail "$what: '$*' ended with $?"
	must_equal "$what" "$expected" "$said"
}

snooze() { read -rt "$1" -u "$NEVER" _ || :; }

# wait_until SECONDS WHAT COMMAND...: poll until COMMAND succeeds
wait_until() {
	local limit=$1 what=$2 start=$SECONDS
	shift 2
	until "$@" >/dev/null 2>&1; do
		((SECONDS - start < limit)) || fail "not in $limit s: $what"
		snooze 0.2
	done
}

# ---- images and disk lines ----

image_make() { # NAME SIZE: prints the path
	truncate -s "$2" "$WORK/$1" || fail "no image $1"
	echo "$WORK/$1"
}

# A snapshot of a mounted filesystem is like the disk after a power cut: replaying the journal makes it consistent.
filesystem_must_be_whole() { # IMAGE FILE CONTENT
	e2fsck -fy "$1" >"$WORK/fsck" 2>&1
	[ $? -le 1 ] || fail "e2fsck: $(cat "$WORK/fsck")"
	must e2fsck -fn "$1" >"$WORK/fsck"
	must_equal "$2" "$3" "$(debugfs -R "cat $2" "$1" 2>/dev/null)"
}

# disk_line VDEV TARGET [KEY=VALUE,...]: one disk of an xl config, as an administrator writes it
disk_line() {
	echo "backendtype=$BACKEND,format=raw,vdev=$1,${3:+$3,}target=$2"
}

# The number of a xvd* name, as in xenstore.
device_id() {
	local letter=${1#xvd}
	echo $((202 * 256 + 16 * ($(printf '%d' "'$letter") - 97)))
}

# ---- guests ----

guest_name() { echo "$TEST_NAME-$1"; }

# guest_config NAME [XL-CONFIG-LINE...]: later lines win; prints the file's name
guest_config() {
	local name file
	name=$(guest_name "$1")
	file=$WORK/$name.cfg
	shift
	cat >"$file" <<-END
		name="$name"
		type="$GUEST_TYPE"
		memory=256
		vcpus=1
		tsc_mode="native"
		kernel="/guest/vmlinux"
		ramdisk="/tmp/guest-initrd"
		extra="console=hvc0 quiet mitigations=off"
		on_poweroff="destroy"
		on_reboot="destroy"
		on_crash="destroy"
	END
	[ "$GUEST_TYPE" != hvm ] || printf '%s\n' 'kernel="/guest/vmlinuz"' 'vga="none"' 'serial="none"' 'usb=0' >>"$file"
	printf '%s\n' "$@" >>"$file"
	echo "$file"
}

# guest_create NAME DISK-LINE... [-- XL-CONFIG-LINE...]
guest_create() {
	local guest=$1 disks=() line
	shift
	while [ $# -gt 0 ] && [ "$1" != -- ]; do
		disks+=("'$1'")
		shift
	done
	[ $# -eq 0 ] || shift
	line="disk=[$(IFS=,; echo "${disks[*]}")]"
	step "xl create $guest ($GUEST_TYPE) $line"
	must xl create -q "$(guest_config "$guest" "$line" "$@")"
	guest_wait_ready "$guest"
}

guest_wait_ready() {
	guest_find "$1"
	wait_until 90 "$1 is up" console_has "$1" '@@ready@@'
}

# Find the domain's number and console, which are new after each restore.
guest_find() {
	DOMID[$1]=$(xl domid "$(guest_name "$1")") || fail "no domain $(guest_name "$1")"
	TTY[$1]=$(xenstore-read "/local/domain/${DOMID[$1]}/console/tty") || fail "$1 has no console"
}

guest_domid() { echo "${DOMID[$1]}"; }
guest_exists() { xl domid "$(guest_name "$1")"; }

guest_destroy() {
	must xl destroy "$(guest_name "$1")"
	wait_until 20 "$1 is gone" eval "! guest_exists $1"
}

guest_save() { # GUEST FILE
	must xl save "$(guest_name "$1")" "$2" >>"$WORK/xl.log"
	wait_until 20 "the saved domain is gone" eval "! guest_exists $1"
}

guest_restore() { # GUEST FILE
	must xl restore "$2" >>"$WORK/xl.log"
	guest_find "$1"
}

# Localhost migration, without ssh.
guest_migrate() {
	must xl migrate -s "" "$(guest_name "$1")" "xl migrate-receive" >>"$WORK/xl.log"
	guest_find "$1"
}

# Read everything the guest has printed into CONSOLE, in this process: it is
# called again and again, and a $(...) would take processor time from the guest.
# A migrated guest continues the log of the name it arrived under.
console_read() { # GUEST
	local file part
	CONSOLE=
	for file in "$LOGS/guest-$TEST_NAME-$1.log" "$LOGS/guest-$TEST_NAME-$1--incoming.log"; do
		[ -e "$file" ] || continue
		while IFS= read -rd '' part || [ -n "$part" ]; do
			CONSOLE+=$part
		done <"$file"
		CONSOLE+=$'\n'
	done
}

console_text() { # GUEST
	console_read "$1"
	printf '%s' "${CONSOLE//$'\r'/}"
}

console_has() { # GUEST REGEX
	console_read "$1"
	[[ $CONSOLE =~ $2 ]]
}

# Type one line on the guest's console.
guest_type() { # GUEST LINE
	printf '%s\n' "$2" >"${TTY[$1]}" || fail "nobody reads the console of $1"
}

# guest_run GUEST [-t SECONDS] COMMAND: run it in the guest; prints its output, returns its status
guest_run() {
	local guest=$1 limit=240 token=${EPOCHREALTIME/./}$RANDOM text
	shift
	[ "$1" != -t ] || { limit=$2; shift 2; }
	guest_type "$guest" "echo @@$token begin@@; ($1); echo @@$token \$?@@"
	wait_until "$limit" "$guest ran '$1'" console_has "$guest" "@@$token [0-9]+@@|Kernel panic"
	text=$(console_text "$guest")
	[[ $text =~ "@@$token "([0-9]+)@@ ]] || fail "$guest crashed: $(tail -40 <<<"$text")"
	text=${text#*@@"$token" begin@@$'\n'}
	printf '%s' "${text%%@@"$token" [0-9]*}"
	return "${BASH_REMATCH[1]}"
}

# guest_must GUEST [-t SECONDS] COMMAND: the same, but it must succeed
guest_must() {
	local output status
	output=$(guest_run "$@")
	status=$?
	[ $status = 0 ] || fail "in guest $1: '${*: -1}' ended with $status: $output
$(console_text "$1" | tail -15)"
	[ -z "$output" ] || echo "$output"
}

# Verified random writes in the guest until load_stop; load_stop fails the test if a byte was wrong.
load_start() { # GUEST DEVICE [FIO-OPTION...]
	guest_must "$1" "load_start ${*:2}"
	guest_must "$1" "io_moves $2"
}

load_moves() { guest_must "$1" "io_moves $2"; }

load_stop() {
	echo "# $(guest_must "$1" -t 300 "load_stop $2")"
}

# ---- the backend ----

# backend_path GUEST VDEV: print the path of the disk's backend nodes
backend_path() {
	xenstore-read "/local/domain/$(guest_domid "$1")/device/vbd/$(device_id "$2")/backend"
}

backend_node() { xenstore-read "$(backend_path "$1" "$2")/$3" 2>/dev/null; }
tapdisk_pid() { backend_node "$1" "$2" pid; }
tapdisk_minor() { backend_node "$1" "$2" minor; }

# Kill the tapdisk without a successor: its takeover record of the disk is
# removed first. Waits for the disk's error node.
tapdisk_end() { # GUEST VDEV
	local pid
	pid=$(tapdisk_pid "$1" "$2")
	must rm "/run/blktap-control/takeover/$(tapdisk_minor "$1" "$2")/disk"
	must kill -9 "$pid"
	wait_until 20 "the error node" backend_node "$1" "$2" error
}

disk_attach() { # GUEST VDEV TARGET [KEY=VALUE,...]
	must xl block-attach "$(guest_domid "$1")" "$(disk_line "${@:2}")"
	guest_must "$1" "appears $2"
}

disk_detach() { # GUEST VDEV
	must xl block-detach "$(guest_domid "$1")" "$2"
	guest_must "$1" "vanishes $2"
}

tapback_pid() { pgrep -x tapback | head -1; }

# In the foreground, because the test acts as the service manager.
tapback_start() { # [OPTION...]
	setsid tapback --foreground "$@" </dev/null >>$LOGS/tapback.log 2>&1 8>&- 9>&- &
	wait_until 20 "tapback runs" tapback_pid
}

tapback_kill() {
	local pid
	pid=$(tapback_pid) || fail "tapback does not run"
	kill -9 "$pid"
	wait_until 10 "tapback is dead" eval "! kill -0 $pid"
}
