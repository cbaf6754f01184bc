#!/usr/bin/env bash
# Blocks that two files share, on real file systems in loop devices: XFS, Btrfs and two of its subvolumes share them; XFS without
# reflink and ext4 do not.
#
#   tests/sharing/run.sh          as root; 2 GB of room in $TMPDIR
#
# Installs xfsprogs and btrfs-progs. What cannot be installed, made or mounted fails the run.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
fail() { echo "tests/sharing: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "mounting needs root"

work=$(mktemp -d)
mounted=()
finish() {
    local folder
    for folder in "${mounted[@]}"; do
        umount "$folder" || umount --lazy "$folder"
    done
    rm -rf "$work"
}
trap finish EXIT

"$root/tests/prepare.sh" "$root/deploy/packages.sh" mkfs.xfs=xfsprogs mkfs.btrfs=btrfs-progs filefrag=e2fsprogs

make() { # NAME KIND OPTIONS OF mkfs...
    local name=$1 kind=$2
    shift 2
    truncate -s 600M "$work/$name.img"
    "mkfs.$kind" -q "$@" "$work/$name.img"
    mkdir "$work/$name"
    mount -t "$kind" -o loop "$work/$name.img" "$work/$name"
    mounted+=("$work/$name")
}
make xfs xfs -m reflink=1
make btrfs btrfs >/dev/null
make plain-xfs xfs -m reflink=0
make ext4 ext4
mkdir "$work/xfs/out" "$work/btrfs/out"
btrfs -q subvolume create "$work/btrfs/out/from"

cd "$root"
test_of() { # NAME OF THE TEST
    tests/prepare.sh cargo test -p shardfuse-store --lib --no-run
    cargo test -p shardfuse-store --lib -- --ignored --exact "local::tests::sharing::$1" | tee "$work/log"
    grep -q "^test result: ok. 1 passed" "$work/log" || fail "there is no test $1"
}
export SHARDFUSE_SHARING=$work/xfs/out:$work/btrfs/out
export SHARDFUSE_NOT_SHARING=$work/plain-xfs:$work/ext4
test_of bytes_of_another_file_take_no_room

# FIEMAP: 16 MiB and all but one block of 16 MiB of `merged` are extents that are shared.
for folder in "$work/xfs/out" "$work/btrfs/out"; do
    sync --file-system "$folder"
    shared=$(filefrag -v -b4096 "$folder/merged" | awk '
        $NF ~ /shared/ { sub(":", "", $6); blocks += $6 } END { print blocks + 0 }')
    echo "tests/sharing: $folder/merged shares $shared blocks of 4096 bytes"
    [ "$shared" -ge 8190 ] || fail "8191 blocks were to be shared: $(filefrag -v -b4096 "$folder/merged")"
done

test_of no_sharing_is_promised_where_there_is_none
