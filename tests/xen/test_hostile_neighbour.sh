# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Needs: tap
# Check: -
# A frontend that fuzzes its ring and storms its event channel without end,
# beside a guest that verifies what it reads. The guest keeps its data; what is
# left of its speed is printed, without and with a limit on the other's disk.
# The hostile frontend is a process of dom0 here, and takes dom0's processors
# itself, too, which a guest would not.
. ./frontend.sh

trap 'kill $(jobs -p) 2>/dev/null; wait; frontend_clean_up' EXIT
echo 16384 >/sys/module/xen_gntalloc/parameters/limit
TAPDISKS=("$(tap-ctl spawn)")
frontend_disk "${TAPDISKS[0]}" hostile 4M
IFS=: read -r pid minor _ <<<"${DISKS[0]}"
guest_create a "$(disk_line xvda "$(image_make guest 64M)")"
load_start a xvda

# Lives of the hostile frontend, one after the other, until it is told to stop.
hostile() {
	local scenario
	while ! [ -e "$WORK/stop" ]; do
		for scenario in fuzz storm; do
			truncate -s 0 "${DISKS[0]##*:}"
			truncate -s 4M "${DISKS[0]##*:}"
			/payload/frontend $scenario "${DISKS[0]}" >>"$WORK/hostile" 2>&1 || return 1
		done
	done
}

# rate SECONDS: requests of the guest's that complete in 100 s
rate() {
	local first begin
	first=$(guest_must a "requests xvda")
	begin=${EPOCHREALTIME/./}
	snooze "$1"
	echo $((($(guest_must a "requests xvda") - first) * 100000000 / (${EPOCHREALTIME/./} - begin)))
}

for round in 1 2; do
	step "round $round"
	alone=$(rate 15)
	rm -f "$WORK/stop"
	must tap-ctl throttle -p "$pid" -m "$minor" -i 0 -B 0
	hostile &
	beside=$(rate 15)
	must tap-ctl throttle -p "$pid" -m "$minor" -i 50 -B 1M
	limited=$(rate 15)
	touch "$WORK/stop"
	must tap-ctl throttle -p "$pid" -m "$minor" -i 0 -B 0
	wait $! || fail "the hostile frontend: $(tail -5 "$WORK/hostile")"
	[ "$alone" -gt 0 ] || fail "the guest did nothing"
	echo "# guest's requests in 100 s: $alone alone, $beside beside it ($((beside * 100 / alone)) %)," \
		"$limited beside it with a limit ($((limited * 100 / alone)) %)"
done
load_moves a xvda
load_stop a xvda
guest_destroy a
