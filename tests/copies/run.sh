#!/usr/bin/env bash
# Merges in which an S3 server copies what does not change: the same bytes as without copies, few of them through workers, digests,
# kills, and a base that is overwritten meanwhile (campaign.py).
#
#   tests/copies/run.sh [BINARY] [--full]      default: target/release/shardfuse, a base of 0.7 GB
#
# With --full the base has 10.9 GB; 45 GB of room in $TMPDIR are needed then, else 5. Installs and starts SeaweedFS (tests/services);
# the S3 port is SHARDFUSE_TEST_PORT (18900), with the seven after it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
binary=$here/../../target/release/shardfuse
if [[ ${1:-} && ${1:-} != --* ]]; then
    binary=$1
    shift
fi
# Volumes that hold the base and two outputs, one of which is being deleted.
[[ " $* " != *" --full "* ]] || export SHARDFUSE_TEST_VOLUME_MB=${SHARDFUSE_TEST_VOLUME_MB:-1200}
folder=$(mktemp -d)
finish() {
    "$here/../services/stop.sh" "$folder/seaweedfs" >/dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT

"$here/../prepare.sh" "$here/../services/install.sh"
"$here/../services/start.sh" seaweedfs "${SHARDFUSE_TEST_PORT:-18900}" "$folder/seaweedfs" >"$folder/env"
set -a
. "$folder/env"
set +a
PYTHONDONTWRITEBYTECODE=1 python3 "$here/campaign.py" "$binary" "$folder/seaweedfs/data" "$@"
