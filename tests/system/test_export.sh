#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_export.sh - tap-ctl export: a disk and its snapshots on sockets of
# their own, read by libnbd and QEMU; incremental backup over NBD.
#
# Output is TAP. BUILD says where the programs are.
# Needs: libnbd-bin python3-libnbd qemu-utils; for overlays without room root (mount)

. "$(dirname "$0")/lib.sh"

qio() {
	local at=$1
	shift
	qemu-io -f raw "$@" "$at" | tee "$work/qemu-io"
	[ "${PIPESTATUS[0]}" = 0 ] && ! grep -q -i 'failed' "$work/qemu-io"
}

# at NAME: the URI of the export on that socket
at() {
	echo "nbd+unix:///$2?socket=$work/$1"
}

start() {
	tap-img create "$work/disk.cow" 64M && open_target 0 "cow:$work/disk.cow" || return
	qio "$uri" -c 'write -P 1 0 8M' -c 'write -P 2 20M 4M' && tap-ctl snapshot-create $disk -n monday &&
		qio "$uri" -c 'write -P 3 1M 64k' -c 'write -z -u 21M 1M' -c 'write -P 4 50M 4k' &&
		tap-ctl snapshot-create $disk -n tuesday && qio "$uri" -c 'write -P 5 0 64M'
}

# The disk on a Unix socket: written there, read on its own socket.
test_disk() {
	[ "$(tap-ctl export $disk "unix:$work/disk.sock")" = 1 ] || return
	[ "$(stat -c %a "$work/disk.sock")" = 600 ] || return
	qio "$(at disk.sock '')" -c 'write -P 6 5M 64k' -c flush && qio "$uri" -c 'read -P 6 5M 64k' &&
		fails 'no such export\|not found\|No such' nbdinfo "$(at disk.sock monday)"
}

test_read_only() {
	[ "$(tap-ctl export $disk -R "unix:$work/ro.sock")" = 2 ] || return
	nbdsh -c "
import errno
h = nbd.NBD(); h.set_strict_mode(0); h.connect_uri('$(at ro.sock '')')
for call in (lambda: h.pwrite(bytearray(512), 0), lambda: h.zero(4096, 0), lambda: h.trim(4096, 0)):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
    else:
        assert False
h.shutdown()
" && nbdinfo --is read-only "$(at ro.sock '')" && qio "$(at ro.sock '')" -r -c 'read -P 6 5M 64k'
}

test_snapshot() {
	tap-ctl export $disk -n monday "unix:$work/monday.sock" || return
	nbdinfo --is read-only "$(at monday.sock '')" && qio "$(at monday.sock '')" -r -c 'read -P 1 0 8M' \
		-c 'read -P 0 8M 12M' -c 'read -P 2 20M 4M' &&
		fails 'is open' tap-ctl snapshot-delete $disk -n monday
}

# Only an overlay's clients see the writes to it.
test_overlay() {
	tap-ctl export $disk -n monday -O "$work" "unix:$work/overlay.sock" || return
	local overlay
	overlay=$(at overlay.sock '')
	[ "$(nbdinfo --size "$overlay")" = $((64 << 20)) ] || return
	qio "$overlay" -c 'write -P 7 1M 64k' -c 'write -z -u 2M 1M' -c 'discard 20M 1M' -c flush &&
		qio "$overlay" -c 'read -P 7 1M 64k' -c 'read -P 0 2M 1M' -c 'read -P 1 3M 5M' -c 'read -P 2 21M 3M' &&
		qio "$(at monday.sock '')" -r -c 'read -P 1 0 8M' && qio "$uri" -c 'read -P 5 1M 64k' || return
	# also across a pause, in which no process has the store open
	tap-ctl pause $disk && tap-img check "$work/disk.cow" && tap-ctl unpause $disk &&
		qio "$overlay" -c 'read -P 7 1M 64k' && qio "$(at monday.sock '')" -r -c 'read -P 1 0 8M' || return
	[ "$(find "$work" -maxdepth 1 -type f -newer "$work/overlay.sock" ! -name 'output' ! -name 'qemu-io' ! -name '*.cow')" = '' ]
}

test_tcp() {
	local port
	tap-ctl export $disk -n tuesday "unix:$work/tuesday.sock" &&
		tap-ctl export $disk -n tuesday --json tcp:127.0.0.1:0 >"$work/tcp" || return
	port=$(sed 's/.*tcp:127.0.0.1:\([0-9]*\)".*/\1/' "$work/tcp")
	nbdcopy --connections=4 "nbd://127.0.0.1:$port" "$work/tuesday.img" &&
		nbdcopy "nbd+unix:///tuesday?socket=${uri#*socket=}" "$work/tuesday2.img" &&
		cmp "$work/tuesday.img" "$work/tuesday2.img"
}

# Without a host: on all addresses, IPv4 and IPv6 as available.
test_any_address() {
	local port
	port=$(tap-ctl export $disk -n tuesday --json tcp::0 | sed 's/.*"tcp::\([0-9]*\)".*/\1/')
	nbdinfo --size "nbd://127.0.0.1:$port" || return
	[ ! -e /proc/net/if_inet6 ] || ! grep -q ' lo$' /proc/net/if_inet6 || nbdinfo --size "nbd://[::1]:$port"
}

# Monday's copy plus the changes since then is Tuesday's.
test_incremental() {
	local own=${uri#*socket=} offset length flags rest
	nbdcopy "nbd+unix:///monday?socket=$own" "$work/backup.img" || return
	nbdinfo --map=tapsnap:changed:monday "nbd+unix:///tuesday?socket=$own" | tee "$work/changed"
	[ "$(awk '$3 { sum += $2 } END { print sum }' "$work/changed")" = $((65536 + (1 << 20) + 4096)) ] || return
	while read -r offset length flags rest; do
		[ "$flags" = 0 ] || dd if="$work/tuesday.img" of="$work/backup.img" bs=4096 skip=$((offset / 4096)) \
			seek=$((offset / 4096)) count=$((length / 4096)) conv=notrunc status=none || return
	done <"$work/changed"
	cmp "$work/backup.img" "$work/tuesday.img"
}

# QEMU treats such contexts as dirty bitmaps of a server; it shows dirty parts as not "data".
test_qemu_bitmap() {
	qemu-img map --output=json --image-opts \
		"driver=nbd,server.type=unix,server.path=${uri#*socket=},export=tuesday,x-dirty-bitmap=tapsnap:changed:monday" |
		tee "$work/map" | grep '"start": 1048576, "length": 65536,.*"data": false' && [ "$(grep -c '"data": false' "$work/map")" = 3 ]
}

test_list() {
	tap-ctl info $disk | tee "$work/info" && [ "$(grep -c '^export' "$work/info")" = 7 ] &&
		grep -q 'overlay.sock, snapshot monday, with an overlay' "$work/info"
}

# Unexport hangs up on a client in the middle, but not on those of another export and of the disk.
test_unexport() {
	nbdsh -c "
import os, subprocess
h = nbd.NBD(); h.connect_uri('$(at overlay.sock '')')
other = nbd.NBD(); other.connect_uri('$(at monday.sock '')')
h.pwrite(bytearray(4096), 0)
for i in range(50):
    h.aio_pwrite(nbd.Buffer(1 << 20), i << 20)
subprocess.check_call(['tap-ctl', 'unexport', *'$disk'.split(), '4'])
try:
    while True:
        h.poll(-1)
        if h.aio_is_dead() or h.aio_is_closed():
            break
except nbd.Error:
    pass
assert other.pread(4096, 0) == b'\1' * 4096
other.shutdown()
" && [ ! -e "$work/overlay.sock" ] && fails 'no export 4' tap-ctl unexport $disk 4 &&
		tap-ctl unexport $disk 3 && tap-ctl snapshot-delete $disk -n monday
}

# After a change of image the old one's snapshots cannot be read, and it is closed; back on it they are available again.
test_other_image() {
	tap-img create "$work/other.cow" 64M && tap-ctl pause $disk || return
	nbdsh -c "
import subprocess
h = nbd.NBD(); h.connect_uri('nbd+unix:///tuesday?socket=${uri#*socket=}')
" && echo 'a snapshot was opened while the disk was paused' && return 1
	tap-ctl unpause $disk -a "cow:$work/other.cow" && tap-img check "$work/disk.cow" &&
		fails . nbdinfo "nbd+unix:///tuesday?socket=${uri#*socket=}" && fails . nbdinfo "$(at tuesday.sock '')" &&
		tap-ctl pause $disk && tap-ctl unpause $disk -a "cow:$work/disk.cow" &&
		qio "$(at tuesday.sock '')" -r -c 'read -P 3 1M 64k' && tap-ctl snapshot-list $disk | grep tuesday
}

test_refusals() {
	fails 'neither unix' tap-ctl export $disk /tmp/x &&
		fails 'no snapshot called' tap-ctl export $disk -n sunday "unix:$work/x" && [ ! -e "$work/x" ] &&
		fails 'name it with -n' tap-ctl export $disk -O "$work" "unix:$work/x" &&
		fails 'in use' tap-ctl export $disk "unix:$work/disk.sock" &&
		fails 'not tcp:' tap-ctl export $disk tcp:1234 &&
		fails 'number from 0 to 65535' tap-ctl export $disk tcp:127.0.0.1:65536 &&
		fails 'number from 0 to 65535' tap-ctl export $disk tcp::99999999999999999999999 &&
		fails 'number from 0 to 65535' tap-ctl export $disk tcp::nbd &&
		fails 'number from 0 to 65535' tap-ctl export $disk tcp::-1 &&
		fails 'not an export number' tap-ctl unexport $disk one
}

# The socket of a killed tapdisk.
test_stale_socket() {
	python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('$work/stale.sock')" && touch "$work/no.sock" &&
		fails 'in use' tap-ctl export $disk "unix:$work/no.sock" && rm "$work/no.sock" || return
	local export
	export=$(tap-ctl export $disk "unix:$work/stale.sock") && [ "$(stat -c %a "$work/stale.sock")" = 600 ] &&
		nbdinfo --size "$(at stale.sock '')" && tap-ctl unexport $disk "$export"
}

# Invalid commands on the control socket, and an export that ends with its connection.
test_control() {
	python3 - "$TAPSNAP_RUN_DIR/ctl$pid" "$minor" "$work" <<-'EOF'
	import json, os, socket, sys

	control, minor, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]

	def call(connection, fds, **members):
	    line = json.dumps({'version': 1, 'minor': minor, **members}).encode() + b'\n'
	    if fds:
	        socket.send_fds(connection, [line], fds)
	    else:
	        connection.sendall(line)
	    return json.loads(connection.makefile().readline())

	def connect():
	    connection = socket.socket(socket.AF_UNIX)
	    connection.connect(control)
	    return connection

	listener = socket.socket(socket.AF_UNIX)
	listener.bind(work + '/held.sock')
	idle = socket.socket(socket.AF_UNIX)
	null = os.open('/dev/null', os.O_RDWR)
	connection = connect()
	address = 'unix:' + work + '/held.sock'
	for fds, members in (([], {}), ([null], {}), ([idle.fileno()], {}), ([listener.fileno()], {}),
	                     ([null, null, null], {}), ([null, null], {'snapshot': 'tuesday'}),
	                     ([listener.fileno(), null], {}), ([null], {'address': 'a\nb'}),
	                     ([null], {'snapshot': 'x' * 256}), ([listener.fileno()], {'path': 'held.sock'})):
	    reply = call(connection, fds, **{'command': 'export', 'address': address, **members})
	    assert not reply['ok'], reply
	assert not call(connection, [], command='unexport', export=0)['ok']
	assert not call(connection, [], command='unexport', export=1 << 40)['ok']
	listener.listen()
	assert call(connection, [listener.fileno()], command='export', address=address, path=address[5:], held=True)['ok']
	other = connect()
	exports = lambda: [e['address'] for e in call(other, [], command='info')['disk']['exports']]
	assert address in exports()
	connection.close()
	while address in exports():
	    pass
	assert not os.path.exists(address[5:])
	EOF
}

# A raw disk that has moved onto a store has the store's snapshots.
test_raw() {
	local own
	truncate -s 16M "$work/raw.img" && open_target 1 "aio:$work/raw.img" || return
	own=${socket[1]}
	qio "${uri[1]}" -c 'write -P 1 0 1M' &&
		tap-ctl snapshot-create ${disk[1]} --store "$work/raw.cow" -n first &&
		qio "${uri[1]}" -c 'write -P 2 0 64k' &&
		qio "nbd+unix:///first?socket=$own" -r -c 'read -P 1 0 1M' -c 'read -P 0 1M 15M' &&
		[ "$(nbdinfo --map=tapsnap:changed:first "nbd+unix:///?socket=$own" | awk '$3 { print $1, $2 }')" = '0 65536' ] &&
		[ "$(nbdinfo --map "nbd+unix:///first?socket=$own" | awk '$3 == 0 { print $1, $2 }')" = '0 1048576' ] &&
		tap-ctl export ${disk[1]} -n first -O "$work" "unix:$work/raw.sock" &&
		qio "$(at raw.sock '')" -c 'write -P 3 64k 64k' -c 'read -P 1 0 64k' -c 'read -P 3 64k 64k' -c 'read -P 1 128k 64k'
	local status=$?
	tap-ctl destroy ${disk[1]} && return $status
}

# full_overlay PYTHON: run PYTHON on an export with an overlay on a full file system; ending it frees all space
full_overlay() {
	local id
	id=$(tap-ctl export $disk -n tuesday -O small "unix:$work/full.sock") || return
	timeout 60 nbdsh -c "
import errno, subprocess, time
data = nbd.Buffer.from_bytearray(bytearray(b'\x08' * (1 << 20)))
def write_all():
    try:
        for i in range(16):
            h.pwrite(data.to_bytearray(), i << 20)
        return 'done'
    except nbd.Error as e:
        return errno.errorcode[e.errnum]
def begin_all():
    for i in range(16):
        h.aio_pwrite(data, i << 20)
def tap_ctl(command, *options):
    subprocess.run(['tap-ctl', command, *'$disk'.split(), *options], check=True, timeout=20)
h.connect_uri('$(at full.sock '')')
assert write_all() == 'ENOSPC' and write_all() == 'ENOSPC'
assert h.pread(1 << 20, 0) == data.to_bytearray()
export = '$id'
$1
" || return
	[ "$(json "select(.ok) | .disk.exports // [] | map(select(.id == $id)) | length" tap-ctl info $disk)" = 0 ] || tap-ctl unexport $disk "$id" || return
	eventually small_is_empty
}

small_is_empty() { [ "$(stat -fc %b small)" = "$(stat -fc %f small)" ]; }

pause_full_overlay() {
	full_overlay "
begin_all()
tap_ctl('pause')
tap_ctl('unpause')
while h.aio_in_flight():
    h.poll(-1)
assert write_all() == 'ENOSPC'
subprocess.run('mount -o remount,size=64M small'.split(), check=True)
time.sleep(1)
assert write_all() == 'done'
h.flush()
h.shutdown()
" && mount -o remount,size=8M small
}

end_full_overlay() {
	full_overlay "
begin_all()
tap_ctl('unexport', export)
"
}

test_end() {
	local sockets=("$work"/*.sock)
	[ ${#sockets[@]} -gt 0 ] && tap-ctl destroy $disk || return
	! ls "$work"/*.sock
}

check 'a disk in a store, with two snapshots' start
[ "$failed" = 0 ] || { echo 'Bail out! no disk, no test'; exit 1; }
check 'the disk on a socket of its own' test_disk
check 'read-only' test_read_only
check 'a snapshot' test_snapshot
check 'a snapshot with an overlay' test_overlay
check 'a snapshot over TCP' test_tcp
check 'on every address' test_any_address
check 'incremental backup' test_incremental
check 'QEMU knows what has changed' test_qemu_bitmap
check 'exports are listed' test_list
check 'the end of an export in use' test_unexport
check 'another image, and back' test_other_image
check 'what is refused' test_refusals
check 'a socket that nobody listens on' test_stale_socket
check 'the control socket' test_control
check 'a raw disk that is in a store' test_raw
if [ "$(id -u)" = 0 ] && mkdir small && mount -t tmpfs -o size=8M none small; then
	check 'an overlay that has no room: its client is told, the disk can be paused' pause_full_overlay
	check 'and it ends when it is told to' end_full_overlay
else
	skip 'overlays that have no room' 'needs root, and a file system to fill'
fi
check 'the end of the disk is that of its exports' test_end
finish
