# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Needs: tap
# Check: pv
# A device that fails, fails sometimes, is slow, or does not answer at all, under
# a guest that verifies its reads: requests wait or end in an error, by policy,
# another disk is served meanwhile, and tap-ctl answers.
. ./lib.sh

sectors=131072
truncate -s $((sectors * 512)) "$WORK/volume"
loop=$(losetup -f --show "$WORK/volume") || fail "no loop device"
trap 'dmsetup remove -f tests-failing; losetup -d "$loop"' EXIT
modprobe -a dm-flakey dm-delay
must dmsetup create tests-failing --table "0 $sectors linear $loop 0"

# device NAME TARGET [ARGUMENTS]: replace the device; I/O in flight ends on the old one
device() {
	must dmsetup suspend --noflush "$1"
	must dmsetup load "$1" --table "0 $sectors ${*:2}"
	must dmsetup resume "$1"
}
is_well() { device tests-failing linear "$loop" 0; }

# Three commands on both disks; each must answer within a second.
answers() {
	local command begin took
	for command in "list" "info ${disk[*]}" "stats ${disk[*]}"; do
		begin=${EPOCHREALTIME/./}
		# shellcheck disable=SC2086
		must tap-ctl $command >"$WORK/answer"
		took=$((${EPOCHREALTIME/./} - begin))
		[ $took -lt 1000000 ] || fail "tap-ctl $command took $took us"
	done
	load_moves a xvdb
}

is_stopped() { tap-ctl on-error "${disk[@]}" | grep -q "stopped=1"; }
continues() { tap-ctl resume "${disk[@]}" && ! is_stopped; }
event() { must tap-ctl events -p "$pid" -w "$1" -t 60; }

guest_create a "$(disk_line xvda /dev/mapper/tests-failing)" "$(disk_line xvdb "$(image_make other 64M)")"
pid=$(tapdisk_pid a xvda)
disk=(-p "$pid" -m "$(tapdisk_minor a xvda)")
# no flushes: a failed one is always reported to the guest, whatever the policy
load_start a xvda --fdatasync=0
load_start a xvdb
must tap-ctl on-error "${disk[@]}" -P stop

step "every request fails: the disk stops, and continues when it works again and is resumed"
device tests-failing error
event io-error
wait_until 20 "stopped" is_stopped
answers
must tap-ctl resume "${disk[@]}"
event io-error
wait_until 20 "stopped again" is_stopped
is_well
must tap-ctl resume "${disk[@]}"
load_moves a xvda

step "it fails every other second"
device tests-failing flakey "$loop" 0 1 1
for round in 1 2 3; do
	wait_until 60 "stopped (round $round)" is_stopped
	answers
	wait_until 60 "it continues (round $round)" continues
done
is_well
wait_until 20 "it continues" continues
load_moves a xvda

step "every request takes 300 ms"
device tests-failing delay "$loop" 0 300
load_moves a xvda
answers
is_well

step "it does not answer at all"
must dmsetup suspend --noflush tests-failing
event not-answering
answers
tap-ctl pause -f -t 1 "${disk[@]}" >"$WORK/answer" 2>&1
must_equal "the exit status of a pause that has to wait" 110 $?
answers
must dmsetup resume tests-failing
is_paused() { [ "$(tap-ctl info "${disk[@]}" --json | jq .disk.state)" = 56 ]; }
wait_until 30 "the pause is over once the device answers" is_paused
must tap-ctl unpause "${disk[@]}"
load_moves a xvda
load_stop a xvda

step "errors are reported: the guest has them, and only while there are any"
must tap-ctl on-error "${disk[@]}" -P report
device tests-failing error
guest_run a "fio --name=end --filename=/dev/xvda --size=1M --rw=write --bs=64k --direct=1 --output=/tmp/end" \
	>"$WORK/answer" && fail "a write to a device that fails succeeded"
must_equal "is it stopped" "false" "$(tap-ctl on-error "${disk[@]}" --json | jq .on_error.stopped)"
[ "$(tap-ctl on-error "${disk[@]}" --json | jq .on_error.answered)" -gt 0 ] || fail "no error was counted"
is_well
guest_must a "fio --name=end --filename=/dev/xvda --size=1M --rw=write --bs=64k --direct=1 --verify=crc32c \
	--verify_fatal=1 --output=/tmp/end"

load_stop a xvdb
guest_destroy a
