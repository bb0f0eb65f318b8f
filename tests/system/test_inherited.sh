#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_inherited.sh - programs that were started with standard descriptors
# closed and SIGCHLD ignored: none of their files gets such a descriptor, so that
# no message ends up in an image, and they can wait for children. And tapdisk
# under its caller's limits, which must not end a guest's disk.
#
# Output is TAP. BUILD says where the programs are. Needs: jq python3 qemu-utils
. "$(dirname "$0")/lib.sh"
export XENSTORED_PATH=$work/xenstored

bare() { "$@" <&- >&- 2>&-; }

# All three standard descriptors are /dev/null.
settled() {	# settled PID
	local number
	for number in 0 1 2; do
		is "$(readlink "/proc/$1/fd/$number")" /dev/null || return 1
	done
}

truncate -s 1M base.raw zeros.raw
tap-img create -b base.raw -F raw some.cow >/dev/null
tap-img commit -p some.cow <&- 2>&- >out
check "tap-img commit -p: the base holds the disk, not what was said" cmp base.raw zeros.raw
check "tap-img: output that is lost is no success" exits 1 bare tap-img info some.cow

bare tap-ctl create -a "aio:$work/base.raw"
server=$(tapdisks)
check "tap-ctl create, though what it prints is lost" is "$(tap-ctl list)" "pid=$server minor=0 state=0 args=aio:$work/base.raw"
check "of tapdisk" settled "$server"
check "tap-ctl says that it was" exits 5 bare tap-ctl list
check "the image is what it was" cmp base.raw zeros.raw
end_disks

tapdisk --log-stderr --no-sandbox <&- >&- 2>&- &
check "tapdisk by hand" eventually settled $!
kill $!
wait $!

/usr/bin/python3 "$here/tests/system/xenstored.py" "$XENSTORED_PATH" 2>/dev/null &
check "a xenstore" eventually test -S "$XENSTORED_PATH"
tapback --foreground --pidfile "$work/tapback.pid" <&- >&- 2>&- &
check "tapback" eventually settled $!
kill $!
wait $!

# These block on reading a file that is a pipe.
export TAPSNAP_SNAPSHOT_DIR=$work/snapshots uuid=01234567-89ab-4def-8123-456789abcdef
mkdir -p "snapshots/$uuid" psk
mkfifo "snapshots/$uuid/snapshotdata-one.xl" psk/keys.psk
xl-snapshot list "$uuid" <&- >&- 2>&- &
check "xl-snapshot" eventually settled $!
{ kill -KILL $!; wait $!; } 2>/dev/null
if command -v tapdisk-tls >/dev/null; then
	tapdisk-tls --server "$work/socket" --pid $$ --listen-fd 9 --tls-psk "$work/psk" 9<. <&- >&- 2>&- &
	check "tapdisk-tls" eventually settled $!
	kill $!
	wait $!
else
	skip "tapdisk-tls" "missing: GnuTLS, when it was to be built"
fi

check "SIGCHLD ignored: tap-ctl create" bash -c "trap '' CHLD; exec tap-ctl create -a 'aio:$work/base.raw'"
check "is served" test "$(tap-ctl list -m 0)"
end_disks
check "SIGCHLD ignored: tapdisk" timeout 10 bash -c "trap '' CHLD; exec tapdisk --log-stderr --idle-exit 1"
check "SIGCHLD ignored: tap-img convert to qcow2" bash -c "trap '' CHLD; exec tap-img convert -f raw -O qcow2 base.raw base.qcow2"
check "and back" bash -c "trap '' CHLD; exec tap-img convert -f qcow2 base.qcow2 again.raw"
check "the same bytes" cmp base.raw again.raw

truncate -s 4M limited.img
(ulimit -S -f 64 -t 1000; tap-ctl create -a "aio:$work/limited.img" >/dev/null)
server=$(tapdisks)
check "limits of size and time: tapdisk has none" is "$(grep -cE "^Max (cpu time|file size) +unlimited" "/proc/$server/limits")" 2
check "and writes beyond" qemu-io -f raw -c "write -P 7 2M 64k" -c "read -P 7 2M 64k" \
	"nbd+unix:///?socket=$TAPSNAP_RUN_DIR/nbd$server.0"
end_disks

finish
