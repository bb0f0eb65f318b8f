# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# Limit: 900 s
# The command is killed at its steps (all of them in the long tests): the guest
# still runs without help, all listed snapshots can be restored, nothing else is left.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID"
instant_start a

# The guard has finished the operation: the lock is free and the intent is gone.
settled() { ! compgen -G "$TAPSNAP_SNAPSHOT_DIR/*/intent.xl" >/dev/null; }

# kill_at STEP COMMAND...: run and kill the command, and wait until its guard has finished
kill_at() {
	local at=$1
	shift
	XL_SNAPSHOT_KILL_AT=$at "$POINTS" "$@" >/dev/null 2>"$WORK/snap.err" && fail "$1 was not killed at $at: $(cat "$WORK/snap.err")"
	wait_until 60 "the guard has ended what was begun" settled
}

steps="suspended resumed"
[ -z "$SOAK" ] || steps="intent suspended resumed disks saved"
for at in $steps; do
	step "create killed at $at: it was not"
	kill_at "$at" create -n k "$name"
	must_be ""
	instant_check a
done

step "create killed in the middle of the memory"
xl-snapshot create -n k "$name" >/dev/null 2>&1 &
wait_until 30 "memory is being written" eval "[ -s $TAPSNAP_SNAPSHOT_DIR/*/k.save.part ]"
kill -9 $!
wait_until 60 "the guard has ended what was begun" settled
must_be ""
instant_check a

step "interrupted in the middle of the memory"
xl-snapshot create -n k "$name" >"$WORK/snap.err" 2>&1 &
wait_until 30 "memory is being written" eval "[ -s $TAPSNAP_SNAPSHOT_DIR/*/k.save.part ]"
kill -TERM $!
wait $! && fail "it was done all the same"
echo "# $(cat "$WORK/snap.err")"
must_be ""
instant_check a

step "create killed when it was complete: it exists"
kill_at whole create -n k "$name"
must_be k
instant_check a

steps=reverted
[ -z "$SOAK" ] || steps="stopped reverted started"
for at in $steps; do
	step "revert killed at $at: it is finished"
	kill_at "$at" revert -n k "$name"
	guest_find a
	must_be k
	instant_check a
done

step "delete killed: it is finished by the next command"
XL_SNAPSHOT_KILL_AT=unlisted "$POINTS" delete -n k "$name" >/dev/null 2>&1 && fail "it was not killed"
must_be ""

guest_destroy a
