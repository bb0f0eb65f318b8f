# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# A guest's raw image moves onto a store while the guest writes; restarted and
# restored by a configuration that names the image, the guest uses the store;
# then the disk moves back to the image while the guest writes.
. ./lib.sh

image=$(image_make disk 64M)
line=$(disk_line xvda "$image")

disk() { # COMMAND [OPTION...]
	must tap-ctl "$1" -p "$(tapdisk_pid a xvda)" -m "$(tapdisk_minor a xvda)" "${@:2}"
}
store() { disk info --json | jq -r '.disk.store // "none"'; }

guest_create a "$line"
load_start a xvda

step "onto a store under load"
disk snapshot-create -n before --store "$WORK"
load_moves a xvda
must_equal "the store" "$image.cow" "$(store)"
must_equal "what list says" "aio:$image" "$(tap-ctl list | sed -n 's/.* args=//p')"
checksum=$(sha256sum <"$image")
load_moves a xvda

step "saved and restored"
guest_save a "$WORK/save"
guest_restore a "$WORK/save"
rm "$WORK/save"
load_moves a xvda
must_equal "the store" "$image.cow" "$(store)"
load_stop a xvda
guest_must a "echo mark | dd of=/dev/xvda bs=512 count=1 conv=sync oflag=direct"

step "restarted"
guest_destroy a
guest_create a "$line"
must_equal "the mark" mark "$(guest_must a "head -c 4 /dev/xvda" | tr -d '\r\n')"
must_equal "the image's checksum" "$checksum" "$(sha256sum <"$image")"

step "back to the image under load"
load_start a xvda
disk snapshot-delete -n before
disk commit
load_moves a xvda
must_equal "the store" none "$(store)"
[ ! -e "$image.cow" ] && [ ! -e "$image.tapsnap-overlay" ] || fail "something is left"
load_stop a xvda
guest_destroy a
