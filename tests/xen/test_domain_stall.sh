# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: -
# Needs: tap
# Limit: 1500 s
# How long a snapshot stops a guest: by its own clock, live and plain in the same
# boot, idle and while fio writes; and the disks' share of that, with one disk and
# with eight; then all eight are reverted.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
lines=()
letters=(a b c d e f g h)
for letter in "${letters[@]}"; do
	lines+=("$(store_line xvd$letter $letter)")
done
guest_create a "${lines[@]}" -- "$DOMAIN_UUID" "memory=512"
# As much processor time as dom0 may have, as on a host with processors of its own: with the lab's weights the copying of
# memory leaves a guest on the same processor a tenth of it, and its clock then shows gaps of seconds while it runs.
must xl sched-credit2 -d "$name" -w 4096

# median COUNT: of exactly COUNT numbers, one a line; anything else fails
median() {
	sort -n | awk -v count="$1" '!/^[0-9]+(\.[0-9]+)?$/ {bad = 1} {v[NR] = $1} END {if (bad || NR != count) exit 1; print v[int((NR + 1) / 2)]}' ||
		fail "these are not $1 numbers"
}

must_be_numbers() {
	local number
	for number; do
		[[ $number =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "'$number' is not a number"
	done
}

# added ROUNDS OPTION...: medians over snapshots with memory, in ms: the stall of the disks' writes, and
# the time from the end of saving the memory until the guest ran again. Like gap_ms, for $(...) || exit 1: there fail
# ends no more than the substitution.
added() {
	local round rounds=$1 stalled stopped
	shift
	for ((round = 0; round < rounds; round++)); do
		snap create -n s --json "$@" "$name" | jq -r '.snapshots[0] | "\(.disks_us / 1000) \(.stopped_us / 1000)"' ||
			fail "no snapshot"
		snap delete -n s "$name" >/dev/null || fail "not deleted"
	done >"$WORK/added"
	stalled=$(cut -d' ' -f1 "$WORK/added" | median "$rounds") || exit 1
	stopped=$(cut -d' ' -f2 "$WORK/added" | median "$rounds") || exit 1
	echo "$stalled $stopped"
}

step "what the disks add"
rounds=20
live=--live
[ "$GUEST_TYPE" != pv ] || live=
figures=$(added $rounds $live $(printf -- '--diskspec xvd%s,snapshot=no ' "${letters[@]:1}")) || exit 1
read -r one one_stopped <<<"$figures"
figures=$(added $rounds $live) || exit 1
read -r eight eight_stopped <<<"$figures"
must_be_numbers "$one" "$one_stopped" "$eight" "$eight_stopped"
echo "# one disk: $one ms, the guest ran again $one_stopped ms after its memory was saved; eight: $eight ms, $eight_stopped ms"

step "all eight are brought back"
disks=("${letters[@]/#/xvd}")
guest_must a "mark 1 ${disks[*]}"
must snap create -n s $live "$name"
guest_must a "mark 2 ${disks[*]}"
back_to s
must_hold a "1 1 1 1 1 1 1 1 1" "${disks[@]}"
must snap delete -n s "$name"

# gap_ms OPTION...: the guest's longest gaps, and their median
gap_ms() {
	local round gaps=() gap
	for round in 1 2 3; do
		gap_of a >/dev/null
		snap create -n g "$@" "$name" >/dev/null || fail "no snapshot"
		gap=$(gap_of a) || exit 1
		gaps+=("$gap")
		snap delete -n g "$name" >/dev/null || fail "not deleted"
	done
	printf '%s\n' "${gaps[@]}" | median 3 | sed "s/$/ ${gaps[*]}/"
}

# measure WHAT: the medians are in $plain and, where it can be live, in $gap
measure() {
	local gaps

	gap=
	gaps=$(gap_ms) || exit 1
	read -r plain gaps <<<"$gaps"
	echo "# $1, plain: $plain ms ($gaps)"
	[ -n "$live" ] || return 0
	gaps=$(gap_ms --live) || exit 1
	read -r gap gaps <<<"$gaps"
	echo "# $1, live: $gap ms ($gaps)"
}

gap_of() { # GUEST: the longest gap since the last call, ms
	local said
	said=$(guest_must "$1" "n=\$(grep -c ok /tmp/gap); kill -USR1 \$(cat /tmp/gap.pid); \
until [ \$(grep -c ok /tmp/gap) -gt \$n ]; do usleep 100000; done; tail -1 /tmp/gap")
	[[ $said =~ gap\ ([0-9]+) ]] || fail "$said"
	echo "${BASH_REMATCH[1]}"
}

step "how long the guest stands still, idle"
guest_must a "instant gap >/tmp/gap 2>&1 & echo \$! >/tmp/gap.pid"
measure idle
idle_plain=$plain idle_gap=$gap
step "how long it stands still while fio writes"
load_start a xvdb
measure load
load_stop a xvdb
guest_destroy a

awk -v one="$one" -v eight="$eight" 'BEGIN {exit !(one < 20 && eight < 20)}' || fail "the disks' writes stood still too long"
[ -z "$live" ] && exit
must_be_numbers "$idle_plain" "$idle_gap" "$plain" "$gap"
((5 * idle_gap <= idle_plain)) || fail "live is to be a fifth at most, idle"
((2 * gap <= plain)) || fail "live is to be half of that at most while fio writes"
