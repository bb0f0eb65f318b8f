#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_nbd.sh - the NBD server of a real tapdisk, used by other people's
# clients: libnbd (nbdinfo, nbdcopy, nbdsh) and QEMU (qemu-img, qemu-io).
#
# Prints TAP. Takes the programs from $BUILD (default: build), works in a
# folder and a run directory of its own and removes both.
# Needs: libnbd-bin python3-libnbd nbdkit qemu-utils

set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=$(realpath "${BUILD:-build}")
PATH=$BUILD/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORK=$(mktemp -d /var/tmp/tapsnap-nbd.XXXXXX) || exit 1
export TAPSNAP_RUN_DIR=$WORK/run
mkdir -m 700 "$TAPSNAP_RUN_DIR"
MIB=1048576
number=0
failures=0
pid='' minor='' socket='' uri=''

cleanup() {
	[ -z "$pid" ] || tap-ctl destroy -p "$pid" -m "$minor" >/dev/null 2>&1
	rm -rf "$WORK"
}
trap cleanup EXIT

# check NAME COMMAND...: one test; its output is shown when it fails
check() {
	local name=$1
	shift
	number=$((number + 1))
	if "$@" >"$WORK/output" 2>&1; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		echo "# failed: $*"
		sed 's/^/# /' "$WORK/output"
		failures=$((failures + 1))
	fi
}

# fails TEXT COMMAND...: the command fails, and says TEXT
fails() {
	local text=$1
	shift
	if "$@" >"$WORK/refusal" 2>&1; then
		echo "succeeded: $*"
		return 1
	fi
	cat "$WORK/refusal"
	grep -q -i -- "$text" "$WORK/refusal"
}

# attach TARGET [OPTION...]: a tapdisk for it; sets pid, minor, socket and uri
attach() {
	local target=$1 line
	shift
	tap-ctl create -a "$target" "$@" || return
	line=$(tap-ctl list -t "${target%%:*}" -f "${target#*:}")
	pid=$(sed -n 's/.*pid=\([0-9]*\).*/\1/p' <<<"$line")
	minor=$(sed -n 's/.*minor=\([0-9]*\).*/\1/p' <<<"$line")
	socket=$TAPSNAP_RUN_DIR/nbd$pid.$minor
	uri="nbd+unix:///?socket=$socket"
}

detach() {
	tap-ctl destroy -p "$pid" -m "$minor" && pid=''
}

same_as_image() {
	cmp "$1" "$WORK/image"
}

qio() {
	qemu-io -f raw -t none "$@" "$uri"
}

# The number of bytes of the image that take space.
allocated() {
	echo $(($(stat -c '%b * %B' "$WORK/image")))
}

test_description() {
	nbdinfo --json "$uri" | tee "$WORK/info" &&
		grep -q "\"export-size\": $((64 * MIB))," "$WORK/info" &&
		grep -q '"block_size_minimum": 512' "$WORK/info" &&
		grep -q '"block_size_maximum": 33554432' "$WORK/info"
}

test_flags() {
	local can
	for can in connect write flush fua trim zero multi-conn; do
		nbdinfo --can $can "$uri" || { echo "cannot $can"; return 1; }
	done
	! nbdinfo --is read-only "$uri"
}

test_list() {
	nbdinfo --list "$uri" | tee "$WORK/info" && [ "$(grep -c '^export=' "$WORK/info")" = 1 ]
}

test_qemu_list() {
	qemu-nbd -L -k "$socket" | tee "$WORK/info" && grep -q 'exports available: 1' "$WORK/info" &&
		grep -q 'base:allocation' "$WORK/info" && grep -q 'flags:.*flush fua trim zeroes df multi cache fast-zero' "$WORK/info"
}

test_map() {
	qio -c 'discard 0 64M' -c 'write -P 1 8M 4M' -c flush || return
	[ "$(nbdinfo --map --json "$uri" | tr -d ' \n')" = \
		'[{"offset":0,"length":8388608,"type":3,"description":"hole,zero"},{"offset":8388608,"length":4194304,"type":0,"description":"data"},{"offset":12582912,"length":54525952,"type":3,"description":"hole,zero"}]' ] &&
		qemu-img map -f raw --output=json "$uri" | grep '"start": 8388608, "length": 4194304, .*"data": true'
}

# nbdkit as the client, with its own way of copying.
test_nbdkit() {
	nbdkit -U - nbd "socket=$socket" --run "nbdcopy '$WORK/random' \"\$uri\" && nbdcopy \"\$uri\" '$WORK/kit'" &&
		same_as_image "$WORK/random" && same_as_image "$WORK/kit"
}

test_socket_is_private() {
	[ "$(stat -c %a "$socket")" = 600 ]
}

test_copy_in() {
	nbdcopy --connections=4 --requests=32 "$WORK/random" "$uri" && same_as_image "$WORK/random"
}

test_copy_out() {
	nbdcopy --connections=4 "$uri" "$WORK/copy" && same_as_image "$WORK/copy"
}

test_qemu_img() {
	qemu-img convert -n -f raw -O raw "$WORK/sparse" "$uri" && same_as_image "$WORK/sparse" &&
		qemu-img compare -f raw -F raw "$WORK/sparse" "$uri"
}

test_qemu_io() {
	qio -c 'write -P 0x5a 512 512' -c 'write -f -P 0xa5 1M 3M' -c flush -c 'read -P 0x5a 512 512' \
		-c 'read -P 0xa5 1M 3M' &&
		qio -r -c 'read -P 0xa5 1M 3M' | grep -qv failed
}

# Zeroes read as zeroes; with "unmap" they give the space back, without they keep it.
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

# What one connection wrote, another one sees, and its flush covers it.
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

# Does the process have a socket open?
connected() {
	find "/proc/$1/fd" -lname 'socket:*' 2>/dev/null | grep -q .
}

# Clients that are killed in the middle harm nobody.
test_killed_clients() {
	local client
	for _ in 1 2 3 4 5; do
		nbdcopy --connections=4 "$WORK/random" "$uri" &
		client=$!
		# let it get as far as a connection, whatever that takes
		until connected $client || ! kill -0 $client 2>/dev/null; do
			:
		done
		kill -9 $client
		wait $client
	done 2>/dev/null
	test_copy_in
}

# A pause lets what is in flight finish and holds the rest; nothing is lost or reported failed.
test_pause_under_load() {
	local client
	nbdcopy --connections=4 "$WORK/random" "$uri" &
	client=$!
	for _ in 1 2 3 4 5; do
		tap-ctl pause -p "$pid" -m "$minor" || return
		tap-ctl unpause -p "$pid" -m "$minor" || return
	done
	wait $client && same_as_image "$WORK/random"
}

test_end_removes_socket() {
	detach && [ ! -e "$socket" ]
}

test_read_only() {
	attach "aio:$WORK/image" -R || return
	nbdinfo --is read-only "$uri" && nbdcopy "$uri" "$WORK/copy" && same_as_image "$WORK/copy" &&
		fails 'read-only\|permitted' nbdcopy "$WORK/sparse" "$uri" && same_as_image "$WORK/copy" && detach
}

test_null() {
	attach null:10G || return
	[ "$(nbdinfo --size "$uri")" = $((10240 * MIB)) ] && detach
}

# Opened by a raw control message, as a toolstack that wants sectors of 4096 bytes does.
test_4096() {
	minor=$(basename "$(tap-ctl allocate)") && minor=${minor#tapdisk-} && pid=$(tap-ctl spawn) || return
	socket=$TAPSNAP_RUN_DIR/nbd$pid.$minor
	uri="nbd+unix:///?socket=$socket"
	tap-ctl attach -p "$pid" -m "$minor" || return
	nbdsh -c "
import errno, json, os, socket
control = socket.socket(socket.AF_UNIX)
control.connect('$TAPSNAP_RUN_DIR/ctl$pid')
request = {'version': 1, 'command': 'open', 'minor': $minor, 'target': 'aio:$WORK/image', 'sector_size': 4096}
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
" && nbdcopy "$WORK/random" "$uri" && same_as_image "$WORK/random" && detach
}

truncate -s 64M "$WORK/image"
dd if=/dev/urandom of="$WORK/random" bs=1M count=64 status=none
truncate -s 64M "$WORK/sparse"
dd if=/dev/urandom of="$WORK/sparse" bs=1M count=3 seek=20 conv=notrunc status=none

check 'a tapdisk serves a raw file' attach "aio:$WORK/image"
[ $failures -eq 0 ] || { echo 'Bail out! no disk, no test'; exit 1; }
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
echo "1..$number"
[ $failures -eq 0 ]
