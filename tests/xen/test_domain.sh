# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# Limit: 600 s
# Snapshots of a whole domain: a guest program knows in its memory what two
# disks have to hold. After each revert, to memory and disks, it finds them
# just so; disks without memory are of one instant, too.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID"
instant_start a

step "rounds of create and revert, to memory and disks"
kinds="plain plain plain"
[ "$GUEST_TYPE" = pv ] || kinds="plain live plain live"
[ -z "$SOAK" ] || kinds=$(for ((number = 0; number < 17; number++)); do echo "$kinds"; done)
number=0
for kind in $kinds; do
	number=$((number + 1))
	instant_moves a
	instant_round $number "$kind"
done

step "live is refused in words where it cannot be"
live_is_refused

step "disks only: both of one instant, while the guest goes on"
snap create -n disks --disk-only "$name"
instant_check a
instant_order disks

step "what is listed"
must_equal "the names" "$(seq -f 's%g' $number | tr '\n' ' ')disks " "$(snap list --json "$name" | jq -r '.snapshots[].name' | tr '\n' ' ')"
must_equal "the current one" disks "$(snap current "$name")"
must_equal "the parent" "s$number" "$(snap parent "$name")"

step "all deleted: nothing is left"
delete_all xvda xvdb
guest_destroy a
