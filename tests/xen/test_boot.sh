# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: hvm
# Needs: tap
# An HVM guest boots from its emulated disk: QEMU opens tapdisk's NBD socket, the
# BIOS reads a boot sector through it, and that reads and writes more. The data
# that it reads and writes are right; a snapshot holds the disk as it was
# before.
. ./lib.sh

image=$WORK/boot.img
store=$WORK/boot.cow
{ cat /payload/boot.bin; head -c 65536 /dev/urandom; } >"$image"
truncate -s 8M "$image"
must tap-img convert -f raw -O cow "$image" "$store" >/dev/null
must tap-img snapshot -c before "$store" >/dev/null
sum=$(tail -c +513 "$image" | head -c 65536 | od -An -v -t u2 -w2 | awk '{s += $1} END {print s % 65536}')

name=$(guest_name a)
cat >"$WORK/$name.cfg" <<-END
	name="$name"
	type="hvm"
	memory=128
	vcpus=1
	vga="none"
	usb=0
	boot="c"
	serial="file:$WORK/serial"
	disk=['backendtype=tap,format=raw,script=block-tapsnap,vdev=hda,target=cow:$store']
END
step "boot"
must xl create -q "$WORK/$name.cfg"
DOMID[a]=$(xl domid "$name")
says() { grep -aq "booted from its disk\|the disk is wrong" "$WORK/serial"; }
wait_until 90 "the boot sector has spoken" says
grep -aq "booted from its disk" "$WORK/serial" || fail "it says: $(tr -d '\r' <"$WORK/serial" | tail -1)"

step "it was through our socket"
backend=/local/domain/0/backend/vbd3/${DOMID[a]}
pid=$(xenstore-read "$backend/768/pid")
minor=$(xenstore-read "$backend/768/minor")
must_equal "clients of NBD" 1 "$(tap-ctl list --json -p "$pid" | jq '[.. | .nbd_connections? // empty] | add')"
must nbdcopy "nbd+unix:///?socket=/run/blktap-control/nbd$pid.$minor" "$WORK/after.img"
must_equal "what it has written" "tapsnap $sum" \
	"$(dd if="$WORK/after.img" bs=512 skip=200 count=1 status=none | head -c 7) $(od -An -t u2 -j $((200 * 512 + 8)) -N 2 "$WORK/after.img" | tr -d ' ')"
guest_destroy a

step "the snapshot is as before"
wait_until 20 "the store is free" tap-img check "$store"
must tap-img convert -f cow -l before -O raw "$store" "$WORK/before.img" >/dev/null
must cmp "$image" "$WORK/before.img"
