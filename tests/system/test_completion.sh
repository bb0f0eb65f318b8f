#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_completion.sh - bash completion for tap-ctl, tap-img and xl-snapshot
# offers all commands and options that the programs' help lists.
#
# Output is TAP. BUILD says where the programs are. Needs: jq
. "$(dirname "$0")/lib.sh"
. "$here/control/tapsnap.bash"

offers() {	# offers WORD...: completions of the last word, as bash asks for them
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
	_tapsnap "$1" "${@: -1}" "${COMP_WORDS[COMP_CWORD - 1]}"
	echo "${COMPREPLY[*]}"
}

check "bash knows the programs" is "$(complete -p tap-ctl tap-img xl-snapshot | cut -d' ' -f1-5 | sort -u)" "complete -o default -F _tapsnap"
check "tap-ctl: a command" is "$(offers tap-ctl des)" destroy
check "tap-ctl: several" is "$(offers tap-ctl snapshot-)" "snapshot-create snapshot-list snapshot-delete snapshot-revert"
check "tap-img: commands" is "$(offers tap-img re)" "resize rebase"
check "xl-snapshot: commands" is "$(offers xl-snapshot re)" "revert recover"
check "a program that is named by its path" is "$(offers "$build/bin/tap-img" ch)" check
check "tap-ctl: options" is "$(offers tap-ctl upgrade --)" "--pid --all --json --help"
check "tap-img: options" is "$(offers tap-img rebase --b)" "--base --base-format"
check "xl-snapshot: options" is "$(offers xl-snapshot create -n x --dis)" "--disk-only --diskspec"
check "a file" is "$(offers tap-img info a)" ""
check "no such command" is "$(offers tap-img frobnicate --)" ""
open_target 0 null:1G
check "pids" is "$(offers tap-ctl info -p "")" "${pid[0]}"
check "minors" is "$(offers tap-ctl info -p "${pid[0]}" --minor "")" "${minor[0]}"
finish
