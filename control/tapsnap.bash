# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tapsnap.bash - bash completion for tap-ctl, tap-img and xl-snapshot. It reads
# the commands and options from each program's help.

_tapsnap_words() {	# PROGRAM WORD-BEFORE
	case "$1 $2" in
	"tap-ctl -p" | "tap-ctl --pid") tap-ctl list 2>/dev/null | sed -n 's/^pid=\([0-9]*\).*/\1/p' | sort -u ;;
	"tap-ctl -m" | "tap-ctl --minor") tap-ctl list 2>/dev/null | sed -n 's/.*minor=\([0-9]*\).*/\1/p' | sort -u ;;
	"tap-ctl -o" | "tap-ctl --domain") xl list 2>/dev/null | sed -n '2,$s/ .*//p' ;;
	xl-snapshot\ -*) ;;
	xl-snapshot\ *) xl list 2>/dev/null | sed -n '2,$s/ .*//p' ;;
	esac
}

# Called by bash with the program, the word to complete and the word before it. Without a match bash completes file names.
_tapsnap() {
	local words
	if [ "$COMP_CWORD" = 1 ]; then
		words=$("$1" --help 2>/dev/null | sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p')
	elif [[ $2 = -* ]]; then
		words=$("$1" "${COMP_WORDS[1]}" --help 2>/dev/null | sed -nE 's/^ +(-., )?(--[a-z0-9-]+).*/\2/p')
	else
		words=$(_tapsnap_words "${1##*/}" "$3")
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$2")
}

complete -o default -F _tapsnap tap-ctl tap-img xl-snapshot
