# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: -
# Needs: tap
# Limit: 900 s
# Time travel: snapshots of a guest with a mounted filesystem, reverts back and
# forth between them and a branch. The contents of its memory, its cache and its
# disks are each time of one moment. Two disks, one of them attached while it runs.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
guest_create a "$(store_line xvda a)" -- "$DOMAIN_UUID" 'vcpus=2'
must tap-img create "$WORK/b.cow" 64M >/dev/null
must xl block-attach "$(guest_domid a)" "$(store_line xvdb b)"
guest_must a "appears xvdb"
guest_must a "mkfs.ext4 -q /dev/xvda && mount /dev/xvda /mnt"

# mark N: put N into memory, into a synced file, into an unsynced one, and on the second disk
mark() {
	guest_must a "echo $1 >/tmp/mark; echo $1 >/mnt/synced; dd if=/dev/urandom of=/mnt/data bs=4k count=64 2>/dev/null; sync; \
md5sum /mnt/data >/tmp/sum; echo $1 >/mnt/cached; echo $1 | dd of=/dev/xvdb bs=512 conv=sync,notrunc 2>/dev/null; sync /dev/xvdb"
}

is_at() {
	must_equal "memory, files and second disk" "$1 $1 $1 $1 " "$(guest_must a "(cat /tmp/mark /mnt/synced /mnt/cached; \
head -n 1 /dev/xvdb) | tr '\n' ' '" | tr -d '\r')"
	guest_must a "echo 3 >/proc/sys/vm/drop_caches; md5sum -c /tmp/sum >/dev/null"
}

# The filesystem is mounted in the restored memory: once written out, it must be consistent.
must_be_whole() {
	guest_must a "umount /mnt && { e2fsck -fn /dev/xvda >/tmp/fsck 2>&1 || { cat /tmp/fsck; false; }; } && mount /dev/xvda /mnt"
}

travel_to() {
	step "back to $1"
	back_to "$1"
	is_at "${1#s}"
	must_be_whole
	is_at "${1#s}"
}

for number in 1 2 3; do
	step "snapshot s$number"
	mark "$number"
	must snap create -n "s$number" "$name"
done
travel_to s1
travel_to s3
travel_to s2
step "a branch"
mark 4
must snap create -n s4 -d "goes back to s2" "$name"
mark 5
must snap create -n s5 "$name"
travel_to s3
travel_to s4
must_equal "what s4 goes back to" s2 "$(snap parent -n s4 "$name")"
snap list --tree "$name"

step "in the middle one goes, the others stay"
must snap delete -n s2 "$name"
travel_to s5
travel_to s1
guest_destroy a

step "shut off: disks of s4, and of now, where the filesystem was mounted"
must snap create -n off "$name"
must snap list "$name"
disks_are_of() { # SNAPSHOT NUMBER
	copy_snapshot "$WORK/a.cow" "$1" "$WORK/copy"
	filesystem_must_be_whole "$WORK/copy" /synced "$2"
	copy_snapshot "$WORK/b.cow" "$1" "$WORK/copy"
	must_equal "the second disk" "$2" "$(head -n 1 "$WORK/copy")"
	rm "$WORK/copy"
}
disks_are_of s4 4
disks_are_of off 1
must snap delete --children -n s1 "$name"
must tap-img check "$WORK/a.cow"
must tap-img check "$WORK/b.cow"
