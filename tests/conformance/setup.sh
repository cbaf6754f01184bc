#!/usr/bin/env bash
# The Python environment of the conformance tests: made once, outside the checkout, from exact versions.
#
#   tests/conformance/setup.sh            prints the path of its python
#
# SHARDFUSE_CONFORMANCE_VENV   where (default: ${XDG_CACHE_HOME:-~/.cache}/shardfuse/conformance-venv)
# PYTHON                       which python makes it, 3.11 or later (default: python3)
#
# The first run downloads about 750 MB (see requirements.txt). A later one compares a digest and returns at once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=${SHARDFUSE_CONFORMANCE_VENV:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/conformance-venv}
want=$(cat "$here/requirements.txt" "$here/cpu_torch.py" | sha256sum | cut -d' ' -f1)
stamp=$venv/.shardfuse-stamp

mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock 9 # two runs at once: the second waits and finds the work done

if [[ -f $stamp && $(<"$stamp") == "$want" ]]; then
    echo "$venv/bin/python"
    exit 0
fi

{
    echo "making $venv"
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --only-binary :all: --requirement "$here/requirements.txt"
    if command -v cc >/dev/null && command -v nm >/dev/null && command -v readelf >/dev/null; then
        "$venv/bin/python" "$here/cpu_torch.py"
    else
        echo "no C compiler for cpu_torch.py: torch is installed with all its CUDA libraries"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
            "$(grep '^torch==' "$here/requirements.txt")"
    fi
    "$venv/bin/python" -c 'import torch, peft, transformers
print("torch", torch.__version__, "peft", peft.__version__, "transformers", transformers.__version__)'
} >&2
echo "$want" >"$stamp"
echo "$venv/bin/python"
