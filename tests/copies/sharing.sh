#!/usr/bin/env bash
# Merges on XFS, whose files share blocks: what does not change takes no room and no time. Compared with `cp --reflink=never` of the
# base in the same file system, which moves every byte.
#
#   tests/copies/sharing.sh [BINARY] [--full]      as root; default: target/release/shardfuse, a base of 0.9 GB
#
# With --full the base has the shape of Llama 7B (13.5 GB), 34 GB of room in $TMPDIR are needed (else 4), and the time decides:
# it wants a machine that does nothing else.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "tests/copies/sharing: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "mounting needs root"
binary=$here/../../target/release/shardfuse full=
for argument; do
    case $argument in
    --full) full=--full ;;
    *) binary=$argument ;;
    esac
done

work=$(mktemp -d)
finish() {
    # The mount is not there if making it failed.
    umount "$work/xfs" 2>/dev/null || umount --lazy "$work/xfs" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

"$here/../prepare.sh" "$here/../../deploy/packages.sh" mkfs.xfs=xfsprogs filefrag=e2fsprogs
truncate -s "$([ "$full" ] && echo 34G || echo 4G)" "$work/xfs.img"
mkfs.xfs -q -m reflink=1 "$work/xfs.img"
mkdir "$work/xfs"
mount -t xfs -o loop,discard "$work/xfs.img" "$work/xfs"
PYTHONDONTWRITEBYTECODE=1 python3 "$here/sharing.py" "$binary" "$work/xfs" $full
