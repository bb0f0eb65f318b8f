# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# domain.sh - shared by the tests of domain snapshots, in addition to lib.sh: stores,
# and the guest program that compares its memory with two disks (guest/instant.c).

export TAPSNAP_SNAPSHOT_DIR=$WORK/snapshots
DOMAIN_UUID="uuid=\"$(cat /proc/sys/kernel/random/uuid)\""

# An xl-snapshot for tests: after the step $XL_SNAPSHOT_KILL_AT it kills itself, or signals another process (unit/point_steps.c).
# The installed one does not.
POINTS=/payload/points/xl-snapshot

# Run xl-snapshot; show its stderr, without which progress would fill the log, only if it fails.
snap() {
	local words=$WORK/snap.$BASHPID.err
	xl-snapshot "$@" 2>"$words" || { cat "$words" >&2; return 1; }
	rm "$words"
}

# store_line VDEV NAME [SIZE]: make the store, print the disk's line of a config
store_line() {
	[ -e "$WORK/$2.cow" ] || must tap-img create "$WORK/$2.cow" "${3:-64M}" >/dev/null
	echo "backendtype=tap,format=raw,script=block-tapsnap,vdev=$1,target=cow:$WORK/$2.cow"
}

instant_start() { # GUEST
	guest_must "$1" "instant run /dev/xvda /dev/xvdb >/tmp/instant 2>&1 & echo \$! >/tmp/instant.pid"
}

# Have the guest program compare its memory with the disks now; GAP is the longest gap since the last call, in ms,
# ACKNOWLEDGED the last number that both disks have acknowledged.
instant_check() { # GUEST
	local said
	said=$(guest_must "$1" "n=\$(grep -c ok /tmp/instant); kill -USR1 \$(cat /tmp/instant.pid); \
until grep -q wrong /tmp/instant || [ \$(grep -c ok /tmp/instant) -gt \$n ]; do usleep 100000; done; tail -1 /tmp/instant")
	[[ $said =~ 'instant ok '([0-9]+)' gap '([0-9]+) ]] || fail "$said"
	ACKNOWLEDGED=${BASH_REMATCH[1]}
	GAP=${BASH_REMATCH[2]}
	echo "# writes: $ACKNOWLEDGED, longest gap: $GAP ms"
}

# Check that a snapshot of the disks alone is of one instant, and holds at least what was acknowledged before it was asked for.
instant_order() { # SNAPSHOT ACKNOWLEDGED
	local disk
	for disk in a b; do
		copy_snapshot "$WORK/$disk.cow" "$1" "$WORK/$disk.raw"
	done
	must /payload/instant order "$WORK/a.raw" "$WORK/b.raw" "$2"
	rm "$WORK"/[ab].raw
}

# The guest's marks (guest/init), memory's first, must be MARKS.
must_hold() { # GUEST MARKS DEVICE...
	must_equal "memory and ${*:3} of $1" "$2" "$(guest_must "$1" "marks ${*:3}" | tr -d '\r\n')"
}

must_be_paused() { # GUEST; unpauses it
	local state
	state=$(xl list "$(guest_name "$1")" | awk 'END {print $5}')
	[[ $state == ??p??? ]] || fail "$1 is not paused: $state"
	must xl unpause "$(guest_name "$1")"
}

# Put the console's log aside before a restart, to wait for a new boot message. Not for a guest that keeps running.
console_keep() { # GUEST
	mv "$LOGS/guest-$(guest_name "$1").log" "$LOGS/guest-$(guest_name "$1").before.log"
}

must_be_gone() { # GUEST
	! guest_exists "$1" >/dev/null 2>&1 || fail "$1 is still there"
}

listed() { snap list --json "$(guest_name a)" | jq -r '[.snapshots[].name] | join(" ")'; }

# must_list SNAPSHOT...: the snapshots of guest a, oldest first
must_list() {
	must_say "the list" "$*" listed
}

# info_of SNAPSHOT FILTER: information on a snapshot of guest a
info_of() { must snap show --json -n "$1" "$(guest_name a)" | jq -r ".snapshots[0] | $2"; }

back_to() { # SNAPSHOT [OPTION...]: guest a
	must snap revert -n "$1" "${@:2}" "$(guest_name a)"
	guest_find a
}

instant_moves() { guest_must "$1" "io_moves xvdb"; }

# snapshot_files FIND-TEST...: none before the first snapshot
snapshot_files() { [ ! -e "$TAPSNAP_SNAPSHOT_DIR" ] || find "$TAPSNAP_SNAPSHOT_DIR" "$@"; }
count_files() { snapshot_files -type f ! -name lock ! -name domain.xl | wc -l; }

disk_snapshots() { # VDEV, of guest a
	tap-ctl snapshot-list -p "$(tapdisk_pid a "$1")" -m "$(tapdisk_minor a "$1")" --json | jq -r '[.snapshots[].name] | join(" ")'
}

# instant_round NUMBER plain|live [OPTION...]: snapshot guest a as sNUMBER, with memory, while it writes; then revert
instant_round() {
	local number=$1 kind=$2 name
	shift 2
	name=$(guest_name a)
	[ "$kind" = plain ] || set -- "$@" --live
	echo "# $(snap create -n "s$number" "$@" "$name") [$SECONDS s]"
	instant_check a
	guest_must a ": >/tmp/since"
	must snap revert -n "s$number" "$name"
	guest_find a
	guest_must a "[ ! -e /tmp/since ]"	# it is in memory
	instant_check a
}

live_is_refused() { # for PV guests, which cannot be saved live: before anything is done
	[ "$GUEST_TYPE" = pv ] || return 0
	must_fail snap create -n live --live "$(guest_name a)"
	[[ $REFUSAL == *"shadow paging"* ]] || fail "it does not say why: $REFUSAL"
	must_say "files of it" "" snapshot_files -name '*live*' -o -name intent.xl
	instant_check a
}

# delete_all VDEV...: delete guest a's snapshots, s1 and its children; no file and no snapshot of these disks is left
delete_all() {
	local disk
	must snap delete --children -n s1 "$(guest_name a)"
	must_say "files" "" snapshot_files -type f
	for disk; do
		must_say "snapshots of $disk" "" disk_snapshots "$disk"
	done
	instant_check a
}

# must_be LIST: guest a and its two disks have exactly these snapshots, with memory, and there is no other file
must_be() {
	local words
	read -ra words <<<"$1"
	must_say "the list" "$1" listed
	must_say "snapshots of xvda" "$1" disk_snapshots xvda
	must_say "snapshots of xvdb" "$1" disk_snapshots xvdb
	must_say "number of files" $((2 * ${#words[@]})) count_files
}

# copy_snapshot STORE NAME FILE: read the snapshot while the disk is in use
copy_snapshot() {
	local marker minor pid
	marker=$(must tap-ctl create -R -a "cow:$1@$2")
	minor=${marker##*tapdisk-}
	pid=$(tap-ctl list -m "$minor" | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
	must nbdcopy "nbd+unix:///?socket=/run/blktap-control/nbd$pid.$minor" "$3"
	must tap-ctl destroy -p "$pid" -m "$minor"
}
