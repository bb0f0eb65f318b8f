# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Limit: 400 s
# Two guests with four busy disks each, at once.
. ./lib.sh

for guest in a b; do
	disks=()
	for letter in a b c d; do
		disks+=("$(disk_line xvd$letter "$(image_make $guest-$letter 64M)")")
	done
	guest_create $guest "${disks[@]}"
done
for guest in a b; do
	for letter in a b c d; do
		load_start $guest xvd$letter --size=4M
	done
done
step "all eight run"
for guest in a b; do
	guest_must $guest "touch /tmp/load.xvda.stop /tmp/load.xvdb.stop /tmp/load.xvdc.stop /tmp/load.xvdd.stop"
done
for guest in a b; do
	for letter in a b c d; do
		load_stop $guest xvd$letter
	done
	guest_destroy $guest
done
