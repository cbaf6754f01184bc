#!/usr/bin/env bash
# check.sh [BINARY]: makes a release without image and bill of materials, twice, and tries it: the Debian package is installed into a
# scratch root and its binary merges the example; the archive's binary finds its debug data. Default: target/release/shardfuse.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "${1:-$root/target/release/shardfuse}")
prepare() { "$root/tests/prepare.sh" "$@"; }
prepare "$root/deploy/packages.sh" strip=binutils dpkg-shlibdeps=dpkg-dev man=man-db systemd-analyze=systemd
export TOOLS=${TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/deploy}
prepare "$root/deploy/tools.sh"
export PATH=$TOOLS/bin:$PATH
fail() { echo "error: $*" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1700000000
PARTS=archive,debug,wheel,deb
"$root/deploy/release.sh" --binary "$binary" --out "$work/out" --parts "$PARTS,chart" --modified
(cd "$work/out" && sha256sum --quiet --check SHA256SUMS)
"$root/deploy/release.sh" --binary "$binary" --out "$work/again" --parts "$PARTS" --modified > /dev/null
for file in "$work"/again/shardfuse*; do
  cmp "$file" "$work/out/$(basename "$file")" || fail "two releases of one binary differ in $(basename "$file")"
done
echo "reproducible: all but the chart"
if "$root/deploy/release.sh" --binary "$binary" --out "$work/out" --parts deb --modified 2> "$work/log"; then
  fail "release.sh writes into a folder that is not empty"
fi
printf '#!/bin/sh\necho "shardfuse 0.1.0 (1a2b3c4d5 2026-01-01, modified)"\n' > "$work/modified"
chmod +x "$work/modified"
if "$root/deploy/release.sh" --binary "$work/modified" --out "$work/modified.out" 2> "$work/log"; then
  fail "release.sh takes a binary of modified sources"
fi
grep -q "1a2b3c4d5 2026-01-01, modified" "$work/log" || fail "$(< "$work/log")"

# The Debian package, as dpkg installs it, below a root of its own. What it depends on is installed here.
deb=$(echo "$work"/out/*.deb) scratch=$work/root
mkdir -p "$scratch/var/lib/dpkg/info"
touch "$scratch/var/lib/dpkg/status"
for package in $(dpkg-deb --field "$deb" Depends | sed 's/([^)]*)//g; s/,/ /g'); do
  dpkg-query --show --showformat '${db:Status-Status}\n' "$package" | grep -qx installed || fail "$package is not installed here"
done
dpkg --root "$scratch" --force-depends --force-script-chrootless --install "$deb" > "$work/log" 2>&1 || fail "$(< "$work/log")"
[[ $(dpkg --root "$scratch" --listfiles shardfuse | grep -c /usr/share/man/man1/shardfuse) -gt 15 ]] || fail "man pages are missing"
dpkg --root "$scratch" --verify shardfuse
man --warnings --local-file "$scratch/usr/share/man/man1/shardfuse-merge.1.gz" 2> "$work/log" | grep -- "--max-shard-size" > /dev/null || fail "the man page of merge has no --max-shard-size"
[[ ! -s $work/log ]] || fail "$(< "$work/log")"
installed=$scratch/usr/bin/shardfuse
mkdir "$work/units"
for unit in "$scratch"/usr/lib/systemd/system/*.service; do
  sed "s#=/usr/bin/shardfuse#=$installed#" "$unit" > "$work/units/$(basename "$unit")"
done
# A key that systemd does not know is only told.
told=$(systemd-analyze verify --man=no "$work"/units/shardfuse-{coordinator,worker}.service 2>&1) || fail "$told"
[[ -z $told ]] || fail "$told"
[[ $("$installed" --version) == "$("$binary" --version)" ]] || fail "the package has another binary"
merge() { "$1" merge --base "$root/examples/tiny-llama" --lora "$root/examples/lora-dialogue" --output "$2" --quiet; }
merge "$installed" "$work/merged"
merge "$binary" "$work/outside"
cmp "$work/merged/model.safetensors" "$work/outside/model.safetensors" || fail "the package and the binary outside merge differently"
echo "deb: $(stat --format %s "$deb") bytes; installed, merged the example, same bytes as outside; Depends: $(dpkg-deb --field "$deb" Depends)"

# The archive's binary, and its debug data: lines are there as long as the file is.
tar --extract --gzip --file "$(echo "$work"/out/*.tar.gz)" --directory "$work"
archive=$(echo "$work"/shardfuse-*-linux)
cp "$(echo "$work"/out/*.debug)" "$archive/bin/shardfuse.debug"
main=$(nm "$archive/bin/shardfuse" | awk '$3 ~ /shardfuse4main|9shardfuse.*4main/ && !n++ { print $1 }')
[[ -n $main ]] || fail "the stripped binary has no function names"
lines() { addr2line --exe "$archive/bin/shardfuse" "0x$main"; }
[[ $(lines) == *cli/main.rs:* ]] || fail "with its debug data the binary says that main is at $(lines)"
rm "$archive/bin/shardfuse.debug"
[[ $(lines) != *cli/main.rs* ]] || fail "the stripped binary holds debug data itself"
echo "stripped: $(stat --format %s "$binary") -> $(stat --format %s "$archive/bin/shardfuse") bytes, debug data in a file"
