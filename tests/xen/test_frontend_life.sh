# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Limit: 400 s
# Frontends with every kind of ring connect, close, start over with new rings, and
# vanish, while others keep running, with verified data; tapdisk frees their resources.
. ./frontend.sh

frontend_start
pid=${TAPDISKS[0]}
minor=$(cut -d: -f2 <<<"${DISKS[0]}")
image=${DISKS[0]##*:}
frontend shapes
frontend restart
frontend closing
frontend vanish
frontend quiet "tap-ctl pause -p $pid -m $minor && tap-ctl unpause -p $pid -m $minor"
frontend quiet "bash -c '. ./lib.sh; tapback_kill; tapback_start'"
frontend resize "truncate -s 6M $image && tap-ctl resize -p $pid -m $minor"
