# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# domain.sh - what the tests of domain snapshots share, beside lib.sh: stores,
# and the guest program that compares its memory with two disks (guest/instant.c).

export TAPSNAP_SNAPSHOT_DIR=$WORK/snapshots
DOMAIN_UUID="uuid=\"$(cat /proc/sys/kernel/random/uuid)\""

snap() { xl-snapshot "$@" 2>"$WORK/snap.err" || { cat "$WORK/snap.err" >&2; return 1; }; }

# store_line VDEV NAME: makes the store, prints the disk's line of a config
store_line() {
	[ -e "$WORK/$2.cow" ] || must tap-img create "$WORK/$2.cow" 64M >/dev/null
	echo "backendtype=tap,format=raw,script=block-tapsnap,vdev=$1,target=cow:$WORK/$2.cow"
}

instant_start() { # GUEST
	guest_must "$1" "instant run /dev/xvda /dev/xvdb >/tmp/instant 2>&1 & echo \$! >/tmp/instant.pid"
}

# What it has to say about its memory and the disks now; the longest gap since it was asked last is left in GAP.
instant_check() { # GUEST
	local said
	said=$(guest_must "$1" "n=\$(grep -c ok /tmp/instant); kill -USR1 \$(cat /tmp/instant.pid); \
until grep -q wrong /tmp/instant || [ \$(grep -c ok /tmp/instant) -gt \$n ]; do usleep 100000; done; tail -1 /tmp/instant")
	[[ $said =~ 'instant ok '([0-9]+)' gap '([0-9]+) ]] || fail "$said"
	GAP=${BASH_REMATCH[2]}
	echo "# writes: ${BASH_REMATCH[1]}, longest gap: $GAP ms"
}

instant_moves() { guest_must "$1" "io_moves xvdb"; }

# copy_snapshot STORE NAME FILE: read beside the running disk
copy_snapshot() {
	local marker minor pid
	marker=$(must tap-ctl create -R -a "cow:$1@$2")
	minor=${marker##*tapdisk-}
	pid=$(tap-ctl list -m "$minor" | sed -n 's/^pid=\([0-9]*\) .*/\1/p')
	must nbdcopy "nbd+unix:///?socket=/run/blktap-control/nbd$pid.$minor" "$3"
	must tap-ctl destroy -p "$pid" -m "$minor"
}
