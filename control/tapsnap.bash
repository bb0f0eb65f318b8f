# SPDX-License-Identifier: LGPL-2.1-or-later
#
# tapsnap.bash - completion in bash for tap-ctl, tap-img and xl-snapshot. What
# commands and options there are it reads out of each program's own help.

_tapsnap_words() {	# PROGRAM WORD-BEFORE
	case "$1 $2" in
	"tap-ctl -p" | "tap-ctl --pid") tap-ctl list 2>/dev/null | sed -n 's/^pid=\([0-9]*\).*/\1/p' | sort -u ;;
	"tap-ctl -m" | "tap-ctl --minor") tap-ctl list 2>/dev/null | sed -n 's/.*minor=\([0-9]*\).*/\1/p' | sort -u ;;
	"tap-ctl -o" | "tap-ctl --domain") xl list 2>/dev/null | sed -n '2,$s/ .*//p' ;;
	xl-snapshot\ -*) ;;
	xl-snapshot\ *) xl list 2>/dev/null | sed -n '2,$s/ .*//p' ;;
	esac
}

# As bash calls it: the program, the word that is completed, the word before that. Where it has nothing to offer bash takes files.
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
