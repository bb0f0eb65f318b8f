# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: hvm
# Limit: 600 s
# Two guests with four busy disks each, in parallel.
. ./lib.sh

for guest in a b; do
	disks=()
	for letter in a b c d; do
		disks+=("$(disk_line xvd$letter "$(image_make $guest-$letter 64M)")")
	done
	guest_create $guest "${disks[@]}"
done
# one fio writes to a guest's four disks in turn: eight would mostly wait for a processor
for guest in a b; do
	load_start $guest xvda --filename=/dev/xvdb:/dev/xvdc:/dev/xvdd
done
step "all eight run"
for guest in a b; do
	for letter in a b c d; do
		load_moves $guest xvd$letter
	done
done
for guest in a b; do
	load_stop $guest xvda
	guest_destroy $guest
done
