# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: -
# Needs: tap
# Limit: 600 s
# How long a guest stands still: by its own clock, live and plain in the same
# boot; and what the disks add to that, with one disk and with eight.
. ./lib.sh
. ./domain.sh

rounds=${SOAK:+20}
name=$(guest_name a)
lines=()
for letter in a b c d e f g h; do
	lines+=("$(store_line xvd$letter $letter)")
done
guest_create a "${lines[@]}" -- "$DOMAIN_UUID"

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

# disks_ms OPTION...: median of the time for which the disks' writes stood still
disks_ms() {
	local round
	for ((round = 0; round < ${rounds:-5}; round++)); do
		snap create -n "s$round" --json "$@" "$name" | jq '.snapshots[0].disks_us / 1000' || fail "no snapshot"
		snap delete -n "s$round" "$name" >/dev/null || fail "not deleted"
	done | median
}

step "what the disks add"
one=$(disks_ms --disk-only $(printf -- '--diskspec xvd%s,snapshot=no ' b c d e f g h))
eight=$(disks_ms --disk-only)
echo "# one disk: $one ms, eight: $eight ms"
# 20 ms are the aim; here eight tapdisks share one emulated processor with whatever else runs
awk -v one="$one" -v eight="$eight" 'BEGIN {exit !(one < 20 && eight < 60)}' || fail "too long"

# gap_ms OPTION...: median of the guest's longest gap
gap_ms() {
	local round
	for ((round = 0; round < ${rounds:-3}; round++)); do
		instant_check a >/dev/null
		snap create -n g "$@" "$name" >/dev/null || fail "no snapshot"
		instant_check a >/dev/null
		echo "$GAP"
		snap delete -n g "$name" >/dev/null || fail "not deleted"
	done | median
}

step "how long the guest stands still"
instant_start a
plain=$(gap_ms)
echo "# plain: $plain ms"
if [ "$GUEST_TYPE" != pv ]; then
	live=$(gap_ms --live)
	echo "# live: $live ms"
	((2 * live <= plain)) || fail "live is to be half of that at most while the guest writes"
fi
guest_destroy a
