#!/usr/bin/env bash
# image.sh [--variant cpu|cuda] [--binary FILE] [--tag NAME] [--archive FILE]
#
# Builds the container image from a built binary with podman, from deploy/Dockerfile. The digest depends on the binary, the
# machine's glibc and certificate authorities, VERSION, REVISION and SOURCE_DATE_EPOCH (default: the last commit's time), and
# on nothing else. --archive also writes an OCI archive, for `skopeo copy` or `ctr images import`.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
variant=cpu binary=$root/target/release/shardfuse tag="" archive=""
while (($#)); do
  case $1 in
    --variant) variant=$2 ;;
    --binary) binary=$2 ;;
    --tag) tag=$2 ;;
    --archive) archive=$2 ;;
    *) echo "error: unknown argument $1" >&2; exit 2 ;;
  esac
  shift 2
done
[[ $variant == cpu || $variant == cuda ]] || { echo "error: --variant is cpu or cuda, not $variant" >&2; exit 2; }
[[ -x $binary ]] || { echo "error: no binary at $binary; build it with cargo build --release" >&2; exit 2; }
for tool in podman strip ldd; do
  command -v "$tool" > /dev/null || { echo "error: $tool is not installed" >&2; exit 2; }
done

VERSION=${VERSION:-$("$binary" --version | cut -d' ' -f2)}
REVISION=${REVISION:-$(git -C "$root" rev-parse HEAD)}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
tag=${tag:-localhost/shardfuse:$VERSION$([[ $variant == cuda ]] && echo -cuda || true)}
export CONTAINERS_CONF=${CONTAINERS_CONF:-$root/deploy/image/containers.conf}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$root/deploy/image/rootfs.sh" "$binary" "$work/rootfs"
contexts=(--build-context "rootfs=$work/rootfs")
if [[ $variant == cuda ]]; then
  "$root/deploy/image/cuda.sh" "$work/cuda"
  contexts+=(--build-context "cublas=$work/cuda")
fi
podman build --quiet --isolation chroot --timestamp "$SOURCE_DATE_EPOCH" --no-cache \
  --file "$root/deploy/Dockerfile" --target "$variant" --tag "$tag" "${contexts[@]}" \
  --build-arg "VERSION=$VERSION" --build-arg "REVISION=$REVISION" \
  --build-arg "CREATED=$(date --utc --date "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)" \
  "$root/deploy/image" > /dev/null
if [[ -n $archive ]]; then
  rm -f "$archive"
  podman push --quiet "$tag" "oci-archive:$archive:$tag" > /dev/null
fi
podman image inspect --format "$tag {{.Digest}} {{.Size}} bytes" "$tag"
