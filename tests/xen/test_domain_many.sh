# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# Limit: 600 s
# Two guests in parallel: create, revert and delete a snapshot of each, round
# after round, while a third process queries the lists of both all the time and
# gets answers. The two are never mixed up.
. ./lib.sh
. ./domain.sh

rounds=5
[ -z "$SOAK" ] || rounds=60

for guest in a b; do
	guest_create $guest "$(store_line xvda ${guest}0)" "$(store_line xvdb ${guest}1)" -- \
		"uuid=\"$(cat /proc/sys/kernel/random/uuid)\""
	instant_start $guest
done

# Runs in a process of its own; its output goes to a file.
rounds_of() { # GUEST
	local name number option
	name=$(guest_name "$1")
	for ((number = 1; number <= rounds; number++)); do
		option=
		[ "$GUEST_TYPE" = pv ] || ((number % 2)) || option=--live
		instant_moves "$1"
		must snap create -n "r$number" $option "$name"
		instant_check "$1"
		guest_must "$1" ": >/tmp/since"
		must_equal "the list" "r$number" "$(must snap list --json "$name" | jq -r '[.snapshots[].name] | join(" ")')"
		must snap revert -n "r$number" "$name"
		guest_find "$1"
		guest_must "$1" "[ ! -e /tmp/since ]"	# it is in memory
		instant_check "$1"
		must snap delete -n "r$number" "$name"
		echo "# round $number of $1 [$SECONDS s]"
	done
}

step "$rounds rounds of both, side by side"
worker=()
for guest in a b; do
	rounds_of $guest >"$WORK/$guest.log" 2>&1 &
	worker+=($!)
done

# The guests have priority: the queries use the remaining processor time.
step "asked all the while"
renice -n 19 $$ >/dev/null
asked=0
while kill -0 "${worker[0]}" 2>/dev/null || kill -0 "${worker[1]}" 2>/dev/null; do
	for guest in a b; do
		for query in list 'list --tree' current parent; do
			# the guest's name must not be taken for a shut off domain's, nor its list for the other's
			must snap $query "$(guest_name $guest)" >/dev/null
			asked=$((asked + 1))
		done
	done
	snooze 0.2
done
echo "# $asked queries were answered"
[ "$asked" -ge $((8 * rounds)) ] || fail "queries waited for the rounds"
bad=
for number in 0 1; do
	wait "${worker[$number]}" || bad=yes
done
grep -h '^#' "$WORK"/[ab].log
[ -z "$bad" ] || fail "a guest's rounds failed"

step "nothing is left"
must_say "files" "" find "$TAPSNAP_SNAPSHOT_DIR" -mindepth 1
for guest in a b; do
	guest_find $guest
	instant_check $guest
	guest_destroy $guest
done
