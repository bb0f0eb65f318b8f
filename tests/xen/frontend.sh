# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# frontend.sh - shared by the tests with a frontend of our own (frontend/).
#
# Three disks: the victim, a witness in the same tapdisk and one in another
# tapdisk. No guest is needed: the frontend is a process in dom0.

. ./lib.sh

DISKS=()		# PID:MINOR:IMAGE, the victim first
TAPDISKS=()

frontend_clean_up() {
	local disk pid minor
	# only a failed scenario leaves these
	xenstore-rm /local/domain/0/test-frontends 2>/dev/null && xenstore-rm /local/domain/0/backend/vbd3/0
	for disk in "${DISKS[@]}"; do
		IFS=: read -r pid minor _ <<<"$disk"
		tap-ctl close -f -p "$pid" -m "$minor" && tap-ctl detach -p "$pid" -m "$minor" && tap-ctl free -m "$minor"
	done
}

# frontend_disk PID NAME SIZE
frontend_disk() {
	local image minor
	image=$(image_make "$2" "$3")
	minor=$(tap-ctl allocate) || fail "no minor"
	minor=${minor##*-}
	must tap-ctl attach -p "$1" -m "$minor"
	must tap-ctl open -p "$1" -m "$minor" -a "aio:$image"
	DISKS+=("$1:$minor:$image")
}

frontend_start() {
	trap frontend_clean_up EXIT
	# maximum of pages that processes may grant: rings and data of a few frontends
	echo 16384 >/sys/module/xen_gntalloc/parameters/limit
	TAPDISKS=("$(tap-ctl spawn)" "$(tap-ctl spawn)")
	frontend_disk "${TAPDISKS[0]}" victim 4M
	frontend_disk "${TAPDISKS[0]}" witness 4M
	frontend_disk "${TAPDISKS[1]}" stranger 4M
}

# frontend SCENARIO [COMMAND]: run one scenario on empty disks
frontend() {
	local disk
	for disk in "${DISKS[@]}"; do
		truncate -s 0 "${disk##*:}"
		truncate -s 4M "${disk##*:}"
	done
	step "$1"
	/payload/frontend "$1" "${DISKS[@]}" -- "${@:2}" || fail "'$1' ended with $?"
}
