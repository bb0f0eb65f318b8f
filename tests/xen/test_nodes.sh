# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests: pv pvh
# Check: pv
# Needs: tap
# The nodes in xenstore are those of blkif.h, with the negotiated values.
. ./lib.sh

guest_create a "$(disk_line xvda "$(image_make disk 64M)")" "$(disk_line xvdb "$(image_make plain 64M)" no-discard)" -- vcpus=2
must_equal state 4 "$(backend_node a xvda state)"
must_equal sectors 131072 "$(backend_node a xvda sectors)"
must_equal sector-size 512 "$(backend_node a xvda sector-size)"
must_equal mode w "$(backend_node a xvda mode)"
must_equal hotplug-status connected "$(backend_node a xvda hotplug-status)"
must_equal feature-flush-cache 1 "$(backend_node a xvda feature-flush-cache)"
must_equal feature-persistent 1 "$(backend_node a xvda feature-persistent)"
must_equal feature-discard 1 "$(backend_node a xvda feature-discard)"
must_equal discard-secure 0 "$(backend_node a xvda discard-secure)"
must_equal "feature-discard with no-discard" 0 "$(backend_node a xvdb feature-discard || echo 0)"
[ "$(backend_node a xvda feature-max-indirect-segments)" -ge 32 ] || fail "no indirect segments"
[ "$(backend_node a xvda max-ring-page-order)" -ge 1 ] || fail "no larger rings"
# a queue for each processor of the guest, at most as many as dom0 has
queues=$(nproc)
[ "$queues" -le 2 ] || queues=2
[ "$(backend_node a xvda multi-queue-max-queues)" -ge "$queues" ] || fail "no queues"
must_equal "write cache in the guest" "write back" "$(guest_must a "cat /sys/block/xvda/queue/write_cache")"
must_equal "queues in the guest" "$queues" "$(guest_must a "ls /sys/block/xvda/mq | wc -l")"
guest_destroy a
