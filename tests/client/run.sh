#!/usr/bin/env bash
# A client that was not written in Rust drives a merge end to end, and tools look at the protocol.
#
#   tests/client/run.sh [BINARY]     default: target/release/shardfuse
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=$(realpath "${1:-$root/target/release/shardfuse}")
venv=$("$root/tests/prepare.sh" "$here/setup.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

(cd "$root/proto/proto" && "$venv/bin/buf" lint)
echo "buf lint: nothing to say"

# As a client's author would: stubs from the .proto files, and nothing else of this repository.
mkdir "$work/stubs"
"$venv/bin/python" -m grpc_tools.protoc --proto_path "$root/proto/proto" \
    --python_out "$work/stubs" --grpc_python_out "$work/stubs" \
    shardfuse/v1/spec.proto shardfuse/v1/merges.proto shardfuse/v1/work.proto
PYTHONPATH="$work/stubs:$here" "$venv/bin/python" "$here/drive.py" "$binary" "$work" "$venv/bin/grpcurl"
