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
	option=
	[ "$kind" = plain ] || option=--live
	instant_moves a
	echo "# $(snap create -n "s$number" $option "$name")"
	instant_check a
	must snap revert -n "s$number" "$name"
	guest_find a
	instant_check a
done

step "live is refused in words where it cannot be"
[ "$GUEST_TYPE" != pv ] || must_fail snap create --live "$name"

step "disks only: both of one instant, while the guest goes on"
snap create -n disks --disk-only "$name"
instant_check a
for disk in a b; do
	copy_snapshot "$WORK/$disk.cow" disks "$WORK/$disk.raw"
done
must /payload/instant order "$WORK/a.raw" "$WORK/b.raw"
rm "$WORK"/[ab].raw

step "what is listed"
must_equal "the names" "$(seq -f 's%g' $number | tr '\n' ' ')disks " "$(snap list --json "$name" | jq -r '.snapshots[].name' | tr '\n' ' ')"
must_equal "the current one" disks "$(snap current "$name")"
must_equal "the parent" "s$number" "$(snap parent "$name")"

step "all deleted: nothing is left"
must snap delete --children -n s1 "$name"
must_equal "files" "" "$(find "$TAPSNAP_SNAPSHOT_DIR" -type f)"
for disk in xvda xvdb; do
	must_equal "snapshots of $disk" "" "$(tap-ctl snapshot-list -p "$(tapdisk_pid a $disk)" -m "$(tapdisk_minor a $disk)" --json | jq -r '.snapshots[].name')"
done
instant_check a
guest_destroy a
