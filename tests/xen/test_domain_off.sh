# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: -
# Needs: tap
# Limit: 600 s
# A domain that is named by its config file, running and shut off, and boots from
# it; meanwhile a clone of its disks; two programs that use the library on both.
# One of the disks is a raw image, which moves onto a store.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" \
	"backendtype=tap,format=raw,script=block-tapsnap,vdev=xvdc,target=$(image_make c.img 64M)" -- "$DOMAIN_UUID" 'vcpus=2'
config=$WORK/$name.cfg

step "named by its config file, while it runs"
guest_must a "mark 1 xvda xvdb xvdc"
must snap create -n s1 --store "$WORK" "$config"
guest_must a "mark 2 xvda xvdb xvdc"
must snap revert -n s1 "$config"
guest_find a
must_hold a "1 1 1 1" xvda xvdb xvdc

step "shut off, named by its config file"
guest_must a "mark 3 xvda xvdb xvdc"
must snap create -n d3 --disk-only "$name"
guest_must a "mark 4 xvda xvdb xvdc"
guest_destroy a
(cd "$WORK" && must snap create -n off "./$name.cfg") || exit
must_equal "off is of" "shutoff null" "$(info_of off '"\(.state) \(.save)"')"
must_list s1 d3 off

step "disks only: left off"
must snap revert -n off "$name"
must_be_gone a

step "disks only, --paused: booted from its config file"
console_keep a
back_to off --paused
must_be_paused a
guest_wait_ready a
must_hold a "- 4 4 4" xvda xvdb xvdc

step "a clone of disks, started by xl create beside the original"
must_equal "its config file, without a warning" "$WORK/$(guest_name c).cfg: " \
	"$(must snap clone --json -n d3 "$name" "$(guest_name c)" | jq -r '"\(.clone): \(.warning)"')"
must xl create -q "$WORK/$(guest_name c).cfg"
guest_wait_ready c
must_hold c "- 3 3 3" xvda xvdb xvdc
guest_must c "mark 5 xvda xvdb xvdc"
must_hold a "- 4 4 4" xvda xvdb xvdc

step "a program that uses the library: two domains at the same time"
guest_must a "mark 7 xvda xvdb xvdc"
must /payload/examples/snapshot-many e "$name" "$(guest_name c)" >"$WORK/said"
cat "$WORK/said"
for target in "$WORK"/a.cow "$WORK"/b.cow "$WORK"/c*.cow "$WORK/$(guest_name c)"-xvd[abc].cow; do
	grep -q "target=cow:$target@e$" "$WORK/said" || fail "$target is not named"
done

step "another: the disks' snapshots are attached to the other domain"
guest_must a "mark 8 xvda xvdb xvdc"
guest_must c "mark 9 xvda xvdb xvdc"
must /payload/examples/snapshot-attach e "$name" xvdc "$(guest_name c)" xvdx
must /payload/examples/snapshot-attach e "$(guest_name c)" xvdb "$name" xvdy
guest_must c "appears xvdx"
guest_must a "appears xvdy"
must_hold c "9 9 9 9 7" xvda xvdb xvdc xvdx
must_hold a "8 8 8 8 5" xvda xvdb xvdc xvdy
guest_must a "! dd if=/dev/zero of=/dev/xvdy bs=512 count=1 2>/dev/null"
disk_detach c xvdx
disk_detach a xvdy

step "the base of a clone is not deleted"
must_fail snap delete -n d3 "$name"
[[ $REFUSAL == *"$(guest_name c)-xvda.cow is based on it"* ]] || fail "it does not name the store that is based on it"
must snap delete -n e "$(guest_name c)"
guest_destroy c
rm "$WORK"/*-xvd[abc].cow
must snap delete --children -n s1 "$name"
must_say "files" "" snapshot_files -type f
for disk in xvda xvdb xvdc; do
	must_say "snapshots of $disk" "" disk_snapshots $disk
done
guest_destroy a
