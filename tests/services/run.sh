#!/usr/bin/env bash
# Runs the tests of object storage against real servers: SeaweedFS, Azurite, fake-gcs-server, rclone and versitygw.
#
#   tests/services/run.sh [TEST]     ports from SHARDFUSE_TEST_PORT (18300) on
#
# What cannot be installed or started fails the run. The one exception is versitygw, which needs Go (the version in
# versitygw/go.mod): without it those tests are left out, and the run says so at its end.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
port=${SHARDFUSE_TEST_PORT:-18300}
folder=$(mktemp -d)
cache=${SHARDFUSE_SERVICES:-$HOME/.cache/shardfuse/services}
services=(seaweedfs azurite fake-gcs rclone)
left_out=()

finish() {
    for service in "${services[@]}"; do
        "$here/stop.sh" "$folder/$service" || true
    done
    rm -rf "$folder"
}
trap finish EXIT

"$here/../prepare.sh" "$here/install.sh"
if [ -f "$cache/versitygw/built" ]; then
    services+=(versitygw)
else
    left_out=(--skip versitygw)
fi
offset=0
for service in "${services[@]}"; do
    "$here/start.sh" "$service" $((port + offset)) "$folder/$service" >"$folder/env"
    set -a
    . "$folder/env"
    set +a
    offset=$((offset + 10))
done
# A key of the right form that nobody has.
export SHARDFUSE_TEST_WRONG_KEY=d3Jvbmc=
cd "$here/../.."
tests/prepare.sh cargo test --workspace --test services --no-run
cargo test --workspace --test services -- --ignored "${left_out[@]}" "$@"
if [ ${#left_out[@]} -gt 0 ]; then
    echo "tests/services: no Go that is new enough is installed: versitygw was not built, and its tests did NOT run" >&2
fi
