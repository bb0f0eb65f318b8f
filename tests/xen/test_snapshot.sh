# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# A guest on a snapshot store, by our own hotplug script: snapshots of its
# filesystem while it writes, each consistent when read while the disk is in use; a
# tapdisk killed under load; a revert to a snapshot.
. ./lib.sh

store=$WORK/disk.cow
disk="backendtype=tap,format=raw,script=block-tapsnap,vdev=xvda,target=cow:$store"

snapshot() { # COMMAND [OPTION...]
	must tap-ctl "snapshot-$1" -p "$(tapdisk_pid a xvda)" -m "$(tapdisk_minor a xvda)" "${@:2}"
}

# Each of the snapshots s1 and s3 that are left, read beside the running disk.
snapshots_must_be_whole() {
	must_equal "the list" "s1 s3 " "$(snapshot list --json | jq -r '.snapshots[].name' | tr '\n' ' ')"
	for number in 1 3; do
		marker=$(must tap-ctl create -R -a "cow:$store@s$number")
		minor=${marker##*tapdisk-}
		pid=$(tap-ctl list -m "$minor" | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
		must_equal "the process that serves it" "$(tapdisk_pid a xvda)" "$pid"
		must nbdcopy "nbd+unix:///?socket=/run/blktap-control/nbd$pid.$minor" "$WORK/copy"
		must tap-ctl destroy -p "$pid" -m "$minor"
		filesystem_must_be_whole "$WORK/copy" /mark "$number"
		rm "$WORK/copy"
	done
}

must tap-img create "$store" 256M
guest_create a "$disk"
guest_must a "mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt"

step "three snapshots while files are written, the second deleted again"
guest_must a "(until [ -e /tmp/stop ]; do fio --name=file --directory=/mnt --size=8M --rw=randwrite --bsrange=4k-64k \
--ioengine=libaio --iodepth=8 --direct=1 --fsync=64 --verify=crc32c --verify_fatal=1 --output=/tmp/fio || break; done; \
echo \$? >/tmp/end) &"
for number in 1 2 3; do
	load_moves a xvda
	guest_must a "echo $number >/mnt/mark && sync"
	snapshot create -n "s$number" -d "mark $number"
done
snapshot delete -n s2
load_moves a xvda

step "each is complete, read beside the running disk"
snapshots_must_be_whole
load_moves a xvda

step "kill -9 under load: the store is intact without repair, and so is the guest's filesystem"
tapdisk_end a xvda
guest_destroy a
must tap-img check "$store"
guest_create a "$disk"
guest_must a "mount /dev/xvda /mnt && cat /mnt/mark && umount /mnt"
guest_must a "e2fsck -fn /dev/xvda >/tmp/fsck || { cat /tmp/fsck; false; }"

step "so is each snapshot"
snapshots_must_be_whole

step "back to the first one: refused while the guest has the disk"
must_fail tap-ctl snapshot-revert -p "$(tapdisk_pid a xvda)" -m "$(tapdisk_minor a xvda)" -n s1
guest_destroy a
must tap-img snapshot -a s1 "$store"
guest_create a "$disk"
must_equal "the mark" 1 "$(guest_must a "mount /dev/xvda /mnt && cat /mnt/mark && umount /mnt" | tr -d '\r\n')"
guest_destroy a
must tap-img check "$store"
