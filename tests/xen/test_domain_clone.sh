# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# A domain that was shut down with its snapshot boots from an earlier snapshot of
# its disks, with a config that xl-snapshot writes. Meanwhile plain xl restore
# starts a clone with its memory, which keeps running while the original is reverted.
. ./lib.sh
. ./domain.sh

name=$(guest_name a)
clone=$(guest_name m)
guest_create a "$(store_line xvda a)" "$(store_line xvdb b)" -- "$DOMAIN_UUID" 'vcpus=2'
memory=$(xl list "$name" | awk 'END {print $3}')
guest_must a "mark 1 xvda xvdb"
must snap create -n d1 --disk-only "$name"
guest_must a "mark 2 xvda xvdb"
must snap create -n s2 --shutdown "$name"
must_be_gone a
console_keep a

step "booted from disks alone"
must snap revert -n d1 --running "$name"
guest_wait_ready a
must_hold a "- 1 1" xvda xvdb
must_equal "vcpus" 2 "$(guest_must a nproc | tr -d '\r\n')"
must_equal "memory" "$memory" "$(xl list "$name" | awk 'END {print $3}')"

step "a clone with memory beside it"
must_equal "how to start it" "to start it: xl restore $WORK/$clone.save" "$(must snap clone -n s2 "$name" "$clone")"
guest_restore m "$WORK/$clone.save"
must_hold m "2 2 2" xvda xvdb
guest_must m "mark 3 xvda xvdb"
must_hold a "- 1 1" xvda xvdb

step "the original goes back while the clone runs"
guest_must a "mark 4 xvda xvdb"
back_to s2
must_hold a "2 2 2" xvda xvdb
must_hold m "3 3 3" xvda xvdb

step "the base of the clone is not deleted"
must_fail snap delete -n s2 "$name"
[[ $REFUSAL == *"$clone-xvda.cow is based on it"* ]] || fail "it does not name the store that is based on it"
guest_destroy m
rm "$WORK/$clone"-xvd[ab].cow
must snap delete -n s2 "$name"
must_list d1
guest_destroy a
