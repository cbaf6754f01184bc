#!/usr/bin/env bash
# release.sh [--binary FILE] [--out DIR] [--parts LIST] [--modified]
#
# Puts everything of a release into one folder (default: target/release-VERSION), from one built binary:
#
#   archive  shardfuse-VERSION-ARCHITECTURE-linux.tar.gz: the binary without debug data, man pages, completions, licence
#   debug    shardfuse-VERSION-ARCHITECTURE-linux.debug: its debug data (deploy/release/split.sh)
#   wheel    the Python package (deploy/python)
#   deb      the Debian package (deploy/release/deb.sh)
#   chart    the Helm chart
#   sbom     the bill of materials (deploy/sbom.sh)
#   image    the container image as an OCI archive (deploy/image.sh; podman)
#
# and SHA256SUMS of all of them. --parts takes some of these names, separated by commas. The binary must be built from a commit
# (`cargo build --release --locked` in a clean checkout); --modified takes one that is not. File times are those of the commit
# (SOURCE_DATE_EPOCH).
#
# Not done here, since each needs an account or a key: signing SHA256SUMS (gpg --detach-sign), pushing the image (skopeo copy
# oci-archive:FILE docker://…) and the chart (helm push), uploading the wheel (twine upload), a repository of Debian packages.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
binary=$root/target/release/shardfuse out="" parts=archive,debug,wheel,deb,chart,sbom,image modified=""
while (($#)); do
  case $1 in
    --binary) binary=$2; shift ;;
    --out) out=$2; shift ;;
    --parts) parts=$2; shift ;;
    --modified) modified=yes ;;
    *) echo "error: unknown argument $1" >&2; exit 2 ;;
  esac
  shift
done
[[ -x $binary ]] || { echo "error: no binary at $binary; build it with cargo build --release --locked" >&2; exit 2; }
told=$("$binary" --version)
if [[ -z $modified && ($told != *"("* || $told == *modified* || $told == *debug*) ]]; then
  echo "error: the binary says $told: build it with cargo build --release --locked in a clean checkout, or give --modified" >&2
  exit 2
fi
version=$(cut -d' ' -f2 <<< "$told")
out=${out:-$root/target/release-$version}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
umask 022

mkdir -p "$out"
out=$(realpath "$out")
if [[ -n $(ls -A "$out") ]]; then
  echo "error: $out is not empty" >&2
  exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
name=shardfuse-$version-$(uname -m)-linux
"$root/deploy/release/split.sh" "$binary" "$work/split"
stripped=$work/split/shardfuse

archive() {
  "$root/deploy/release/tree.sh" "$stripped" "$work/$name"
  tar --create --directory "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner "$name" \
    | gzip -9n > "$out/$name.tar.gz"
}
debug() { cp "$work/split/shardfuse.debug" "$out/$name.debug"; }
wheel() {
  python3 -m pip wheel --quiet --disable-pip-version-check --no-deps --no-index --wheel-dir "$out" \
    --config-settings "binary=$stripped" "$root/deploy/python"
}
deb() { "$root/deploy/release/deb.sh" "$stripped" "$out" > /dev/null; }
chart() {
  helm package "$root/deploy/helm/shardfuse" --version "$version" --app-version "$version" --destination "$work/chart" > /dev/null
  mv "$work/chart/shardfuse-$version.tgz" "$out/shardfuse-$version-chart.tgz"
}
sbom() { "$root/deploy/sbom.sh" "$out/shardfuse-$version.cdx.json" > /dev/null; }
image() { "$root/deploy/image.sh" --binary "$stripped" --archive "$out/shardfuse-$version-image.tar" > /dev/null; }

for part in ${parts//,/ }; do
  case $part in
    archive | debug | wheel | deb | chart | sbom | image) "$part" ;;
    *) echo "error: unknown part $part" >&2; exit 2 ;;
  esac
done
(cd "$out" && sha256sum -- * > "$work/SHA256SUMS" && mv "$work/SHA256SUMS" SHA256SUMS)
echo "$told, in $out:"
(cd "$out" && stat --format '  %10s  %n' -- *)
