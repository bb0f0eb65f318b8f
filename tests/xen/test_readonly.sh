# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# A read-only disk: readable, refused for writing, and shared by two guests.
. ./lib.sh

image=$(image_make disk 64M)
yes tapsnap | head -c 64M >"$image"
checksum=$(sha256sum <"$image" | cut -d' ' -f1)
guest_create a "$(disk_line xvda "$image" access=ro)"
guest_create b "$(disk_line xvda "$image" access=ro)"
for guest in a b; do
	must_equal "mode" r "$(backend_node $guest xvda mode)"
	must_equal "ro in the guest" 1 "$(guest_must $guest "cat /sys/block/xvda/ro")"
	must_equal "checksum in the guest" "$checksum" "$(guest_must $guest "sha256sum /dev/xvda | cut -d' ' -f1")"
	guest_must $guest "! dd if=/dev/zero of=/dev/xvda bs=4k count=1 2>/dev/null"
	guest_destroy $guest
done
must_equal "checksum" "$checksum" "$(sha256sum <"$image" | cut -d' ' -f1)"
