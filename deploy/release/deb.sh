#!/usr/bin/env bash
# deb.sh BINARY FOLDER: makes shardfuse_VERSION_ARCHITECTURE.deb in FOLDER from a stripped binary: what tree.sh lays out, and the
# systemd units. Needs dpkg-dev. What the binary needs of the system, dpkg-shlibdeps finds; a package runs on the release of
# Debian or Ubuntu that it was made on, and on later ones. The same binary and SOURCE_DATE_EPOCH give the same package.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$(realpath "$1") out=$(realpath "$2")
for tool in dpkg-deb dpkg-shlibdeps; do
  command -v "$tool" > /dev/null || { echo "error: $tool is not installed (Debian's dpkg-dev)" >&2; exit 2; }
done
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
version=$("$binary" --version | cut -d' ' -f2)
architecture=$(dpkg --print-architecture)
umask 022

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/tree
"$root/deploy/release/tree.sh" "$binary" "$tree/usr"
for unit in "$root"/deploy/systemd/*.service; do
  install -D -m 644 "$unit" "$tree/usr/lib/systemd/system/$(basename "$unit")"
done

# The places that Debian's policy names.
doc=$tree/usr/share/doc/shardfuse
rm "$doc/LICENSE"
cat > "$doc/copyright" <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: shardfuse
Source: https://github.com/shardfuse/shardfuse

Files: *
Copyright: the authors of shardfuse
License: Apache-2.0
 On Debian systems the text of this licence is in /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
mv "$doc/CHANGELOG.md" "$doc/changelog"
gzip -9n "$doc/changelog" "$tree"/usr/share/man/man1/*.1

# dpkg-shlibdeps wants a source package around it.
mkdir "$work/debian"
printf 'Source: shardfuse\n\nPackage: shardfuse\nArchitecture: any\n' > "$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O -e"$tree/usr/bin/shardfuse" 2> "$work/shlibdeps.log") || {
  cat "$work/shlibdeps.log" >&2
  exit 1
}
mkdir "$tree/DEBIAN"
cat > "$tree/DEBIAN/control" <<CONTROL
Package: shardfuse
Version: $version
Architecture: $architecture
Maintainer: shardfuse <https://github.com/shardfuse/shardfuse>
Installed-Size: $(du --summarize --apparent-size --block-size=1024 "$tree/usr" | cut -f1)
Depends: ${depends#shlibs:Depends=}
Recommends: ca-certificates
Section: science
Priority: optional
Homepage: https://github.com/shardfuse/shardfuse
Description: merges LoRA-family adapters into checkpoints of any size
 shardfuse merges PEFT adapters into Hugging Face checkpoints, on one machine
 or on a fleet of workers that read from and write to object storage. It needs
 no more memory for a large model than for a small one, is exact to one
 rounding, and goes on where it was stopped.
CONTROL
(cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum) > "$tree/DEBIAN/md5sums"

file=$out/shardfuse_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$tree" "$file" > /dev/null
echo "$file"
