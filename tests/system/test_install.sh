#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_install.sh - the files of `make install` are complete: installed into a
# package's directory (DESTDIR), whose content then moves to its place (PREFIX).
#
# Output is TAP. BUILD says where the programs are. Needs: gcc make pkg-config systemd
. "$(dirname "$0")/lib.sh"
unset MAKEFLAGS MAKELEVEL MFLAGS

# nothing is rebuilt (-o)
make_it() { make -s -C "$here" -o all BUILD="$build" DESTDIR="$work/package" PREFIX="$work/usr" XEN_SCRIPT_DIR="$work/etc" "$@"; }

files() { (cd "$1" && find . ! -type d | sort); }

# a library that was made with these (make coverage, asan, tsan) needs them when a program is linked to it, too
special=$(grep -oE -e '--coverage|-fsanitize=[a-z,]+' "$build/flags" | sort -u)

compile() { # EXAMPLE
	# shellcheck disable=SC2046 # words
	gcc -Wall -Wextra -Werror -Wno-unused-parameter -std=gnu11 $special -o example "$here/docs/examples/$1.c" $(pkg-config --cflags --libs tapsnap) &&
		[ "$(./example 2>&1 | head -1 | cut -d' ' -f1,2)" = "usage: $1" ]
}

hardened() { # PROGRAM
	local pattern
	readelf -W -h -l -d --dyn-syms "$1" >elf || return 1
	for pattern in 'Type: *DYN' GNU_RELRO 'FLAGS_1.* NOW' '__stack_chk_fail@' 'n[a-z]*f_chk@'; do
		grep -q "$pattern" elf || { echo "no $pattern"; return 1; }
	done
}

make_object() {	# into an empty directory of its own
	make -s -C "$here" BUILD="$work/objects" "$@" "$work/objects/drivers/error.o" && stat -c %y objects/drivers/error.o
}

for program in "$build"/bin/*; do
	if [ "$special" ]; then
		skip "${program##*/} is hardened" "one that counts its lines, or is made for a sanitizer, is not"
	else
		check "${program##*/} is hardened" hardened "$program"
	fi
done
object=$(make_object)
check "with the same flags an object is not made again" is "$(make_object)" "$object"
check "with others it is" [ "$(make_object CFLAGS=-O1)" != "$object" ]
check "install" make_it install
check "nothing but for PREFIX, and Xen's scripts" is "$(ls "package$work" | paste -sd' ')" "etc usr"
mv "package$work/usr" "package$work/etc" . && rm -r package
export PKG_CONFIG_PATH=$work/usr/lib/pkgconfig
check "the headers are those of the library" is "$(ls usr/include/tapsnap | paste -sd' ')" \
	"domain-snapshot-libxl.h domain-snapshot.h error-text.h"
check "pkg-config knows the version" is "$(pkg-config --modversion tapsnap)" "$(xl-snapshot --version | awk '{ print $3 }')"
for example in snapshot-many snapshot-attach; do
	check "a program with the library: $example" compile $example
done
check "bash finds the completion of each by its name" is "$(grep -l 'complete -o default -F' usr/share/bash-completion/completions/* | xargs -n1 basename | paste -sd' ')" \
	"tap-ctl tap-img xl-snapshot"
check "a program runs where it is" exits 0 usr/sbin/tap-ctl list
# The restrictions of the unit, as docs/security.md has them: a directive that is lost, or that systemd does not know, is noticed.
unit=$work/usr/lib/systemd/system/tapback.service
exposure() { systemd-analyze security --offline=true --no-pager --threshold="$1" "$unit"; }	# in tenths
if command -v systemd-analyze >/dev/null; then
	check "the unit is valid" is "$(systemd-analyze verify --man=no "$unit" 2>&1 && echo valid)" valid
	check "the unit's exposure is 2.5 of 10 at most" exits 0 exposure 25
	if [ "$(systemd-analyze --version | awk '{ print $2; exit }')" = 252 ]; then
		check "... as docs/security.md says" grep -q "exposure level for tapback.service: $(grep -oP 'tapback.service` gives it \K[0-9.]+' "$here/docs/security.md") " out
	else
		skip "... as docs/security.md says" "another systemd than 252 may count otherwise"
	fi
	check "... and a lower limit is not kept" exits 1 exposure 20
else
	for each in "the unit is valid" "the unit's exposure is 2.5 of 10 at most" "... as docs/security.md says" "... and a lower limit is not kept"; do
		skip "$each" "missing: systemd"
	done
fi
mkdir package && mv usr etc package/
mkdir -p "package$work" && mv package/usr package/etc "package$work/"
# the links that `systemctl enable` makes
mkdir -p package/etc/systemd/system/multi-user.target.wants
ln -s "$work/usr/lib/systemd/system/tapback.service" package/etc/systemd/system/multi-user.target.wants/
check "uninstall" exits 0 make_it uninstall
check "says what stays" grep -q /var/lib/tapsnap out
check "nothing is left" says "" files package
check "nor our own directory" test ! -e "package$work/usr/include/tapsnap"
finish
