# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: -
# Needs: tap
# Limit: 900 s
# Failures outside the command itself: no room for the memory, before the save
# and in the middle; tapdisk and tapback killed during create, revert and
# delete; disks attached or detached; in the long tests a tapdisk that hangs and a
# guest that does not suspend. The guest still runs or can be restored, the message
# names the step, all listed snapshots can be restored, nothing else is left, of the
# stores' space neither.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID"
instant_start a

# make_hook COMMAND [COMMAND]: run at freeze, which is after all checks; at thaw
make_hook() {
	printf '#!/bin/bash\nif [ "$1" = freeze ]; then %s; else %s; fi\n' "$1" "${2:-:}" >"$WORK/hook"
	chmod +x "$WORK/hook"
}

# fails_with WORDS COMMAND...
fails_with() {
	local words=$1
	shift
	must_fail xl-snapshot "$@"
	[[ $REFUSAL == *"$words"* ]] || fail "it does not say: $words"
}

gone() { ! guest_exists a; }

# at_step STEP SIGNAL PID COMMAND...: after that step PID gets the signal
at_step() {
	XL_SNAPSHOT_KILL_AT=$1 XL_SNAPSHOT_SIGNAL=$(kill -l "$2") XL_SNAPSHOT_KILL=$3 "$POINTS" "${@:4}"
}

step "no room for the memory: said before it is begun"
mkdir "$WORK/small"
must mount -t tmpfs -o size=8M small "$WORK/small"
export TAPSNAP_SNAPSHOT_DIR=$WORK/small/s
fails_with "the memory needs" create -n k "$name"
must umount "$WORK/small"

step "no room any more in the middle of it"
must mount -t tmpfs -o size=400M small "$WORK/small"
make_hook "dd if=/dev/zero of=$WORK/small/fill bs=1M count=350 status=none"
fails_with "No space left" create -n k --hook "$WORK/hook" "$name"
must_say "left in the directory" "$WORK/small/fill" find "$WORK/small" -type f
must umount "$WORK/small"
export TAPSNAP_SNAPSHOT_DIR=$WORK/snapshots
must_be ""
instant_check a

step "a create that is cut short when the disks have their snapshots: their space is given back"
# behind what the guest program writes
overwrite() { guest_must a "dd if=/dev/urandom of=/dev/xvda bs=1M seek=16 count=24 2>/dev/null && sync /dev/xvda"; }
used() { echo $(($(stat -c %b "$WORK/a.cow") / 2048)); }	# MiB
is_stopped() { # PID
	local stat
	read -r stat <"/proc/$1/stat" && [[ ${stat##*) } == T* ]]
}
is_given_back() {
	[ "$(tap-ctl stats -p "$(tapdisk_pid a xvda)" -m "$(tapdisk_minor a xvda)" | jq -c '[.deletions, .unpunched]')" = "[0,0]" ]
}
overwrite
before=$(used)
XL_SNAPSHOT_ALONE=1 XL_SNAPSHOT_KILL_AT=saved "$POINTS" create -n k "$name" >/dev/null 2>"$WORK/words" &
tool=$!
wait_until 120 "it has come to the end" is_stopped $tool
overwrite
held=$(used)
[ "$held" -ge $((before + 20)) ] || fail "the snapshot holds nothing: $before MiB before, $held with it"
kill -9 $tool
wait $tool
must_be ""
wait_until 60 "the space is given back" is_given_back
after=$(used)
echo "# MiB: $before before, $held with the snapshot, $after after it"
[ "$after" -le $((before + 8)) ] || fail "the store has $after MiB, $before before"
instant_check a

step "tapback killed during a create, which needs none"
make_hook "kill -9 $(tapback_pid)"
must snap create -n k --hook "$WORK/hook" "$name"
tapback_start
must_be k
instant_check a

step "a disk that came"
must tap-img create "$WORK/c.cow" 64M >/dev/null
must xl block-attach "$(guest_domid a)" "$(store_line xvdc c)"
guest_must a "appears xvdc"
fails_with "disk xvdc has been added since the snapshot" revert -n k "$name"
must xl block-detach "$(guest_domid a)" xvdc
guest_must a "vanishes xvdc"
instant_check a

step "tapback killed during a revert: done when it is there again"
xl-snapshot revert -n k "$name" >/dev/null 2>"$WORK/words" &
wait_until 60 "the domain is destroyed" gone
tapback_kill
wait $! && fail "restored without tapback"
echo "# $(cat "$WORK/words")"
grep -qE "domain is shut off(: revert to it again|, and the next command continues)" "$WORK/words" || fail "it does not say how to continue"
tapback_start
must snap list "$name"
[ -n "$(guest_exists a)" ] || must snap revert -n k "$name"
guest_find a
must_be k
instant_check a

step "tapback killed during a delete, which needs none"
must at_step unlisted KILL "$(tapback_pid)" delete -n k "$name"
wait_until 10 "tapback is dead" eval "! tapback_pid"
tapback_start
must_be ""
instant_check a

step "a tapdisk killed during a create: what was there before is there still"
must snap create -n k "$name"
instant_check a
make_hook "kill -9 $(tapdisk_pid a xvdb)"
fails_with "the snapshot of the disks failed" create -n l --hook "$WORK/hook" "$name"
instant_check a
must snap revert -n k "$name"
guest_find a
must_be k
instant_check a

step "a tapdisk killed during a revert"
xl-snapshot revert -n k "$name" >/dev/null 2>"$WORK/words" &
wait_until 60 "the domain is destroyed" gone
wait_until 60 "a store is open again" pgrep -x tapdisk
pkill -9 -x tapdisk
wait $! || echo "# $(cat "$WORK/words")"
must snap list "$name"
[ -n "$(guest_exists a)" ] || must snap revert -n k "$name"
guest_find a
must_be k
instant_check a

step "a tapdisk killed during a delete: the delete waits until another one has taken over, and the guest still runs"
must at_step unlisted KILL "$(tapdisk_pid a xvdb)" delete -n k "$name"
instant_check a
must_be ""

step "nobody takes over: refused, and the image is left alone"
must snap create -n k "$name"
instant_moves a
pid=$(tapdisk_pid a xvdb)
tapback_kill
kill -9 "$pid"
fails_with "tap-ctl takeover -p $pid" delete -n k "$name"
tapback_start
must snap delete -n k "$name"
instant_check a
must_be ""

step "a tapdisk hangs when its disk is to be frozen: the guest still runs"
pid=$(tapdisk_pid a xvdb)
must_fail at_step suspended STOP "$pid" create -n k "$name"
kill -CONT "$pid"
[[ $REFUSAL == *"the snapshot of the disks failed: "*"no answer in time"* ]] || fail "the step is not named"
must_be ""
instant_check a

# long, because libxl gives the guest a minute
if [ -n "$SOAK" ]; then
	step "a guest that does not suspend: it still runs"
	make_hook "xl pause $(guest_domid a)"
	fails_with "acknowledge suspend" create -n k --hook "$WORK/hook" "$name"
	must_be ""
	instant_check a
fi
guest_destroy a
