# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh hvm
# Check: pv
# Needs: tap
# Tapdisks that serve a guest through real grants run as the user tapsnap, without
# any capability, under the filter of system calls; tap-ctl doctor reads this from
# the kernel. So does a tapdisk whose frontend connects later.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make disk 64M)")"

# The different privileges of this host's tapdisks.
kinds() { tap-ctl doctor --json | jq -c '.tapdisks | map([.uid, .capabilities, .no_new_privs, .seccomp, .core_bytes]) | unique[]'; }
confined="[$(id -u tapsnap),0,true,2,0]"

step "as it is served"
must tap-ctl doctor
must_equal "the tapdisk" "$confined" "$(kinds)"
guest_must a "dd if=/dev/urandom of=/dev/xvda bs=1M count=4 oflag=direct"

step "another disk, attached to the guest that runs"
must xl block-attach "$(guest_domid a)" "$(disk_line xvdb "$(image_make later 64M)")"
guest_must a "appears xvdb"
guest_must a "dd if=/dev/xvda of=/dev/xvdb bs=1M count=4 iflag=direct oflag=direct && cmp -n 4194304 /dev/xvda /dev/xvdb"
must_equal "both tapdisks" "$confined" "$(kinds)"
must_equal "tapdisks" 2 "$(tap-ctl doctor --json | jq '.tapdisks | length')"
guest_destroy a
