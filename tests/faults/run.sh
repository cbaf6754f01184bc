#!/usr/bin/env bash
# Merges on a real fleet against a real S3 server while something goes wrong; the output's digests must be the undisturbed
# merge's every time.
#
#   tests/faults/run.sh [BINARY] [--runs N] [--first SEED] [--keep FOLDER]     default: target/release/shardfuse, 100 runs
#
# Installs and starts SeaweedFS (tests/services); the S3 port and the seven after it from SHARDFUSE_TEST_PORT (18600) on.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
binary=$here/../../target/release/shardfuse
if [[ ${1:-} && ${1:-} != --* ]]; then
    binary=$1
    shift
fi
port=${SHARDFUSE_TEST_PORT:-18600}
folder=$(mktemp -d)
finish() {
    "$here/../services/stop.sh" "$folder/seaweedfs" || true
    rm -rf "$folder"
}
trap finish EXIT

"$here/../services/install.sh"
"$here/../services/start.sh" seaweedfs "$port" "$folder/seaweedfs" >"$folder/env"
set -a
. "$folder/env"
set +a
PYTHONDONTWRITEBYTECODE=1 python3 "$here/campaign.py" "$binary" "$@"
