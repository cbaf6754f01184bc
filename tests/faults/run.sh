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
runs=100 first=0 more=()
while [[ $# -gt 0 ]]; do
    case $1 in
    --runs) runs=$2 ;;
    --first) first=$2 ;;
    *) more+=("$1" "$2") ;;
    esac
    shift 2
done
port=${SHARDFUSE_TEST_PORT:-18600}
folder=$(mktemp -d)
finish() {
    "$here/../services/stop.sh" "$folder/seaweedfs" >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT

"$here/../prepare.sh" "$here/../services/install.sh"
passed=0 failed=0
# The server gives deleted bytes back late, so every few runs get a new one.
for ((seed = first; seed < first + runs; seed += 25)); do
    mkdir -p "$folder"
    # A port of its own, since the last one is given back late too.
    port=$((port + 20))
    "$here/../services/start.sh" seaweedfs "$port" "$folder/seaweedfs" >"$folder/env"
    set -a
    . "$folder/env"
    set +a
    count=$((first + runs - seed < 25 ? first + runs - seed : 25))
    PYTHONDONTWRITEBYTECODE=1 python3 "$here/campaign.py" "$binary" --runs "$count" --first "$seed" "${more[@]}" | tee "$folder/log" || true
    read -r ok bad < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed$/\1 \2/p' "$folder/log") || { ok=0 bad=$count; }
    passed=$((passed + ok)) failed=$((failed + bad))
    finish
done
echo "fault runs: $passed passed, $failed failed"
[[ $failed -eq 0 && $passed -eq $runs ]]
