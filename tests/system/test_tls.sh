#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_tls.sh - exports with TLS, X.509 and pre-shared keys: libnbd's and
# QEMU's clients, and clients that are refused.
#
# Output is TAP. BUILD says where the programs are.
# Needs: libnbd-bin python3-libnbd qemu-utils gnutls-bin

. "$(dirname "$0")/lib.sh"
psk_port='' x509_port='' open_port=''

# sign DIRECTORY NAME USE: NAME-key.pem, NAME-cert.pem
sign() {
	certtool --generate-privkey --ecc --outfile "$1/$2-key.pem" &&
		printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_%s\nsigning_key\n' "$3" >"$1/info" &&
		certtool --generate-certificate --load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
			--load-privkey "$1/$2-key.pem" --template "$1/info" --outfile "$1/$2-cert.pem"
}

# authority DIRECTORY: make a CA, and a server's and a client's certificate signed by it
authority() {
	mkdir "$1" && certtool --generate-privkey --ecc --outfile "$1/ca-key.pem" &&
		printf 'cn = test\nca\ncert_signing_key\n' >"$1/info" &&
		certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template "$1/info" --outfile "$1/ca-cert.pem" &&
		sign "$1" server server && sign "$1" client client
}

make_credentials() {
	authority "$work/x509" && authority "$work/stranger" && cp "$work/x509/ca-cert.pem" "$work/stranger/" &&
		mkdir "$work/none" && cp "$work/x509/ca-cert.pem" "$work/none/" &&
		mkdir "$work/psk" "$work/wrong" && psktool -u alice -p "$work/psk/keys.psk" && psktool -u bob -p "$work/psk/keys.psk" &&
		psktool -u alice -p "$work/wrong/keys.psk"
}

# export_on OPTION...: prints the port. tap-ctl inherits SIGALRM ignored and blocked, but sessions must be ended by it.
export_on() {
	env --ignore-signal=ALRM --block-signal=ALRM tap-ctl export $disk "$@" --json tcp:127.0.0.1:0 | sed 's/.*:\([0-9]*\)".*/\1/'
}

start() {
	truncate -s 16M "$work/image" && dd if=/dev/urandom of="$work/random" bs=1M count=16 status=none &&
		open_target 0 "aio:$work/image" || return
	psk_port=$(export_on -k "$work/psk") && x509_port=$(export_on -x "$work/x509" -V) &&
		open_port=$(export_on -x "$work/x509") && [ "$psk_port" ] && [ "$x509_port" ] && [ "$open_port" ]
}

psk_uri() {
	echo "nbds://${1:-alice}@localhost:$psk_port?tls-psk-file=${2:-$work/psk}/keys.psk"
}

x509_uri() {
	echo "nbds://localhost:$1/?tls-certificates=$2"
}

test_psk() {
	nbdcopy --connections=4 "$work/random" "$(psk_uri)" && cmp "$work/random" "$work/image" &&
		nbdcopy "$(psk_uri bob)" "$work/copy" && cmp "$work/random" "$work/copy"
}

test_x509() {
	nbdcopy --connections=4 "$(x509_uri "$x509_port" "$work/x509")" "$work/copy2" && cmp "$work/random" "$work/copy2" &&
		nbdinfo "$(x509_uri "$x509_port" "$work/x509")" | grep 'protocol: newstyle-fixed with TLS, using structured'
}

# Without -V clients need no certificate of their own; they still verify ours.
test_x509_of_server_only() {
	nbdinfo --size "$(x509_uri "$open_port" "$work/none")"
}

test_qemu() {
	qemu-img compare --object "tls-creds-psk,id=t,dir=$work/psk,endpoint=client,username=alice" --image-opts \
		"driver=raw,file.driver=nbd,file.host=localhost,file.port=$psk_port,file.tls-creds=t" \
		"driver=raw,file.driver=file,file.filename=$work/image" &&
		qemu-img compare --object "tls-creds-x509,id=t,dir=$work/x509,endpoint=client" --image-opts \
			"driver=raw,file.driver=nbd,file.host=localhost,file.port=$x509_port,file.tls-creds=t" \
			"driver=raw,file.driver=file,file.filename=$work/image"
}

test_not_let_in() {
	fails . nbdinfo "nbd://localhost:$psk_port" && fails . nbdinfo "$(psk_uri alice "$work/wrong")" &&
		fails . nbdinfo "$(psk_uri mallory)" && fails . nbdinfo "nbd://localhost:$x509_port" &&
		fails . nbdinfo "$(x509_uri "$x509_port" "$work/none")" &&
		fails . nbdinfo "$(x509_uri "$x509_port" "$work/stranger")" && nbdinfo --size "$(psk_uri)"
}

# Some clients are silent, some stop in the middle of the handshake, some send nonsense; others are still served.
test_hostile() {
	python3 - "$psk_port" "$(psk_uri)" <<-'EOF'
	import os, random, socket, subprocess, sys

	def connect():
	    connection = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
	    assert connection.recv(18, socket.MSG_WAITALL)[:16] == b'NBDMAGICIHAVEOPT'
	    return connection

	def option(number, data=b'', length=None):
	    length = len(data) if length is None else length
	    return b'IHAVEOPT' + number.to_bytes(4, 'big') + length.to_bytes(4, 'big') + data

	flags = (3).to_bytes(4, 'big')
	for data in (b'\xff' * 4, flags + b'x' * 16, flags + option(7, b'', 0xffffffff), flags + option(1, b'disk'),
	             flags + option(2), flags + option(5) + b'\0' * 100, flags + 70 * option(3)):
	    connection = connect()
	    connection.sendall(data)
	    while True:
	        try:
	            if not connection.recv(4096):
	                break
	        except ConnectionResetError:
	            break

	# any other option is answered that TLS is required first
	connection = connect()
	for number in (3, 6, 7, 8, 9, 10, 77):
	    connection.sendall((flags if number == 3 else b'') + option(number, b'\0' * 6))
	    reply = connection.recv(20, socket.MSG_WAITALL)
	    assert reply[8:20] == number.to_bytes(4, 'big') + b'\x80\0\0\5\0\0\0\0', reply

	stalled = [connect() for i in range(5)]
	for i, connection in enumerate(stalled):
	    connection.sendall((flags + option(5) + b'\x16\3\1\2\0\1')[:i * 7])
	for i in range(30):
	    connection = connect()
	    connection.sendall(flags + option(5) + os.urandom(random.randrange(600)))
	    connection.close()
	    subprocess.check_call(['nbdinfo', '--size', sys.argv[2]])
	EOF
}

# Strangers who only connect keep nobody out, neither those who have a key nor those who are in; and they stay few.
test_silent() {
	python3 - "$psk_port" "$(psk_uri)" "$work" <<-'EOF'
	import nbd, socket, subprocess, sys, time

	port, uri, work = sys.argv[1:]
	inside = nbd.NBD()
	inside.set_uri_allow_local_file(True)
	inside.connect_uri(uri)
	silent = []
	for number in range(100):
	    connection = socket.create_connection(('127.0.0.1', int(port)), timeout=10)
	    silent.append(connection)
	    # all that wait at the same time have been accepted
	    if number % 16 == 15:
	        assert connection.recv(18, socket.MSG_WAITALL)[:8] == b'NBDMAGIC'
	        subprocess.run(['nbdinfo', '--size', uri], check=True, timeout=10)
	assert inside.pread(512, 0)
	for connection in silent[:64]:
	    try:
	        while connection.recv(4096):
	            pass
	    except ConnectionResetError:
	        pass
	# the processes of the last nbdinfo may be about to end
	end = time.monotonic() + 5
	while (count := int(subprocess.check_output(['pgrep', '-f', '-c', 'tapdisk-tls .*' + work + '/psk']))) > 1 + 2 * 17:
	    assert time.monotonic() < end, count
	inside.shutdown()
	EOF
}

# As many as may be in at the same time; one more waits for one to leave, with silent strangers about.
test_full() {
	python3 - "$psk_port" "$(psk_uri)" <<-'EOF'
	import nbd, socket, subprocess, sys

	port, uri = sys.argv[1:]
	inside = []
	for number in range(16):
	    inside.append(nbd.NBD())
	    inside[-1].set_uri_allow_local_file(True)
	    inside[-1].connect_uri(uri)
	silent = [socket.create_connection(('127.0.0.1', int(port))) for number in range(16)]
	late = subprocess.Popen(['nbdinfo', '--size', uri])
	for client in inside:
	    assert client.pread(512, 0)
	    client.shutdown()
	assert late.wait(timeout=60) == 0
	EOF
}

# The number of processes; wait_for_programs waits for those that are about to end.
programs() {
	pgrep -f -c "tapdisk-tls .*$work"
}

wait_for_programs() {
	for _ in $(seq 500); do
		[ "$(programs)" != "$1" ] || return 0
		sleep 0.01
	done
	pgrep -f -a "tapdisk-tls .*$work"
	return 1
}

# The process that handles a client's bytes has no rights, few system calls and only the files that it needs, and there
# is one such process.
test_rights() {
	wait_for_programs 3 && nbdsh -c "
import os, subprocess
h = nbd.NBD(); h.set_tls(nbd.TLS_REQUIRE); h.set_tls_username('alice'); h.set_tls_psk_file('$work/psk/keys.psk')
h.connect_tcp('localhost', '$psk_port')
def status(pid):
    lines = [line.split(':', 1) for line in open('/proc/%s/status' % pid)]
    return dict((name, value.strip()) for name, value in lines)
users, filtered = [], []
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        words = open('/proc/%s/cmdline' % pid).read().split('\0')
        if words[0].endswith('tapdisk-tls') and '$work/psk' in words:
            users += [status(pid)['Uid'].split()[0]]
            filtered += [(pid, status(pid))] if status(pid)['Seccomp'] == '2' else []
    except (FileNotFoundError, ProcessLookupError):
        pass
assert sorted(users) == (['0', '0', '65534'] if os.geteuid() == 0 else 3 * [str(os.geteuid())]), users
(pid, session), = filtered
assert session['Uid'].split()[0] == ('65534' if os.geteuid() == 0 else str(os.geteuid())), session
assert not (int(session['SigIgn'], 16) | int(session['SigBlk'], 16)) & 1 << 13, session
assert session['NoNewPrivs'] == '1' and session['CapPrm'] == '0000000000000000', session
limits = open('/proc/%s/limits' % pid).read()
for limit in ('core file size', 'processes', 'file size'):
    assert 'Max %-22s0 ' % limit in limits, limits
if os.geteuid() == 0:
    kinds = [os.readlink('/proc/%s/fd/%s' % (pid, fd)).split(':')[0] for fd in os.listdir('/proc/%s/fd' % pid) if int(fd) > 2]
    assert sorted(kinds) == ['pipe', 'socket', 'socket', 'socket'], kinds
h.shutdown()
"
}

# An attacker who takes over tapdisk-tls could use any code in it.
nothing_of_disks() {
	! nm "$build/bin/tapdisk-tls" | grep -E ' (drivers|(backend|cow|engine|uring)_.*)$' &&
		! readelf -d "$build/bin/tapdisk-tls" | grep -E 'NEEDED.*(uring|isal|aio|xen)'
}

test_refusals() {
	fails 'TLS is for tcp' tap-ctl export $disk -k "$work/psk" "unix:$work/x" && [ ! -e "$work/x" ] &&
		fails 'keys.psk: No such file' tap-ctl export $disk -k "$work/x509" tcp:127.0.0.1:0 &&
		fails 'server-cert.pem' tap-ctl export $disk -x "$work/psk" tcp:127.0.0.1:0 &&
		fails 'one of' tap-ctl export $disk -x "$work/x509" -k "$work/psk" tcp:127.0.0.1:0 &&
		fails 'disks of this type have no snapshots' tap-ctl export $disk -n x -k "$work/psk" tcp:127.0.0.1:0 &&
		echo 'alice:xyz' >"$work/wrong/keys.psk" &&
		fails 'hexadecimal' tap-ctl export $disk -k "$work/wrong" tcp:127.0.0.1:0 &&
		echo 'alice:abc' >"$work/wrong/keys.psk" && fails 'hexadecimal' tap-ctl export $disk -k "$work/wrong" tcp:127.0.0.1:0
}

test_end() {
	wait_for_programs 3 && tap-ctl unexport $disk 1 && wait_for_programs 2 &&
		fails . nbdinfo "$(psk_uri)" && nbdinfo --size "$(x509_uri "$open_port" "$work/none")" &&
		kill_tapdisk "$pid" && wait_for_programs 0 && ! ls "$TAPSNAP_RUN_DIR"/nbd*.tls*
}

# The port is free, without any attempt to connect. This time another process removes the leftovers.
test_again() {
	tap-ctl destroy $disk && open_target 0 "aio:$work/image" &&
		tap-ctl export $disk -x "$work/x509" "tcp:127.0.0.1:$open_port" &&
		nbdinfo --size "$(x509_uri "$open_port" "$work/none")" || return
	wait_for_programs 1 && kill -STOP "$(pgrep -f "tapdisk-tls .*$work")" && kill_tapdisk "$pid" && ls "$TAPSNAP_RUN_DIR"/nbd*.tls* &&
		tap-ctl destroy $disk && ! ls "$TAPSNAP_RUN_DIR"/nbd*
	local status=$?
	kill -CONT "$(pgrep -f "tapdisk-tls .*$work")" && wait_for_programs 0 && return $status
}

[ -x "$build/bin/tapdisk-tls" ] || {
	echo '1..0 # SKIP missing: GnuTLS, when tapdisk-tls was to be built'
	exit 0
}
check 'there is nothing of disks in it' nothing_of_disks
check 'credentials' make_credentials
check 'a disk with three exports' start
[ "$failed" = 0 ] || { echo 'Bail out! no disk, no test'; exit 1; }
check 'pre-shared keys' test_psk
check 'X.509, both sides' test_x509
check 'X.509, the server only' test_x509_of_server_only
check 'QEMU' test_qemu
check 'who is not let in' test_not_let_in
check 'hostile clients' test_hostile
check 'silent clients' test_silent
check 'all places taken' test_full
check 'rights' test_rights
check 'what is refused' test_refusals
check 'the end' test_end
check 'another one on the same port' test_again
finish
