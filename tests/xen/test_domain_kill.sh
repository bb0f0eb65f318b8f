# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: -
# Needs: tap
# Limit: 900 s
# The command is killed at its steps (all of them in the long tests), and a
# tapdisk hangs: the guest goes on by itself, what is listed can be gone back
# to, nothing else is left.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID"
instant_start a

disk_snapshots() { # VDEV
	tap-ctl snapshot-list -p "$(tapdisk_pid a "$1")" -m "$(tapdisk_minor a "$1")" --json | jq -r '[.snapshots[].name] | join(" ")'
}

# The guard ends what was begun; the lock is free and the intent gone then.
settled() { ! compgen -G "$TAPSNAP_SNAPSHOT_DIR/*/intent.xl" >/dev/null; }

# kill_at STEP COMMAND...: the command is dead, and its guard has done what there was to do
kill_at() {
	local at=$1
	shift
	XL_SNAPSHOT_KILL_AT=$at xl-snapshot "$@" >/dev/null 2>"$WORK/snap.err" && fail "$1 was not killed at $at: $(cat "$WORK/snap.err")"
	wait_until 60 "the guard has ended what was begun" settled
}

must_be() { # LIST FILES
	must_equal "the list" "$1" "$(snap list --json "$name" | jq -r '[.snapshots[].name] | join(" ")')"
	must_equal "snapshots of xvda" "$1" "$(disk_snapshots xvda)"
	must_equal "snapshots of xvdb" "$1" "$(disk_snapshots xvdb)"
	must_equal "number of files" "$2" "$(find "$TAPSNAP_SNAPSHOT_DIR" -name '*.save*' -o -name 'snapshotdata*' | wc -l)"
}

steps="suspended disks"
[ -z "$SOAK" ] || steps="intent suspended disks resumed saved"
for at in $steps; do
	step "create killed at $at: it was not"
	kill_at "$at" create -n k "$name"
	must_be "" 0
	instant_check a
done

step "create killed in the middle of the memory"
xl-snapshot create -n k "$name" >/dev/null 2>&1 &
wait_until 30 "memory is being written" eval "[ -s $TAPSNAP_SNAPSHOT_DIR/*/k.save.part ]"
kill -9 $!
wait_until 60 "the guard has ended what was begun" settled
must_be "" 0
instant_check a

step "interrupted in the middle of the memory"
xl-snapshot create -n k "$name" >"$WORK/snap.err" 2>&1 &
wait_until 30 "memory is being written" eval "[ -s $TAPSNAP_SNAPSHOT_DIR/*/k.save.part ]"
kill -TERM $!
wait $! && fail "it was done all the same"
echo "# $(cat "$WORK/snap.err")"
must_be "" 0
instant_check a

step "create killed when it is whole: it was"
kill_at whole create -n k "$name"
must_be k 2
instant_check a

steps=reverted
[ -z "$SOAK" ] || steps="stopped reverted started"
for at in $steps; do
	step "revert killed at $at: it is finished"
	kill_at "$at" revert -n k "$name"
	guest_find a
	must_be k 2
	instant_check a
done

step "delete killed: it is finished by the next command"
XL_SNAPSHOT_KILL_AT=unlisted xl-snapshot delete -n k "$name" >/dev/null 2>&1
must_be "" 0

step "no room for the memory: said before it is begun"
mkdir "$WORK/small"
must mount -t tmpfs -o size=8M small "$WORK/small"
TAPSNAP_SNAPSHOT_DIR=$WORK/small/s must_fail xl-snapshot create -n k "$name"
must umount "$WORK/small"
instant_check a

# libxl gives the guest a minute
[ -n "$SOAK" ] || { guest_destroy a; exit 0; }
step "a tapdisk hangs when its disk is to be frozen: the guest goes on"
cat >"$WORK/hook" <<-END
	#!/bin/sh
	# a hook is run when all has been looked at, and again when the guest goes on
	[ "\$1" = freeze ] && exec kill -STOP $(tapdisk_pid a xvdb)
	exec kill -CONT $(tapdisk_pid a xvdb)
END
chmod +x "$WORK/hook"
must_fail xl-snapshot create -n k --hook "$WORK/hook" "$name"
# a guest with I/O under way, which has no end now, may not even suspend
[[ $REFUSAL == *"snapshot of the disks failed"* || $REFUSAL == *"did not suspend"* ]] || fail "the step is not named"
must_be "" 0
instant_check a
guest_destroy a
