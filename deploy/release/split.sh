#!/usr/bin/env bash
# split.sh BINARY DIR: DIR/shardfuse, the binary without debug data, and DIR/shardfuse.debug, the debug data. The binary names the
# file and its checksum (.gnu_debuglink): where the file lies beside it, backtraces have files and lines, and so have gdb and perf.
# Function names stay in the binary.
set -euo pipefail
binary=$(realpath "$1") dir=$2
mkdir -p "$dir"
objcopy --only-keep-debug --compress-debug-sections=zlib "$binary" "$dir/shardfuse.debug"
chmod 644 "$dir/shardfuse.debug"
# The link holds the name alone, so the file must be there when it is made.
(cd "$dir" && objcopy --strip-debug --add-gnu-debuglink=shardfuse.debug "$binary" shardfuse)
