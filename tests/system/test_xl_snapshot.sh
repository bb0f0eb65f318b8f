#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_xl_snapshot.sh - xl-snapshot as a program, on a host without Xen: its
# output from information files, and its messages for bad input. Its operations
# on domains are tested on Xen (tests/xen/test_domain*.sh) and by
# tests/unit/test_domain*.c.
#
# Output is TAP. BUILD says where the programs are. Needs: jq g++ perl
. "$(dirname "$0")/lib.sh"
export TAPSNAP_SNAPSHOT_DIR=$work/snapshots TZ=UTC
uuid=01234567-89ab-4def-8123-456789abcdef
directory=$TAPSNAP_SNAPSHOT_DIR/$uuid
mkdir -p "$directory"

# info NAME TIME PARENT SAVE
info() {
	jq -n --arg name "$1" --argjson time "$2" --argjson parent "$3" --argjson save "$4" '{version: 1, name: $name,
		description: "text of \($name)", creationtime: $time, parent: $parent, save: $save, live: false, disk_only: ($save == null),
		config: {}, disks: [{vdev: "xvda", target: "cow:/srv/a.cow", path: "/srv/a.cow", format: "cow", id: 1, time: $time}]}' \
		>"$directory/snapshotdata-$1.xl"
}
info one 1000000000 null '"/nowhere/one.save"'
info two 1000000100 '"one"' null
info branch 1000000200 '"one"' null
echo "{\"name\": \"guest\", \"uuid\": \"$uuid\", \"current\": \"two\"}" >"$directory/domain.xl"

# queries need no Xen
check "list, by name" is "$(xl-snapshot list guest | awk '{print $1, $2}' | paste -sd,)" "NAME CREATED,one 2001-09-09,* two,branch 2001-09-09"
check "list, by uuid" is "$(json '[.snapshots[].name] | join(",")' xl-snapshot list $uuid)" one,two,branch
check "the proposal's name of it" is "$(json '.snapshots | length' xl-snapshot snapshot-list guest)" 3
check "the tree" is "$(xl-snapshot list --tree guest | paste -sd,)" "one,  two *,  branch"
check "the tree of one that goes back to another" is "$(xl-snapshot list --tree -n two guest)" "two *"
check "the current one" is "$(xl-snapshot current guest)" two
check "its parent" is "$(xl-snapshot parent guest)" one
check "the parent of one that has none" says "" xl-snapshot parent -n one guest
check "show: the disk" grep -q "^disk xvda *cow:/srv/a.cow, snapshot two" <(xl-snapshot show guest)
check "show: memory that is gone" grep -q "one.save: cannot be read" <(xl-snapshot show -n one guest)
check "JSON says which is the current one" is "$(json '.snapshots[] | select(.current) | .name' xl-snapshot list guest)" two
check "show: one that is not there" refuses 2 'no snapshot called "three"' xl-snapshot show -n three guest
check "JSON of a failure" is "$(xl-snapshot show --json -n three guest 2>/dev/null | jq -c '[.ok, .errno]')" '[false,2]'
check "JSON of a name that is not UTF-8" is "$(xl-snapshot list --json -n $'\xff' guest 2>/dev/null | jq -r '.error[:5]')" '"?": '
name=$(printf 'a%.0s' {1..63})é
check "JSON of a name that is cut within a character" is "$(xl-snapshot list --json -n "$name" guest 2>/dev/null | jq -r '.error[63:69]')" 'a?": n'
check "names are not paths" refuses 22 "not a snapshot name" xl-snapshot show -n ../../etc/passwd guest
truncate -s 20 "$directory/snapshotdata-two.xl"
check "a damaged file is named" exits 74 xl-snapshot list guest
check "... by name" grep -q "snapshotdata-two.xl: damaged" out
check "... and the others are listed" is "$(xl-snapshot list guest 2>/dev/null | awk '{print $1}' | paste -sd,)" NAME,one,branch
check "... in JSON" is "$(xl-snapshot list --json guest 2>/dev/null | jq -c '[.ok, .errno, .snapshots[].name]')" '[false,74,"one","branch"]'
check "... and shown" exits 0 xl-snapshot show -n branch guest
check "... where it is asked for it is refused" refuses 74 "snapshotdata-two.xl: damaged" xl-snapshot show -n two guest

# changes need it
if [ ! -e /proc/xen/capabilities ]; then
	check "without Xen: create" refuses 2 "is this a Xen host?" xl-snapshot create guest
	check "without Xen: a domain that has none" refuses 2 "is this a Xen host?" xl-snapshot list stranger
fi
check "no command" exits 0 xl-snapshot --help
check "an unknown command" refuses 22 "no command 'frobnicate'" xl-snapshot frobnicate
check "no domain" refuses 22 "it needs DOMAIN" xl-snapshot create
check "two at once" refuses 22 "only one of" xl-snapshot create --paused --shutdown guest
check "a diskspec that is none" refuses 22 "VDEV,snapshot=no" xl-snapshot create --diskspec xvda guest
check "an option of another command" refuses 22 "xl-snapshot: list: --live: no such option" xl-snapshot list --live guest
check "JSON of a usage error" is "$(xl-snapshot list --live guest --json 2>/dev/null | jq -c '[.ok, .errno, .error[:22]]')" \
	'[false,22,"--live: no such option"]'
check "a text that is not UTF-8" refuses 84 "the description is not UTF-8" xl-snapshot edit -d $'caf\xe9' guest
check "edit without text" refuses 22 "it needs -d TEXT" xl-snapshot edit guest

# Only the lab's program reads the variables that kill it or another process, not the installed one (include/point.h).
check "the environment kills nobody" sh -c "! grep -q XL_SNAPSHOT_KILL '$build/bin/xl-snapshot'"
if [ -x "$build/tests/xl-snapshot-points" ]; then
	check "... but in the program for tests" grep -q XL_SNAPSHOT_KILL "$build/tests/xl-snapshot-points"
	check "... which else is the same" is "$("$build/tests/xl-snapshot-points" list --json guest 2>&1)" "$(xl-snapshot list --json guest 2>&1)"
else
	skip "... but in the program for tests" "missing: make xl-snapshot-points"
fi

# A parent ignores SIGCHLD: the guard, which waits for its stdin, must not.
mkfifo never
exec 9<>never
perl -e '$SIG{CHLD} = "IGNORE"; exec @ARGV' xl-snapshot guard $uuid <&9 &
guard=$!
until [ "$(readlink /proc/$guard/exe)" = "$(readlink -f "$build/bin/xl-snapshot")" ] && grep -q "^State:.S" /proc/$guard/status; do
	sleep 0.01
done
check "SIGCHLD is not ignored" is "$(($(awk '/^SigIgn/ { print "0x" $2 }' /proc/$guard/status) & 1 << 16))" 0
{ kill -9 $guard; wait $guard; } 2>/dev/null
exec 9>&-

# The library from C++: the installed headers, and C names for its functions.
cat >user.cc <<'END'
#include "domain-snapshot-libxl.h"
int use(domain_snapshots *session) { return domain_snapshots_fd(session); }
END
if command -v g++ >/dev/null; then
	check "the library's headers are C++, too" g++ -Wall -Wextra -Werror -I"$here/include" -c user.cc
	check "... and name what is in the library" is "$(nm -u user.o | awk '{print $2}' | paste -sd,)" domain_snapshots_fd
else
	skip "the library's headers are C++, too" "missing: g++"
fi

# The library's other symbols must not clash with those of a program that links it.
check "the library has no names but those of its headers" is \
	"$(nm -g --defined-only "$build/lib/libtapsnap.a" | awk 'NF == 3 { print $3 }' | sort | paste -sd' ')" \
	"$(grep -oh '\bdomain_snapshot[a-z_]*(' "$here"/include/domain-snapshot*.h | tr -d '(' | sort -u | paste -sd' ')"
check "... of which there are seven" is "$(nm -g --defined-only "$build/lib/libtapsnap.a" | grep -c ' T domain_snapshot')" 7

finish
