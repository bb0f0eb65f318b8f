# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: -
# Needs: tap
# Limit: 900 s
# xenstored is lost, at many moments of create and revert (more in the long tests):
# the command ends and reports it, its snapshot is whole or absent, the guest goes
# on where it was not destroyed. Only the command loses it, because it connects
# through a relay; tests/xen/power-cut kills the host's xenstored.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
relay=/tmp/relay.$$
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID"
instant_start a
instant_moves a
must snap create -n base "$name"

# The process that xl leaves behind to wait for the domain's end would wait forever: its xenstored is gone.
end_waiting_xl() {
	local process
	for process in $(pgrep -x xl); do
		! grep -qzF "XENSTORED_PATH=$relay" "/proc/$process/environ" 2>/dev/null || kill "$process"
	done
}

# by_relay SECONDS COMMAND...: kill the relay after SECONDS; leaves the command's message in WORDS, its status in STATUS
by_relay() {
	local after=$1 leader pid start
	shift
	rm -f "$relay"
	setsid /payload/storerelay "$relay" &
	leader=$!
	wait_until 5 "the relay listens" [ -S "$relay" ]
	XENSTORED_PATH=$relay timeout -k 5 45 xl-snapshot "$@" >"$WORK/words" 2>&1 &
	pid=$!
	start=${EPOCHREALTIME/./}
	read -rt "$after" -u "$NEVER" _
	kill -9 -- "-$leader"
	wait $pid
	STATUS=$?
	wait $leader 2>/dev/null
	end_waiting_xl
	WORDS=$(tr '\r' '\n' <"$WORK/words" | tail -1)
	echo "# lost after $after s, ended after $(((${EPOCHREALTIME/./} - start) / 1000)) ms with $STATUS: $WORDS"
}

says_so() {
	[ "$STATUS" = 0 ] || [[ $STATUS != 124 && $STATUS -lt 128 && $WORDS == *xenstored* ]] || fail "ended with $STATUS: $WORDS"
}

is_as_before() { [ "$(guest_exists a 2>/dev/null)" = "$(guest_domid a)" ]; }

# A revert that had begun to destroy the domain, which may have lost its disks, is continued by the next command.
is_to_be_continued() { [[ $WORDS == *"the next command"*continues* ]]; }

continue_revert() {
	must snap list "$name"
	guest_find a
	instant_check a
}

# A domain that was resumed without xenstored cannot be suspended again, as its nodes are stale: make a new one.
start_over() {
	xl destroy "$name" 2>/dev/null
	must snap revert -n base "$name"
	guest_find a
	instant_check a
}

moments="1.2 2.5"
[ -z "$SOAK" ] || moments=$(seq -f %.1f 0 0.3 4.8)
for command in create revert; do
	[ $command = create ] || must snap create -n k "$name"
	step "$command"
	for moment in $moments; do
		by_relay "$moment" $command -n k "$name"
		says_so
		if [ $command = revert ] && is_to_be_continued; then
			continue_revert
		elif is_as_before; then
			instant_check a
		fi
		start_over
		if [ $command = create ] && [ $STATUS != 0 ]; then
			must_be base
		else
			must_be "base k"
		fi
		[ $command = revert ] || snap delete -n k "$name" >/dev/null 2>&1
	done
done

guest_destroy a
rm -f "$relay"
