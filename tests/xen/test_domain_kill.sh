# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# Limit: 900 s
# The command is killed at its steps (all of them in the long tests: tests/static/check
# compares the list with the code): the guest goes on without help, all listed
# snapshots can be restored, nothing else is left. A clone and a delete are ended by
# the next command; recover does that, too, and with --force without a disk that is gone.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID"
instant_start a

# The guard has finished the operation: the lock is free and the intent is gone.
settled() { ! compgen -G "$TAPSNAP_SNAPSHOT_DIR/*/intent.xl" >/dev/null; }

# cut_at OPERATION:STEP OPTION...: run the command, which is killed at that step
cut_at() {
	XL_SNAPSHOT_KILL_AT=${1#*:} "$POINTS" "${1%:*}" "${@:2}" >/dev/null 2>"$WORK/snap.err"
	[ $? = 137 ] || fail "not killed at $1: $(cat "$WORK/snap.err")"
}

# kill_at OPERATION:STEP OPTION...: the same, and wait until its guard has finished
kill_at() {
	cut_at "$@"
	wait_until 60 "the guard has ended what was begun" settled
}

steps="create:suspended create:resumed"
[ -z "$SOAK" ] || steps="create:intent create:stores create:suspended create:frozen create:prepared create:resumed create:decided \
create:committed create:disks create:saved"
for at in $steps; do
	step "killed at $at: it was not"
	kill_at "$at" -n k "$name"
	must_be ""
	instant_check a
done

if [ -n "$SOAK" ]; then
	step "create killed when a raw disk has moved to its store: it is in its image again"
	must xl block-attach "$(guest_domid a)" \
		"backendtype=tap,format=raw,script=block-tapsnap,vdev=xvdc,target=$(image_make c.img 64M)"
	guest_must a "appears xvdc"
	kill_at create:stores -n k --store "$WORK" "$name"
	must_be ""
	must_say "files beside the image" "$WORK/c.img" find "$WORK" -name 'c.img*'
	instant_check a
	disk_detach a xvdc
fi

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
kill_at create:whole -n k "$name"
must_be k
instant_check a

if [ -n "$SOAK" ]; then
	step "revert killed before the domain's destruction is begun: it was not"
	domid=$(guest_domid a)
	kill_at revert:intent -n k "$name"
	guest_find a
	must_equal "the domain" "$domid" "$(guest_domid a)"
	must_be k
	instant_check a
fi

steps=revert:reverted
[ -z "$SOAK" ] || steps="revert:destroying revert:stopped revert:prepared revert:decided revert:committed revert:reverted revert:started"
for at in $steps; do
	step "killed at $at: it is finished"
	kill_at "$at" -n k "$name"
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

if [ -n "$SOAK" ]; then
	step "revert of a single disk killed: it is finished"
	guest_create s "$(store_line xvda s)" -- "uuid=\"$(cat /proc/sys/kernel/random/uuid)\""
	guest_must s "mark 1 xvda"
	must snap create -n k "$(guest_name s)"
	guest_must s "mark 2 xvda"
	kill_at revert:asked -n k "$(guest_name s)"
	guest_find s
	must_hold s "1 1" xvda
	must snap delete -n k "$(guest_name s)"
	guest_destroy s
fi

steps=
[ -z "$SOAK" ] || steps="clone:intent clone:stores clone:whole"
clone=$(guest_name m)
files_of_clone() { find "$WORK" -name "$clone*" -printf '%f\n' | sort; }
for at in $steps; do
	step "killed at $at: the next command ends it"
	cut_at "$at" -n k "$name" "$clone"
	must_be k
	whole=
	[ "$at" != clone:whole ] || whole=$(printf '%s\n' "$clone-xvda.cow" "$clone-xvdb.cow" "$clone.save" | sort)
	must_say "files of the clone" "$whole" files_of_clone
	instant_check a
done
if [ -n "$SOAK" ]; then
	step "the clone that was whole starts"
	guest_restore m "$WORK/$clone.save"
	instant_check m
	guest_destroy m
	rm "$WORK/$clone"-xvd[ab].cow "$WORK/$clone.save"
fi

steps=
[ -z "$SOAK" ] || steps="delete:intent delete:unlisted delete:deleted"
for at in $steps; do
	step "killed at $at: it is finished by the next command"
	cut_at "$at" -n k "$name"
	must_be ""
	instant_check a
	must snap create -n k "$name"
done

step "delete killed: recover finishes it"
cut_at delete:unlisted -n k "$name"
must snap recover "$name"
settled || fail "what was begun is not ended"
must_be ""

step "a disk is gone for good: refused, and recover --force ends what was begun without it"
must snap create -n k --disk-only "$name"
cut_at delete:unlisted -n k "$name"
guest_destroy a
for disk in a b; do
	wait_until 20 "the store is free" tap-img check "$WORK/$disk.cow"
done
must mv "$WORK/b.cow" "$WORK/gone.cow"
must_fail snap recover "$name"
[[ $REFUSAL == *"disk xvdb"*"recover --force"* ]] || fail "it does not say which disk, and what to do: $REFUSAL"
settled && fail "it was ended without the disk"
must snap recover --force "$name"
must_say "files" "" snapshot_files -type f
must_say "snapshots of xvda" 0 eval 'tap-img snapshot --json "$WORK/a.cow" | jq length'
