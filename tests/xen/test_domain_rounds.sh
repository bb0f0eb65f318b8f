# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv pvh
# Needs: tap
# Limit: 900 s
# Snapshots of a whole domain, at random moments while verified writes continue: a
# guest program has the expected contents of two disks in its memory. After each
# revert, of memory and disks, they match; disks without memory are of one
# instant, too. The third disk is a raw image, which moves onto a store.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a 8M)" "$(store_line xvdb b 8M)" \
	"backendtype=tap,format=raw,script=block-tapsnap,vdev=xvdc,target=$(image_make c.img 64M)" -- "$DOMAIN_UUID"
instant_start a
# one processor does all of this, and the rest of the host
load_start a xvdc --iodepth=4 --rate_iops=40 --size=4M

kinds="plain plain disks plain plain plain disks plain plain plain"
[ "$GUEST_TYPE" = pv ] || kinds="plain live disks live plain live disks plain live plain"
times=1
# 56 reverts: the memory of more snapshots at a time would not fit onto the disk
[ -z "$SOAK" ] || times=7

for ((; times > 0; times--)); do
	# many requests in flight in the memory image: a revert has to issue them again
	if [ $times = 2 ]; then
		load_stop a xvdc
		load_start a xvdc --iodepth=32 --size=16M
	fi
	step "rounds of create and revert, to memory and disks"
	number=0
	alone=0
	for kind in $kinds; do
		instant_moves a
		snooze "0.$((RANDOM % 1000))"
		if [ "$kind" = disks ]; then
			alone=$((alone + 1))
			instant_check a
			must snap create -n "d$alone" --disk-only "$name"
			instant_order "d$alone" "$ACKNOWLEDGED"
			continue
		fi
		number=$((number + 1))
		instant_round $number "$kind" --store "$WORK"
	done

	step "what is listed"
	must_equal "the names" "$({ seq -f 's%g' $number; seq -f 'd%g' $alone; } | sort | tr '\n' ' ')" \
		"$(snap list --json "$name" | jq -r '.snapshots[].name' | sort | tr '\n' ' ')"
	must_equal "the current one" "s$number" "$(snap current "$name")"
	must_equal "the parent" "s$((number - 1))" "$(snap parent "$name")"

	step "all deleted: nothing is left"
	delete_all xvda xvdb xvdc
done

step "live is refused in words where it cannot be"
live_is_refused

step "the load has read what it wrote, each time"
load_moves a xvdc
load_stop a xvdc

guest_destroy a
