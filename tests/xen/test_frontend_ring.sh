# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Limit: 400 s
# Nonsense in the ring, on real grants: bad requests are answered with errors, a
# broken ring is given up with a message, other disks are not affected.
. ./frontend.sh

frontend_start
frontend requests
frontend revoke
frontend indices
frontend storm
frontend fuzz
step "what the logs say"
must grep -q "the frontend's producer index is impossible, ring no longer served" "$LOGS/tapback.log"
must grep -q "tapdisk.*the frontend's producer index is impossible" "$LOGS/syslog"
