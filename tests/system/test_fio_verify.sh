#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_fio_verify.sh - fio writes through the ring and verifies checksums: on
# a file and on loop devices with sectors of 512 and 4096 bytes, with each
# engine, with sectors of 512 and 4096 bytes shown to the guest; then each
# feature that a frontend can ask for. The data are verified once more in the
# image itself, without tapdisk. And the benchmarks' message when there is no
# such engine.
#
# Output is TAP. BUILD says where the programs are. Loop devices need root;
# without it those tests are skipped. Needs: fio jq util-linux python3
. "$(dirname "$0")/lib.sh"
size=24M
tapdisk=

tapdisk_stop() {
	[ -n "$tapdisk" ] || return 0
	tap-ctl destroy -p "$tapdisk" -m 0 >/dev/null 2>&1
	wait "$tapdisk" 2>/dev/null
	tapdisk=
}

# tapdisk_start ENGINE IMAGE SECTOR_SIZE; $work/log says why not.
tapdisk_start() {
	local ready

	mkfifo "$work/ready"
	tapdisk --engine "$1" --log-stderr --ready-fd 3 3>"$work/ready" >"$work/log" 2>&1 &
	tapdisk=$!
	read -r ready <"$work/ready"
	rm "$work/ready"
	[ "$ready" = "listening $tapdisk" ] || { echo "$ready" >>"$work/log"; return 1; }
	[ "$(tap-ctl allocate)" = "$TAPSNAP_RUN_DIR/tapdisk/tapdisk-0" ] &&
		tap-ctl attach -p "$tapdisk" -m 0 &&
		tap-ctl open -p "$tapdisk" -m 0 -a "aio:$2" --sector-size "$3"
} 2>>"$work/log"

# verify_fio OPTIONS...: run the job on the engine that the options name.
verify_fio() {
	timeout 120 fio --name=verify --size=$size --rw=randwrite --randseed=7 --iodepth=48 --end_fsync=1 \
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 "$@" >"$work/fio" 2>&1
}

# report STATUS DESCRIPTION
report() {
	count=$((count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $count - $2"
		return
	fi
	failed=$((failed + 1))
	echo "not ok $count - $2"
	sed 's/^/# /' "$work/log" "$work/fio" 2>/dev/null | tail -25
}

# verify DESCRIPTION ENGINE IMAGE SECTOR_SIZE [FIO OPTIONS...]
verify() {
	local description=$1 engine=$2 image=$3 sector=$4 status=0
	local blocks=(--bsrange="$sector-128k" --blockalign="$sector")

	shift 4
	: >"$work/fio"
	tapdisk_start "$engine" "$image" "$sector" &&
		[ "$(tap-ctl info --json -p "$tapdisk" -m 0 | jq '.. | .sector_size? // empty')" = "$sector" ] &&
		verify_fio "${blocks[@]}" --ioengine="external:$engine_so" --tapdisk_pid="$tapdisk" "$@" || status=1
	# Reads of the guest prove less: they could come from a cache in tapdisk, if it had one.
	tapdisk_stop
	[ $status -ne 0 ] ||
		verify_fio "${blocks[@]}" --ioengine=psync --filename="$image" --verify_only=1 --allow_file_create=0 || status=1
	report $status "$description"
}

# loop_make SECTOR_SIZE: sets $loop.
loop_make() {
	truncate -s 64M "$work/loop$1"
	loop=$(losetup -f --show -b "$1" "$work/loop$1" 2>>"$work/log") && loops+=("$loop")
}

truncate -s 64M "$work/file"
engines="io_uring libaio"

for engine in $engines; do
	for sector in 512 4096; do
		verify "file, $engine, $sector-byte sectors shown" $engine "$work/file" $sector
	done
done

for device in 512 4096; do
	if [ "$(id -u)" -ne 0 ]; then
		skip "loop device of $device-byte sectors" "needs root"
		continue
	fi
	loop_make $device || { report 1 "loop device of $device-byte sectors"; continue; }
	for engine in $engines; do
		for sector in 512 4096; do
			verify "loop device of $device-byte sectors, $engine, $sector-byte sectors shown" \
				$engine "$loop" $sector
		done
	done
done

# A queue of 48 requests on rings of 32 slots, and blocks of 128 KiB on requests of 44 KiB: fio is throttled, its
# blocks are split.
verify "without persistent grants" io_uring "$work/file" 512 --persistent=0
verify "without indirect segments" io_uring "$work/file" 512 --indirect=0
verify "without either" io_uring "$work/file" 512 --indirect=0 --persistent=0
verify "four queues" io_uring "$work/file" 512 --queues=4
verify "rings of 16 pages" io_uring "$work/file" 512 --ring_page_order=4
verify "four queues of 16 pages, without persistent grants" io_uring "$work/file" 512 \
	--queues=4 --ring_page_order=4 --persistent=0
verify "a 32-bit guest" io_uring "$work/file" 512 --abi=x86_32
verify "an arm guest" io_uring "$work/file" 512 --abi=arm
verify "two frontends on one disk, a half each" io_uring "$work/file" 512 --numjobs=2 --offset_increment=$size

bench_refuses() {	# bench_refuses TEXT: after the table's head one line with TEXT, and the cases left out; and perhaps that the tree has changes
	exits 1 env BUILD="$work/part" "$here/benchmarks/run" --seconds 0.1 --size 1M ring-randread-4k-qd1 || return 1
	[ "$(grep -vcE '^case |^run: (not measured|the tree has changes)' "$work/out")" = 1 ] && grep -qF -- "$1" "$work/out" || { cat "$work/out"; return 1; }
}

mkdir "$work/part"
check "without a build the benchmarks say what makes it" bench_refuses "/bin/tap-ctl is missing: 'make' builds it"
ln -s "$build/bin" "$work/part/bin"
check "without the engine, too" bench_refuses "/lib/fio-blkfront.so is missing: 'make fio-engine' builds it"

finish
