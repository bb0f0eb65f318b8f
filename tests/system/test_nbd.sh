#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_nbd.sh - the NBD server of a real tapdisk, used by other people's
# clients: libnbd (nbdinfo, nbdcopy, nbdsh) and QEMU (qemu-img, qemu-io).
#
# Output is TAP. BUILD says where the programs are.
# Needs: libnbd-bin python3-libnbd nbdkit qemu-utils

. "$(dirname "$0")/lib.sh"
MIB=1048576

# disk 0 is in use: $pid, $minor, $disk, $socket and $uri are its values
attach() { open_target 0 "$@"; }
detach() { tap-ctl destroy $disk; }

same_as_image() {
	cmp "$1" "$work/image"
}

qio() {
	qemu-io -f raw -t none "$@" "$uri" | tee "$work/qemu-io"
	[ "${PIPESTATUS[0]}" = 0 ] && ! grep -q -i 'failed' "$work/qemu-io"
}

# The number of allocated bytes of the image.
allocated() {
	echo $(($(stat -c '%b * %B' "$work/image")))
}

test_description() {
	nbdinfo --json "$uri" | tee "$work/info" &&
		grep -q "\"export-size\": $((64 * MIB))," "$work/info" &&
		grep -q '"block_size_minimum": 512' "$work/info" &&
		grep -q '"block_size_preferred": 4096' "$work/info" &&
		grep -q '"block_size_maximum": 33554432' "$work/info"
}

test_flags() {
	local can
	for can in connect write flush fua trim zero multi-conn; do
		nbdinfo --can $can "$uri" || { echo "cannot $can"; return 1; }
	done
	! nbdinfo --is read-only "$uri"
}

test_list() {
	nbdinfo --list "$uri" | tee "$work/info" && [ "$(grep -c '^export=' "$work/info")" = 1 ]
}

test_qemu_list() {
	qemu-nbd -L -k "$socket" | tee "$work/info" && grep -q 'exports available: 1' "$work/info" &&
		grep -q 'base:allocation' "$work/info" && grep -q 'flags:.*flush fua trim zeroes df multi cache fast-zero' "$work/info"
}

test_map() {
	qio -c 'discard 0 64M' -c 'write -P 1 8M 4M' -c flush || return
	[ "$(nbdinfo --map --json "$uri" | tr -d ' \n')" = \
		'[{"offset":0,"length":8388608,"type":3,"description":"hole,zero"},{"offset":8388608,"length":4194304,"type":0,"description":"data"},{"offset":12582912,"length":54525952,"type":3,"description":"hole,zero"}]' ] &&
		qemu-img map -f raw --output=json "$uri" | grep '"start": 8388608, "length": 4194304, .*"data": true'
}

# nbdkit as the client, with its own way of copying.
test_nbdkit() {
	nbdkit -U - nbd "socket=$socket" --run "nbdcopy '$work/random' \"\$uri\" && nbdcopy \"\$uri\" '$work/kit'" &&
		same_as_image "$work/random" && same_as_image "$work/kit"
}

test_socket_is_private() {
	[ "$(stat -c %a "$socket")" = 600 ]
}

test_copy_in() {
	nbdcopy --connections=4 --requests=32 "$work/random" "$uri" && same_as_image "$work/random"
}

test_copy_out() {
	nbdcopy --connections=4 "$uri" "$work/copy" && same_as_image "$work/copy"
}

test_qemu_img() {
	qemu-img convert -n -f raw -O raw "$work/sparse" "$uri" && same_as_image "$work/sparse" &&
		qemu-img compare -f raw -F raw "$work/sparse" "$uri"
}

test_qemu_io() {
	qio -c 'write -P 0x5a 512 512' -c 'write -f -P 0xa5 1M 3M' -c flush -c 'read -P 0x5a 512 512' \
		-c 'read -P 0xa5 1M 3M' &&
		qio -r -c 'read -P 0xa5 1M 3M'
}

# Written zeroes read as zeroes; with "unmap" they free the space, without they keep it.
test_zero() {
	qio -c 'write -P 0x77 8M 16M' -c flush || return
	local full
	full=$(allocated)
	qio -c 'write -z 8M 8M' -c flush -c 'read -P 0 8M 8M' -c 'read -P 0x77 16M 8M' || return
	[ "$(allocated)" -ge "$full" ] || { echo 'zeroes made a hole though told not to'; return 1; }
	qio -c 'write -z -u 16M 8M' -c flush -c 'read -P 0 16M 8M' || return
	[ "$(allocated)" -le $((full - 7 * MIB)) ] || { echo 'no space came back'; return 1; }
}

test_trim() {
	qio -c 'write -P 0x33 32M 16M' -c flush || return
	local full
	full=$(allocated)
	qio -d unmap -c 'discard 32M 16M' -c flush || return
	[ "$(allocated)" -le $((full - 15 * MIB)) ] || { echo 'no space came back'; return 1; }
}

# One connection sees the writes of another, and its flush covers them.
test_two_connections() {
	nbdsh -c "
import os
a = nbd.NBD(); b = nbd.NBD()
a.connect_uri('$uri'); b.connect_uri('$uri')
assert a.can_multi_conn()
for i in range(64):
    data = os.urandom(65536)
    a.pwrite(data, i * 65536)
    b.flush()
    assert b.pread(65536, i * 65536) == data
a.shutdown(); b.shutdown()
"
}

test_parallel_requests() {
	nbdsh -c "
import os
h = nbd.NBD(); h.connect_uri('$uri')
data = [os.urandom(4096) for i in range(1000)]
for i, d in enumerate(data):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(d)), i * 8192, flags=nbd.CMD_FLAG_FUA if i % 7 == 0 else 0)
completed = 0
while completed < len(data):
    h.poll(-1)
    while completed < len(data) and h.aio_peek_command_completed() > 0:
        assert h.aio_command_completed(h.aio_peek_command_completed())
        completed += 1
for i, d in enumerate(data):
    assert h.pread(4096, i * 8192) == d
h.shutdown()
"
}

test_unaligned_is_refused() {
	nbdsh -c "
import errno
h = nbd.NBD(); h.set_strict_mode(0); h.connect_uri('$uri')
for call in (lambda: h.pread(511, 0), lambda: h.pread(512, 1), lambda: h.pwrite(bytearray(100), 0),
             lambda: h.pread(512, 64 << 20), lambda: h.trim(512, 3)):
    try:
        call()
    except nbd.Error as e:
        assert e.errnum == errno.EINVAL, e
    else:
        assert False
assert len(h.pread(512, 0)) == 512
h.shutdown()
"
}

test_other_export() {
	fails 'No such file or directory for export: other' nbdinfo "nbd+unix:///other?socket=$socket"
}

# Whether the process has a socket open.
connected() {
	find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null | grep -q .
}

# Clients that are killed in the middle do no harm.
test_killed_clients() {
	local client
	for _ in 1 2 3 4 5; do
		nbdcopy --connections=4 "$work/random" "$uri" &
		client=$!
		# wait until it is connected, however long that takes
		until connected $client || ! kill -0 $client 2>/dev/null; do
			:
		done
		kill -9 $client
		wait $client
	done 2>/dev/null
	test_copy_in
}

# A pause lets requests in flight finish and holds the others; none is lost or fails.
test_pause_under_load() {
	local client
	nbdcopy --connections=4 "$work/random" "$uri" &
	client=$!
	for _ in 1 2 3 4 5; do
		tap-ctl pause $disk || return
		tap-ctl unpause $disk || return
	done
	wait $client && same_as_image "$work/random"
}

test_end_removes_socket() {
	detach && [ ! -e "$socket" ]
}

test_read_only() {
	attach "aio:$work/image" -R || return
	nbdinfo --is read-only "$uri" && nbdcopy "$uri" "$work/copy" && same_as_image "$work/copy" &&
		fails 'read-only\|permitted' nbdcopy "$work/sparse" "$uri" && same_as_image "$work/copy" && detach
}

test_null() {
	attach null:10G || return
	[ "$(nbdinfo --size "$uri")" = $((10240 * MIB)) ] && detach
}

# Opened by a raw control message, as a toolstack that wants sectors of 4096 bytes does.
test_4096() {
	minor=$(basename "$(tap-ctl allocate)") && minor=${minor#tapdisk-} && pid=$(tap-ctl spawn) || return
	disk="-p $pid -m $minor"
	socket=$TAPSNAP_RUN_DIR/nbd$pid.$minor
	uri="nbd+unix:///?socket=$socket"
	tap-ctl attach $disk || return
	nbdsh -c "
import errno, json, os, socket
control = socket.socket(socket.AF_UNIX)
control.connect('$TAPSNAP_RUN_DIR/ctl$pid')
request = {'version': 1, 'command': 'open', 'minor': $minor, 'target': 'aio:$work/image', 'sector_size': 4096}
control.sendall((json.dumps(request) + chr(10)).encode())
reply = json.loads(control.makefile().readline())
assert reply['ok'], reply
h = nbd.NBD(); h.set_strict_mode(0); h.connect_uri('$uri')
assert h.get_block_size(nbd.SIZE_MINIMUM) == 4096
data = os.urandom(12288)
h.pwrite(data, 4096)
assert h.pread(12288, 4096) == data
try:
    h.pread(512, 512)
except nbd.Error as e:
    assert e.errnum == errno.EINVAL, e
else:
    assert False
h.shutdown()
" && nbdcopy "$work/random" "$uri" && same_as_image "$work/random" && detach
}

truncate -s 64M "$work/image"
dd if=/dev/urandom of="$work/random" bs=1M count=64 status=none
truncate -s 64M "$work/sparse"
dd if=/dev/urandom of="$work/sparse" bs=1M count=3 seek=20 conv=notrunc status=none

check 'a tapdisk serves a raw file' attach "aio:$work/image"
[ "$failed" = 0 ] || { echo 'Bail out! no disk, no test'; exit 1; }
check 'size and block sizes' test_description
check 'what it can do' test_flags
check 'one export is listed' test_list
check 'QEMU lists it' test_qemu_list
check 'the socket is only for root' test_socket_is_private
check 'nbdcopy into the disk' test_copy_in
check 'nbdcopy out of the disk' test_copy_out
check 'qemu-img convert and compare' test_qemu_img
check 'qemu-io patterns' test_qemu_io
check 'zeroes, with and without holes' test_zero
check 'trim gives space back' test_trim
check 'what is allocated' test_map
check 'nbdkit' test_nbdkit
check 'two connections, one flush' test_two_connections
check 'many requests at once' test_parallel_requests
check 'unaligned and outside: EINVAL' test_unaligned_is_refused
check 'no other export' test_other_export
check 'clients killed in the middle' test_killed_clients
check 'pause under load' test_pause_under_load
check 'the socket goes with the disk' test_end_removes_socket
check 'read-only disk' test_read_only
check 'null disk' test_null
check 'sectors of 4096 bytes' test_4096
finish
