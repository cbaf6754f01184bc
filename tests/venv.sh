#!/usr/bin/env bash
# A Python environment outside the checkout, made once from exact versions; prints its folder.
#
#   tests/venv.sh NAME REQUIREMENTS [OPTIONS OF pip install...]
#
# It lies in ${XDG_CACHE_HOME:-~/.cache}/shardfuse/NAME-venv, or where SHARDFUSE_NAME_VENV (in capitals) says.
# PYTHON is the python that makes it, 3.11 or later (default: python3).
set -euo pipefail

name=$1 requirements=$2
shift 2
own=SHARDFUSE_${name^^}_VENV
venv=${!own:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/$name-venv}
want=$(sha256sum <"$requirements" | cut -d' ' -f1)
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
            --only-binary :all: "$@" --requirement "$requirements"
    } >&2
    echo "$want" >"$stamp"
fi
echo "$venv"
