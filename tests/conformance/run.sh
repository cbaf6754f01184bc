#!/usr/bin/env bash
# The conformance checks that need Python: the checker itself, the golden set, fresh adapters
# against PEFT, and a tiny model of each of some types.
#
#   tests/conformance/run.sh [BINARY [OPTIONS OF fresh.py]]     default: target/release/shardfuse
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=${1:-$here/../../target/release/shardfuse}
python=$("$here/../prepare.sh" "$here/setup.sh")
export PYTHONDONTWRITEBYTECODE=1

"$python" "$here/check.py" --selftest "$here/golden"
"$python" "$here/shared_set.py" "$here/golden" "$binary" | grep -v '^ok '
"$python" "$here/fresh.py" "$binary" "${@:2}"
"$python" "$here/survey.py" "$binary" --sample
"$python" "$here/quantised.py" "$binary"
"$python" "$here/requantised.py" "$binary"
"$python" "$here/base_as.py" "$binary"
