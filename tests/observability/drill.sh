#!/usr/bin/env bash
# The incident drill (drill.py): a worker killed, the coordinator killed and started again, the disk full, credentials revoked.
# Each must be named on the status page and in the default logs within ten seconds.
#
#   tests/observability/drill.sh [BINARY [INCIDENT...]]     default: target/release/shardfuse, all incidents
#
# As root, since it mounts a small disk. Installs what it needs (setup.sh, tests/services); the S3 server takes the port from
# SHARDFUSE_TEST_PORT (18700) and the seven after it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=$(realpath "${1:-$root/target/release/shardfuse}")
venv=$("$root/tests/prepare.sh" "$here/setup.sh")
"$root/tests/prepare.sh" "$root/tests/services/install.sh"
work=$(mktemp -d)
finish() {
    "$root/tests/services/stop.sh" "$work/seaweedfs" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

"$root/tests/services/start.sh" seaweedfs "${SHARDFUSE_TEST_PORT:-18700}" "$work/seaweedfs" >"$work/env"
set -a
. "$work/env"
set +a
mkdir "$work/drill"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root/tests/faults" "$venv/bin/python" "$here/drill.py" "$binary" "$work/drill" "${@:2}"
