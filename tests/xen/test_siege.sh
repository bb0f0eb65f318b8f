# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# A frontend that does everything wrong in parallel, as fast as it can, connection
# after connection, next to a guest that verifies its reads: the guest's disk goes
# on without an error, and the attacked disk works again when the attack ends.
# With SOAK the guest also keeps 0.8 of its speed: intervals with the storm are
# compared with intervals in which the frontend computes as much and sends nothing.
# An attacking guest would use its own processor time; here it is dom0's, so the
# frontend runs at the lowest priority there.
. ./frontend.sh

STORM=15		# seconds
ROUNDS=9		# of two intervals, when the speed is measured
INTERVAL=3

siege=
clean_up() {
	[ -z "$siege" ] || kill -9 "$siege"
	frontend_clean_up
}

# answered PID MINOR: requests so far, bad ones included
answered() {
	tap-ctl stats -p "$1" -m "$2" | jq '.total | .invalid + ([.[] | objects | .completed] | add)'
}

# Sets RATE to the guest's requests per second
interval() {
	local before start
	snooze 0.5
	before=$(answered "$pid" "$minor")
	start=${EPOCHREALTIME/./}
	snooze $INTERVAL
	RATE=$((($(answered "$pid" "$minor") - before) * 1000000 / (${EPOCHREALTIME/./} - start)))
}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

speed_runs() { [ "$(answered "$pid" "$minor")" -gt $((BEGIN + 100)) ]; }

measure() {
	local still=() storm=() round
	BEGIN=$(answered "$pid" "$minor")
	guest_must a "fio --name=speed --filename=/dev/xvda --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=8 \
--size=8M --time_based --runtime=600 --output=/tmp/speed & echo \$! >/tmp/speed.pid"
	wait_until 60 "the guest's I/O" speed_runs
	for ((round = 0; round < ROUNDS; round++)); do
		interval
		storm+=("$RATE")
		kill -USR1 $siege
		interval
		still+=("$RATE")
		kill -USR1 $siege
	done
	guest_must a "kill \$(cat /tmp/speed.pid)"
	echo "# requests a second: storm ${storm[*]}; none ${still[*]}"
	echo "# medians: $(median "${storm[@]}") and $(median "${still[@]}")"
	[ $(($(median "${storm[@]}") * 10)) -ge $(($(median "${still[@]}") * 8)) ] || fail "the guest has less than 0.8 of its speed"
}

trap clean_up EXIT
echo 16384 >/sys/module/xen_gntalloc/parameters/limit
frontend_disk "$(tap-ctl spawn)" victim 4M
IFS=: read -r victim victim_minor _ <<<"${DISKS[0]}"
guest_create a "$(disk_line xvda "$(image_make disk 64M)")"
# the guest must not compete with dom0 for a processor: the test measures dom0's work for each disk
must xl sched-credit2 -d "$(guest_name a)" -w 4096
pid=$(tapdisk_pid a xvda)
minor=$(tapdisk_minor a xvda)
load_start a xvda

step "the storm"
chrt -i 0 /payload/frontend siege "${DISKS[0]}" >"$WORK/siege" 2>&1 &
siege=$!
snooze $STORM
load_stop a xvda
if [ -n "$SOAK" ]; then
	step "speed"
	measure
fi

step "its end"
must kill -TERM $siege
wait $siege || fail "$(cat "$WORK/siege")"
siege=
cat "$WORK/siege"
stormed=$(answered "$victim" "$victim_minor")
echo "# answered to the storm: $stormed requests"
[ "$stormed" -gt 1000 ] || fail "that was no storm"
must_equal "the guest's tapdisk" "$pid" "$(tapdisk_pid a xvda)"
must_equal "errors of its disk, and how often it was not served for what it sent" "0 0" "$(tap-ctl stats -p "$pid" -m "$minor" |
	jq -r '"\(.total | .invalid + ([.[] | objects | .errors] | add)) \([.connections[].backoffs] | add)"')"
guest_destroy a
