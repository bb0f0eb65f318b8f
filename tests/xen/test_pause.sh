# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# tap-ctl pause drains and holds the disk with requests waiting in the ring;
# unpause resumes, on another image too. Nothing is lost, the stall is measured.
# tap-ctl throttle holds the guest to its limit.
. ./lib.sh

image=$(image_make disk 64M)
guest_create a "$(disk_line xvda "$image")" -- vcpus=2
pid=$(tapdisk_pid a xvda)
minor=$(tapdisk_minor a xvda)
load_start a xvda

# A paused disk completes nothing: the guest's counter stands still over many polls.
stands_still() {
	local first poll
	first=$(guest_must a "requests xvda")
	for poll in 1 2 3 4 5; do
		must_equal "requests completed while paused (poll $poll)" "$first" "$(guest_must a "requests xvda")"
	done
}

step "pause, unpause"
for round in 1 2 3; do
	must tap-ctl pause -p "$pid" -m "$minor"
	stands_still
	must tap-ctl unpause -p "$pid" -m "$minor"
	load_moves a xvda
done

# Sets RATE to what the guest transfers, in bytes a second.
transfers() { tap-ctl stats -p "$pid" -m "$minor" | jq '[.total[] | objects | .bytes] | add'; }
measure() {
	local start before after
	start=${EPOCHREALTIME/./}
	before=$(transfers) || fail "no statistics"
	snooze 5
	after=$(transfers) || fail "no statistics"
	RATE=$(((after - before) * 1000000 / (${EPOCHREALTIME/./} - start)))
}

step "held to a limit"
limit=$((256 << 10))
must tap-ctl throttle -p "$pid" -m "$minor" -B $limit
load_moves a xvda	# what was in flight is done
measure
limited=$RATE
must tap-ctl throttle -p "$pid" -m "$minor" -B 0
load_moves a xvda
measure
echo "# bytes a second: $limited with a limit of $limit, $RATE without"
[ "$limited" -gt 0 ] || fail "nothing was transferred"
[ "$limited" -le $((limit * 3 / 2)) ] || fail "the limit was exceeded"
[ "$RATE" -gt $((limit * 3 / 2)) ] || fail "it is no faster without a limit: the test has shown nothing"

step "continue with a copy of the image"
must tap-ctl pause -p "$pid" -m "$minor"
must cp --sparse=always "$image" "$WORK/copy"
must tap-ctl unpause -p "$pid" -m "$minor" -a "aio:$WORK/copy"
checksum=$(sha256sum <"$image")
load_moves a xvda
load_stop a xvda
must_equal "the old image's checksum" "$checksum" "$(sha256sum <"$image")"
cmp -s "$image" "$WORK/copy" && fail "nothing was written to the copy"

step "the stall is in the statistics"
tap-ctl stats -p "$pid" -m "$minor" >"$WORK/stats"
must jq -e '[.. | objects | .longest_ns? // .longest_us? // empty] | max > 0' "$WORK/stats" >"$WORK/answer"
guest_destroy a
