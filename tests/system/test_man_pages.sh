#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_man_pages.sh - the man pages pass mandoc's checks, and name every command
# and every option that the programs' --help names.
#
# Output is TAP. BUILD says where the programs are. Needs: mandoc
. "$(dirname "$0")/lib.sh"

prints_nothing() {
	"$@" >"$work/out" 2>&1 && [ ! -s "$work/out" ] || { cat "$work/out"; return 1; }
}

# The options of --help: "-x, --long" or "--long".
options() { sed -nE 's/^ +((-[A-Za-z], )?--[a-z][a-z0-9-]*).*/\1/p'; }

# names COMMAND PROGRAM [COMMAND]: the page has the command, and each option by a name of it (tap-img's: short ones)
names() {
	local command=$1 option missing=0
	shift
	[ -z "$command" ] || grep -qE "^ +([a-z-]+, )*$command( |,|$)" page || { echo "no command $command"; missing=1; }
	"$@" --help >help || return 1
	while read -r option; do
		grep -qE -- "(^|[ [(])(${option/, /|})([] ,.;)]|$)" page || { echo "no $option"; missing=1; }
	done < <(options <help)
	return $missing
}

for page in "$here"/docs/man/*.8; do
	program=$(basename "$page" .8)
	check "$program.8 has no mistakes" prints_nothing mandoc -T lint -W warning "$page"
	[ -x "$build/bin/$program" ] || { skip "$program --help" "missing: GnuTLS, when it was to be built"; continue; }
	mandoc -T ascii -O width=1000 "$page" | sed 's/.\x08//g' >page
	check "$program.8 has what $program --help has" names "" "$program"
	for command in $("$program" --help | sed -n 's/^  \([a-z][a-z-]*\)  *[a-z].*/\1/p'); do
		check "$program.8 has what $program $command --help has" names "$command" "$program" "$command"
	done
done
finish
