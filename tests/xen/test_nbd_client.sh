# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Linux's own NBD client on our socket: a filesystem, verified writes over
# several connections, discards, a snapshot read while the disk is in use.
. ./lib.sh

store=$WORK/a.cow
must tap-img create "$store" 128M >/dev/null
marker=$(must tap-ctl create -a "cow:$store")
minor=${marker##*tapdisk-}
pid=$(tap-ctl list -m "$minor" | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
socket=/run/blktap-control/nbd$pid.$minor

# client DEVICE SOCKET OPTION...: nbd-client ends once the kernel has the connections
client() {
	must nbd-client -unix "$2" "/dev/$1" -timeout 60 "${@:3}" >/dev/null
	wait_until 20 "$1 has a size" eval "[ \$(cat /sys/block/$1/size) != 0 ]"
}

release() {
	must nbd-client -d "/dev/$1" >/dev/null
	wait_until 20 "$1 is free" eval "[ \$(cat /sys/block/$1/size) = 0 ]"
}

step "a filesystem"
client nbd0 "$socket"
must_equal "size" $((128 << 20)) "$(blockdev --getsize64 /dev/nbd0)"
must mkfs.ext4 -q /dev/nbd0
mkdir "$WORK/mnt"
must mount /dev/nbd0 "$WORK/mnt"
head -c 20M /dev/urandom >"$WORK/mnt/data"
sum=$(md5sum <"$WORK/mnt/data")
must umount "$WORK/mnt"

step "a snapshot, while it is connected"
must tap-ctl snapshot-create -p "$pid" -m "$minor" -n before >/dev/null
must mount /dev/nbd0 "$WORK/mnt"
rm "$WORK/mnt/data"
must umount "$WORK/mnt"
must e2fsck -fn /dev/nbd0 >/dev/null
release nbd0

step "verified writes over four connections"
client nbd0 "$socket" -C 4
must_equal "connections" 4 "$(tap-ctl list --json -p "$pid" | jq '[.. | .nbd_connections? // empty] | add')"
must fio --name=verify --filename=/dev/nbd0 --rw=randwrite --bsrange=4k-64k --direct=1 --ioengine=libaio --iodepth=16 \
	--offset=64M --size=32M --fdatasync=64 --verify=crc32c --verify_fatal=1 --output="$WORK/fio.log"

step "a discard reads as zeros"
must blkdiscard -o $((64 << 20)) -l $((32 << 20)) /dev/nbd0
must cmp -n $((32 << 20)) -i $((64 << 20)):0 /dev/nbd0 /dev/zero

step "the snapshot beside it"
must tap-ctl export "unix:$WORK/before.socket" -p "$pid" -m "$minor" -n before >/dev/null
client nbd1 "$WORK/before.socket"
must_equal "read only" 1 "$(cat /sys/block/nbd1/ro)"
must mount -o ro,noload /dev/nbd1 "$WORK/mnt"
must_equal "the file that was removed" "$sum" "$(md5sum <"$WORK/mnt/data")"
must umount "$WORK/mnt"
release nbd1
release nbd0
must tap-ctl destroy -p "$pid" -m "$minor"
must tap-img check "$store"
