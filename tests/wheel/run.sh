#!/usr/bin/env bash
# The wheel as somebody gets it: built from a binary, installed into a fresh environment, and its module used. The module is
# checked with mypy --strict, from the inside and as its users see it.
#
#   tests/wheel/run.sh [BINARY]     default: target/release/shardfuse
#
# The model is loaded with the torch and transformers of the conformance tests (tests/conformance/setup.sh).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=$(realpath "${1:-$root/target/release/shardfuse}")
tools=$("$root/tests/prepare.sh" "$here/setup.sh")
transformers=$("$root/tests/prepare.sh" "$root/tests/conformance/setup.sh")
"$root/tests/prepare.sh" "$root/deploy/packages.sh" strip=binutils
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
unset SHARDFUSE_BINARY
fail() { echo "error: $*" >&2; exit 1; }

# As deploy/release.sh does: the binary without its debug data.
"$root/deploy/release/split.sh" "$binary" "$work/split"
"$transformers" -m venv "$work/fresh"
python=$work/fresh/bin/python
build() { # FOLDER
  SOURCE_DATE_EPOCH=1700000000 "$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-index \
    --wheel-dir "$1" --config-settings "binary=$work/split/shardfuse" "$root/deploy/python"
}
build "$work/first"
build "$work/second"
wheel=$(echo "$work"/first/*.whl)
cmp "$wheel" "$work/second/$(basename "$wheel")" || fail "two builds of one binary give different wheels"
"$python" -m pip install --quiet --disable-pip-version-check --no-index "$wheel"
echo "$(basename "$wheel"): $(stat --format %s "$wheel") bytes, reproducible"

# What the checks need beside the wheel lies behind it on the path.
"$transformers" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
  > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/transformers.pth"

"$tools/bin/mypy" --strict --cache-dir "$work/mypy" "$root/deploy/python/shardfuse" "$root/deploy/python/backend.py"
mypy() { (cd "$work" && "$tools/bin/mypy" --strict --cache-dir "$work/mypy" --python-executable "$python" "$@"); }
cp "$here/typed.py" "$work/typed.py"
mypy typed.py
sed 's/dtype="bf16"/dtype="bf17"/' "$here/typed.py" > "$work/misspelt.py"
if mypy misspelt.py > "$work/log"; then fail "the module's types take dtype=\"bf17\""; fi
grep -q 'bf17' "$work/log" || fail "$(< "$work/log")"

mkdir "$work/tests"
(cd "$work" && "$python" "$here/test_module.py" "$work/tests")
