# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tap_img.sh - what the tests of tap-img share: a folder of their own, which is
# the current one and goes at the end, and checks in TAP. Sourced; $0 is the test.

here=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${BUILD:-$here/build}" && pwd)
PATH=$build/bin:$PATH

work=$(mktemp -d "/var/tmp/$(basename "$0" .sh).XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$work" || exit 1
count=0 failed=0

check() {	# check NAME COMMAND...: the command succeeds
	local name=$1 output
	shift
	count=$((count + 1))
	if output=$("$@" 2>&1); then
		echo "ok $count - $name"
	else
		failed=$((failed + 1))
		echo "not ok $count - $name"
		printf '# %s\n' "$*" "$output"
	fi
}

exits() {	# exits CODE COMMAND...
	local want=$1 code
	shift
	"$@" >out 2>&1
	code=$?
	[ "$code" = "$want" ] || { echo "exit $code, not $want:"; cat out; return 1; }
}

refuses() {	# refuses TEXT COMMAND...: exit 1, one line with TEXT in it
	local text=$1
	shift
	exits 1 "$@" || return 1
	[ "$(wc -l <out)" = 1 ] && grep -qF -- "$text" out || { cat out; return 1; }
}

json() {	# json FILTER COMMAND...: what jq -r makes of its output
	local filter=$1
	shift
	"$@" --json | jq -r "$filter"
}

is() { [ "$1" = "$2" ] || { echo "\"$1\" is not \"$2\""; return 1; }; }

unchanged() {	# unchanged FILE COMMAND...: the command, and the file is the same after it
	local file=$1 before
	shift
	before=$(sha256sum <"$file")
	"$@" || return 1
	[ "$before" = "$(sha256sum <"$file")" ] || { echo "$file has changed"; return 1; }
}

finish() {	# the plan, and the exit code
	echo "1..$count"
	[ "$failed" = 0 ]
}
