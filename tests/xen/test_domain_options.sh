# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: -
# Needs: tap
# Limit: 600 s
# Options of create, revert, edit and delete, on a running guest of two vcpus:
# paused or shut down afterwards, disks left out, disks attached and detached, a
# hook that freezes a filesystem. Marks in the guest's memory and disks show each
# time of which moment they are.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" "$(store_line xvdc c)" -- "$DOMAIN_UUID" 'vcpus=2'

step "--diskspec: a disk that is left out stays as it is"
guest_must a "mark 1 xvda xvdb xvdc"
must snap create -n s1 -d "first words" --diskspec xvdc,snapshot=no "$name"
must_equal "disks of s1" "xvda xvdb" "$(info_of s1 '[.disks[].vdev] | join(" ")')"
guest_must a "mark 2 xvda xvdb xvdc"
back_to s1
must_hold a "1 1 1 2" xvda xvdb xvdc
must_equal "vcpus" 2 "$(guest_must a nproc | tr -d '\r\n')"

step "edit, show"
must_equal "edit" "other words" "$(must snap edit --json -d "other words" "$name" | jq -r '.snapshots[0].description')"
must_equal "current" s1 "$(must snap current --json "$name" | jq -r '.snapshots[0].name')"
must_equal "parent" null "$(must snap parent --json "$name" | jq -r '.snapshots[0].parent')"
shown=$(must snap show "$name")
for words in 'name: * s1 (current)' 'description: * other words' "disk xvda * cow:$WORK/a.cow, snapshot s1" "memory: * $(info_of s1 .save), "; do
	[[ $shown == *$words* ]] || fail "'$words' is not shown: $shown"
done

step "create --paused, with memory and without"
guest_must a "mark 3 xvda xvdb"
must snap create -n s3 --paused "$name"
must_be_paused a
must_hold a "3 3 3 2" xvda xvdb xvdc
must snap create -n d3 --paused --disk-only "$name"
must_be_paused a
must_hold a "3 3 3 2" xvda xvdb xvdc

step "revert --paused"
guest_must a "mark 4 xvda xvdb xvdc"
back_to s3 --paused
must_be_paused a
must_hold a "3 3 3 2" xvda xvdb xvdc

step "create --shutdown, and what it leaves is for xl restore"
guest_must a "mark 5 xvda xvdb xvdc"
must snap create -n s5 --shutdown "$name"
must_be_gone a
must_list s1 s3 d3 s5
guest_restore a "$(info_of s5 .save)"
must_hold a "5 5 5 5" xvda xvdb xvdc
guest_must a "mark 6 xvda xvdb xvdc"
back_to s5
must_hold a "5 5 5 5" xvda xvdb xvdc

step "--hook: the filesystem is frozen when its snapshot is taken, and thawed; after a revert, too"
cat >"$WORK/hook" <<'END'
#!/bin/bash
# The guest is told on its console.
. ./lib.sh
. ./domain.sh
guest_find a
[[ " $(disk_snapshots xvdc) " == *" h "* ]] && taken=taken || taken=
[ "$1" != thaw ] || un=un
guest_must a -t 30 "fsfreeze --${un:-}freeze /mnt"
echo "$*: $taken" >>"$WORK/hook.log"
END
chmod +x "$WORK/hook"
# Check whether the filesystem in a snapshot needs its journal replayed.
must_need() { # needs_recovery|"" SNAPSHOT
	rm -f "$WORK/c.raw"
	copy_snapshot "$WORK/c.cow" "$2" "$WORK/c.raw"
	must dumpe2fs -h "$WORK/c.raw" >"$WORK/features"
	must_equal "the filesystem in $2" "$1" "$(grep -o needs_recovery "$WORK/features")"
}
guest_must a "mkfs.ext4 -q /dev/xvdc && mount /dev/xvdc /mnt && echo 7 >/mnt/file"
must snap create -n crash --disk-only "$name"
must_need needs_recovery crash
must snap create -n h --hook "$WORK/hook" "$name"
must_equal "freeze, and thaw" "freeze $name: ,thaw $name: taken" "$(paste -sd, "$WORK/hook.log")"
must_need "" h
must_equal "the file in the snapshot" 7 "$(debugfs -R 'cat file' "$WORK/c.raw" 2>/dev/null)"
guest_must a -t 60 "echo 8 >/mnt/file && sync"
back_to h
must_equal "freeze, thaw, and thaw" "freeze $name: ,thaw $name: taken,thaw $name: taken" "$(paste -sd, "$WORK/hook.log")"
must_equal "the file" 7 "$(guest_must a -t 60 "cat /mnt/file && echo 9 >/mnt/file && sync" | tr -d '\r\n')"
rm "$WORK/c.raw"

step "a disk that came at run time is in the snapshot; it went: --force"
must tap-img create "$WORK/d.cow" 64M >/dev/null
must xl block-attach "$(guest_domid a)" "$(store_line xvdd d)"
guest_must a "appears xvdd"
guest_must a "mark 10 xvda xvdd"
said=$(must script -qec "xl-snapshot create -n s10 '$name'" /dev/null)
[[ $said == *'memory '[0-9]*%* ]] || fail "a terminal shows no progress: $said"
guest_must a "mark 11 xvda xvdd"
disk_detach a xvdd
must_fail snap revert -n s10 "$name"
[[ $REFUSAL == *"disk xvdd has been detached since the snapshot"* ]] || fail "it does not say which disk"
must_hold a "11 11" xvda
back_to s10 --force
must_hold a "10 10 10" xvda xvdd

step "a disk that came since stays as it is; --force"
must tap-img create "$WORK/e.cow" 64M >/dev/null
must xl block-attach "$(guest_domid a)" "$(store_line xvde e)"
guest_must a "appears xvde"
guest_must a "mark 12 xvdd xvde"
back_to s10 --force
must_hold a "10 10 10" xvda xvdd
guest_must a "[ ! -e /dev/xvde ]"
must xl block-attach "$(guest_domid a)" "$(store_line xvde e)"
guest_must a "appears xvde"
must_hold a "10 12" xvde

step "another image under the same name: --force"
disk_detach a xvde
must xl block-attach "$(guest_domid a)" "backendtype=tap,format=raw,script=block-tapsnap,vdev=xvde,target=cow:$WORK/e.cow"
guest_must a "appears xvde"
must snap create -n s13 "$name"
disk_detach a xvde
must tap-img create "$WORK/f.cow" 64M >/dev/null
must xl block-attach "$(guest_domid a)" "$(store_line xvde f)"
guest_must a "appears xvde"
must_fail snap revert -n s13 "$name"
[[ $REFUSAL == *"disk xvde was cow:$WORK/e.cow and is another image now, cow:$WORK/f.cow"* ]] || fail "not said: $REFUSAL"
back_to s13 --force
must_equal "the image of xvde" "cow:$WORK/e.cow" "$(tap-ctl list -m "$(tapdisk_minor a xvde)" | sed -n 's/.*args=//p')"

step "a disk whose backend is in another domain is not left out silently"
node=/libxl/$(guest_domid a)/device/vbd/51984
remote=/local/domain/9999/backend/vbd/$(guest_domid a)/51984
for path in "$remote" "$node"; do	# libxl keeps a copy of what the backend's domain could change
	xenstore-write "$path/dev" xvdq "$path/mode" w "$path/type" phy "$path/params" /dev/elsewhere "$path/device-type" disk \
		"$path/removable" 0
done
xenstore-write "$node/backend" "$remote" "$node/frontend" "/local/domain/$(guest_domid a)/device/vbd/51984"
must_fail snap create -n remote "$name"
[[ $REFUSAL == *"disk xvdq: no tapdisk serves it"*"--diskspec xvdq,snapshot=no"* ]] || fail "not said: $REFUSAL"
xenstore-rm "$node"
xenstore-rm /local/domain/9999
must snap delete -n s13 "$name"

step "delete --keep-disks"
save=$(info_of s1 .save)
[ -e "$save" ] || fail "there is no file '$save'"
must snap delete --keep-disks -n s1 "$name"
must_list s3 d3 s5 crash h s10
[ ! -e "$save" ] || fail "$save is still there"
must_say "snapshots of xvda" "s1 s3 d3 s5 crash h s10" disk_snapshots xvda
for disk in xvda xvdb; do
	must tap-ctl snapshot-delete -n s1 -p "$(tapdisk_pid a $disk)" -m "$(tapdisk_minor a $disk)"
done

step "delete --children: what goes back to h, and nothing else"
must snap delete --children -n h "$name"
must_list s3 d3 s5 crash
must_say "the current one" crash snap current "$name"
must_say "snapshots of xvda" "s3 d3 s5 crash" disk_snapshots xvda
must_say "snapshots of xvdd" "" disk_snapshots xvdd
must snap delete --children -n s3 "$name"
must_say "files" "" snapshot_files -type f
must_say "snapshots of xvda" "" disk_snapshots xvda
guest_destroy a
