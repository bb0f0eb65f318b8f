# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# Limit: 900 s
# The command is killed at its steps (all of them in the long tests): the guest
# goes on without help, all listed snapshots can be restored, nothing else is left.
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
[ -z "$SOAK" ] || steps="intent suspended frozen prepared resumed decided committed disks saved"
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

# Linux acknowledges at once, and suspends when its tasks are frozen: not before their I/O is done.
step "create killed while the guest is about to suspend: it runs on"
instant_moves a
node=/local/domain/$(guest_domid a)/control/shutdown
xenstore-watch "$node" >"$WORK/asked" &
watcher=$!
wait_until 10 "the watch is set" [ -s "$WORK/asked" ]
disk=$(tapdisk_pid a xvdb)
# after the checks, which ask it
XL_SNAPSHOT_KILL_AT=intent XL_SNAPSHOT_SIGNAL=19 XL_SNAPSHOT_KILL=$disk "$POINTS" create -n k "$name" >/dev/null 2>"$WORK/snap.err" &
# the watch itself, the request, the acknowledgement
wait_until 60 "the guest has acknowledged" eval '[ "$(grep -c . "$WORK/asked")" -ge 3 ]'
kill -9 $!
kill $watcher
snooze 10
must_say "the request" "" xenstore-read "$node"
kill -CONT "$disk"
wait_until 60 "the guard has ended what was begun" settled
must_be ""
instant_moves a
instant_check a

step "interrupted in the middle of the memory"
xl-snapshot create -n k "$name" >"$WORK/snap.err" 2>&1 &
wait_until 30 "memory is being written" eval "[ -s $TAPSNAP_SNAPSHOT_DIR/*/k.save.part ]"
kill -TERM $!
wait $! && fail "it was done all the same"
echo "# $(cat "$WORK/snap.err")"
must_be ""
instant_check a

step "create killed when it is whole: it was"
kill_at whole create -n k "$name"
must_be k
instant_check a

steps=reverted
[ -z "$SOAK" ] || steps="destroying stopped prepared decided committed reverted started"
for at in $steps; do
	step "revert killed at $at: it is finished"
	kill_at "$at" revert -n k "$name"
	guest_find a
	must_be k
	instant_check a
done

is_paused() { [[ $(xl list "$name" 2>/dev/null | awk 'END {print $5}') == *p* ]]; }

# libxl pauses the domain first, then waits for the backends of its disks
step "revert killed in the middle of the domain's destruction: it is finished"
kill -STOP "$(tapback_pid)"
xl-snapshot revert -n k "$name" >/dev/null 2>"$WORK/snap.err" &
wait_until 30 "the domain is paused" is_paused
kill -9 $!
kill -CONT "$(tapback_pid)"
wait_until 60 "the guard has ended what was begun" settled
guest_find a
must_be k
instant_check a

step "revert killed with its xl: the domain is started again"
xl-snapshot revert -n k "$name" >/dev/null 2>"$WORK/snap.err" &
tool=$!
is_being_built() { local id; id=$(guest_exists a 2>/dev/null) && [ "$id" != "$(guest_domid a)" ] && is_paused; }
wait_until 60 "the domain is being restored" is_being_built
kill -9 $tool $(pgrep -f "^xl restore")
wait_until 120 "the guard has ended what was begun" settled
guest_find a
must_be k
instant_check a

step "delete killed: it is finished by the next command"
XL_SNAPSHOT_KILL_AT=unlisted "$POINTS" delete -n k "$name" >/dev/null 2>&1 && fail "it was not killed"
must_be ""

guest_destroy a
