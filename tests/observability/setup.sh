#!/usr/bin/env bash
# What the observability suite needs: Debian's prometheus and chromium where they are missing, and a Python environment made
# once, outside the checkout, from exact versions.
#
#   tests/observability/setup.sh     prints the environment's folder
#
# SHARDFUSE_OBSERVABILITY_VENV   where (default: ${XDG_CACHE_HOME:-~/.cache}/shardfuse/observability-venv)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../deploy/packages.sh" prometheus chromium >&2

venv=${SHARDFUSE_OBSERVABILITY_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/observability-venv}
want=$(sha256sum <"$here/requirements.txt" | cut -d' ' -f1)
stamp=$venv/.shardfuse-stamp
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9 # two runs at once: the second waits and finds the work done
if [[ ! -f $stamp || $(<"$stamp") != "$want" ]]; then
    {
        echo "making $venv"
        rm -rf "$venv"
        "${PYTHON:-python3}" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
            --only-binary :all: --requirement "$here/requirements.txt"
    } >&2
    echo "$want" >"$stamp"
fi
echo "$venv"
