# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# A guest that does everything wrong in parallel, as fast as it can, connection after
# connection, next to a guest that verifies its reads: the other's disk goes on without
# an error, and the attacker's own blkfront can use the attacked disk when the attack ends.
# With SOAK the other guest also keeps 0.8 of its speed: intervals with the storm are
# compared with intervals in which the attacker computes as much and sends nothing. What
# its computing costs is not in that; intervals in which it is paused are printed for it.
# The attacker is a guest without blkfront, in which the program of frontend/ has the disk.
. ./lib.sh

STORM=15		# seconds
ROUNDS=9		# of three intervals, when the speed is measured
INTERVAL=3
STORMED=20		# requests that the attacker is answered in an interval of its storm, at least

# The guests' initrd, with the frontend and what it needs of the kernel in place of blkfront.
attacker_initrd() { # FILE
	local folder=$WORK/initrd file
	mkdir -p "$folder/bin" "$folder/mods"
	cp /payload/frontend "$folder/bin/"
	ldd /payload/frontend | grep -o '/[^ ]*' | while read -r file; do
		install -D "$file" "$folder/usr${file#/usr}"
	done
	for file in xen-evtchn xen-gntalloc; do
		busybox xzcat "$(modinfo -n $file)" >"$folder/mods/$file.ko" || fail "no module $file"
		echo $file.ko
	done >"$folder/mods/order"
	{ cat /tmp/guest-initrd; (cd "$folder" && find . | cpio -o -H newc --quiet); } >"$1"
}

# siege_start: the storm on the attacker's disk
siege_start() {
	guest_must attacker "echo 16384 >/sys/module/xen_gntalloc/parameters/limit; \
(frontend siege device/vbd/$(device_id xvda) >/tmp/siege 2>&1; echo \$? >/tmp/siege.status) &"
}

# The longest back-off (blkif_backoff.c) is 1 s: then what it had sent before is answered, too.
stands_still() {
	local count
	count=$(attacker_answered) || return
	snooze 1.5
	[ "$(attacker_answered)" = "$count" ]
}
siege_rests() {
	guest_must attacker "killall -USR1 frontend"
	wait_until 30 "the attacker rests" stands_still
}

siege_goes_on() { guest_must attacker "killall -USR2 frontend"; }

siege_stop() {
	guest_must attacker "killall -TERM frontend; until [ -s /tmp/siege.status ]; do usleep 200000; done; \
cat /tmp/siege; exit \$(cat /tmp/siege.status)"
}

# What the process has of Xen's: descriptors, mapped grants
xen_resources() { # PID
	echo "$(find "/proc/$1/fd" -lname '/dev/xen/*' | wc -l) $(grep -c /dev/xen/gntdev "/proc/$1/maps")"
}
same_resources() { [ "$(xen_resources "$victim")" = "$RESOURCES" ]; }

# answered PID MINOR: requests so far, bad ones included
answered() {
	tap-ctl stats -p "$1" -m "$2" | jq '.total | .invalid + ([.[] | objects | .completed] | add)'
}

attacker_answered() { answered "$victim" "$victim_minor"; }

# interval storm|rest|paused: sets RATE to the guest's requests per second; the attacker must have done that all the time
interval() {
	local before after start stormed
	snooze 0.5
	stormed=$(attacker_answered) || fail "no statistics of the attacker"
	before=$(answered "$pid" "$minor") || fail "no statistics"
	start=${EPOCHREALTIME/./}
	snooze $INTERVAL
	after=$(answered "$pid" "$minor") || fail "no statistics"
	RATE=$(((after - before) * 1000000 / (${EPOCHREALTIME/./} - start)))
	after=$(attacker_answered) || fail "no statistics of the attacker"
	stormed=$((after - stormed))
	if [ "$1" = storm ]; then
		STORMS+=("$stormed")
		[ $stormed -ge $STORMED ] || fail "the attacker was answered $stormed requests in an interval of its storm"
	else
		[ $stormed = 0 ] || fail "the attacker was answered $stormed requests while it was to be at rest"
	fi
}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

speed_runs() { [ "$(answered "$pid" "$minor")" -gt $((BEGIN + 100)) ]; }

measure() {
	local still=() storm=() paused=() round
	STORMS=()
	BEGIN=$(answered "$pid" "$minor")
	guest_must a "fio --name=speed --filename=/dev/xvda --direct=1 --ioengine=libaio --rw=randrw --bs=4k --iodepth=8 \
--size=8M --time_based --runtime=600 --output=/tmp/speed & echo \$! >/tmp/speed.pid"
	wait_until 60 "the guest's I/O" speed_runs
	for ((round = 0; round < ROUNDS; round++)); do
		interval storm
		storm+=("$RATE")
		siege_rests
		interval rest
		still+=("$RATE")
		must xl pause "$(guest_name attacker)"
		interval paused
		paused+=("$RATE")
		must xl unpause "$(guest_name attacker)"
		siege_goes_on
	done
	guest_must a "kill \$(cat /tmp/speed.pid)"
	echo "# requests a second: storm ${storm[*]}; none ${still[*]}; attacker paused ${paused[*]}"
	echo "# medians: $(median "${storm[@]}"), $(median "${still[@]}") and $(median "${paused[@]}")"
	echo "# answered to the attacker in each interval of the storm: ${STORMS[*]}"
	[ $(($(median "${storm[@]}") * 10)) -ge $(($(median "${still[@]}") * 8)) ] || fail "the guest has less than 0.8 of its speed"
}

attacker_initrd "$WORK/attacker-initrd"
guest_create a "$(disk_line xvda "$(image_make disk 64M)")"
guest_create attacker "$(disk_line xvda "$(image_make victim 4M)")" -- "ramdisk=\"$WORK/attacker-initrd\"" vcpus=2
# the guest must not compete for a processor, neither with dom0 nor with what the attacker computes: the test
# measures dom0's work for each disk
must xl sched-credit2 -d "$(guest_name a)" -w 4096
pid=$(tapdisk_pid a xvda)
minor=$(tapdisk_minor a xvda)
victim=$(tapdisk_pid attacker xvda)
victim_minor=$(tapdisk_minor attacker xvda)
RESOURCES=$(xen_resources "$victim")
load_start a xvda

step "the storm"
siege_start
snooze $STORM
load_stop a xvda
if [ -n "$SOAK" ]; then
	step "speed"
	measure
fi

step "its end"
siege_stop
stormed=$(answered "$victim" "$victim_minor")
echo "# answered to the storm: $stormed requests"
[ "$stormed" -gt 1000 ] || fail "that was no storm"
must_equal "the attacker's tapdisk" "$victim" "$(tapdisk_pid attacker xvda)"
wait_until 30 "its tapdisk has $RESOURCES descriptors and mappings of Xen's" same_resources
must_equal "the guest's tapdisk" "$pid" "$(tapdisk_pid a xvda)"
must_equal "errors of its disk, and how often it was not served for what it sent" "0 0" "$(tap-ctl stats -p "$pid" -m "$minor" |
	jq -r '"\(.total | .invalid + ([.[] | objects | .errors] | add)) \([.connections[].backoffs] | add)"')"

step "the attacker behaves"
guest_must attacker "insmod /mods/xen-blkfront.ko"
guest_must attacker "appears xvda"
guest_must attacker "fill xvda 4 1"
guest_must attacker "filled xvda 4 1"
guest_destroy attacker
guest_destroy a
