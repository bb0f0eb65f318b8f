# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv
# Needs: tap
# Limit: 400 s
# A frontend that writes nonsense to xenstore: the error nodes say what, nothing
# is connected, other disks notice nothing, and put right it is served.
. ./frontend.sh

frontend_start
frontend nodes
step "what the log says"
must grep -q "frontend's ring-page-order is not a number from 0 to 4" "$LOGS/tapback.log"
must grep -q "frontend's protocol \"vax-abi\" is unknown" "$LOGS/tapback.log"
