# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# A disk's statistics in dom0: unmodified xentop shows its reads and writes, /proc/interrupts names the owner of its
# interrupts. tapdisk stays on the processor where they arrive, unless it has to wait for it.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make disk 64M)")"
# columns by their heading: xentop has more of them in some versions
counters() {
	xentop -b -f -i 1 | awk -v name="$(guest_name a)" '
		/VBD_RD/ { n = split($0, heading) }
		$1 == name { for (i = 1; i <= n; i++) if (heading[i] ~ /^VBD_(RD|WR|RSECT|WSECT)$/) printf "%s=%s ", heading[i], $(i + NF - n) }'
}
counter() { counters | grep -o "$1=[0-9]*" | cut -d= -f2; }

step "before: $(counters)"
reads=$(counter VBD_RD)
writes=$(counter VBD_WR)
sectors=$(counter VBD_WSECT)
guest_must a "fill xvda 16 1 && filled xvda 16 1"
step "after: $(counters)"
# 16 MiB in requests of 64 KiB, or fewer and larger ones where the guest merged
[ "$(counter VBD_RD)" -gt $((reads + 16)) ] || fail "reads are not counted"
[ "$(counter VBD_WR)" -gt $((writes + 16)) ] || fail "writes are not counted"
[ "$(counter VBD_WSECT)" -ge $((sectors + 32768)) ] || fail "sectors written are not counted"

pid=$(tapdisk_pid a xvda)
irq=$(awk -v name="evtchn:tapdisk-$pid" '$NF == name { sub(":", "", $1); print $1 }' /proc/interrupts)
[[ $irq =~ ^[0-9]+$ ]] || fail "its interrupts: '$irq'"
stays() {
	guest_must a "filled xvda 16 1"
	[ "$(awk '/^Cpus_allowed_list/ { print $2 }' "/proc/$pid/status")" = "$(cat "/proc/irq/$irq/effective_affinity_list")" ]
}
wait_until 90 "tapdisk stays on the processor of interrupt $irq" stays
guest_destroy a
