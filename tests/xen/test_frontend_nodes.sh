# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Limit: 400 s
# A frontend that writes nonsense to xenstore: the error nodes name it, nothing is
# connected, other disks are not affected, and after a correction it is served.
. ./frontend.sh

frontend_start
frontend nodes
step "what the log says"
must grep -q "frontend's ring-page-order is not a number from 0 to 4" "$LOGS/tapback.log"
must grep -q "frontend's protocol \"vax-abi\" is unknown" "$LOGS/tapback.log"
