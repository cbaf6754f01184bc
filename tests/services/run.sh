#!/usr/bin/env bash
# Runs the tests of object storage against real servers: SeaweedFS, Azurite, fake-gcs-server and rclone.
#
#   tests/services/run.sh [TEST]     ports from SHARDFUSE_TEST_PORT (18300) on
#
# Nothing is skipped: what cannot be installed or started fails the run.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
port=${SHARDFUSE_TEST_PORT:-18300}
folder=$(mktemp -d)

finish() {
    for service in seaweedfs azurite fake-gcs rclone; do
        "$here/stop.sh" "$folder/$service" || true
    done
    rm -rf "$folder"
}
trap finish EXIT

"$here/../prepare.sh" "$here/install.sh"
offset=0
for service in seaweedfs azurite fake-gcs rclone; do
    "$here/start.sh" "$service" $((port + offset)) "$folder/$service" >"$folder/env"
    set -a
    . "$folder/env"
    set +a
    offset=$((offset + 10))
done
# A key of the right form that nobody has.
export SHARDFUSE_TEST_WRONG_KEY=d3Jvbmc=
cd "$here/../.."
tests/prepare.sh cargo test -p shardfuse-store --features conformance --test services --no-run
cargo test -p shardfuse-store --features conformance --test services -- --ignored "$@"
