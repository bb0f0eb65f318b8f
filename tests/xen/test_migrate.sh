# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Limit: 600 s
# Localhost migration with I/O running: for a moment two domains of one VM share
# the image. Debian's Xen has no shadow paging, so a PV guest cannot be migrated
# live: there the attempt fails, and must leave disk and guest unharmed.
. ./lib.sh

name=$(guest_name a)
guest_create a "$(disk_line xvda "$(image_make disk 256M)")"
load_start a xvda
before=$(guest_domid a)
if [ "$GUEST_TYPE" = pv ]; then
	step "a migration that fails"
	must_fail xl migrate -s "" "$name" "xl migrate-receive"
	guest_find a
	must_equal "domain" "$before" "$(guest_domid a)"
	load_moves a xvda
else
	step "migrate there"
	guest_migrate a
	[ "$(guest_domid a)" != "$before" ] || fail "still the same domain"
	wait_until 20 "the source is gone" eval "! xenstore-exists /local/domain/0/backend/vbd3/$before/51712/state"
	load_moves a xvda
fi
load_stop a xvda
guest_destroy a
