#!/usr/bin/env bash
# The Python environment that checks the module of the wheel (tests/venv.sh); prints its folder. SHARDFUSE_WHEEL_VENV puts it elsewhere.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../venv.sh" wheel "$here/requirements.txt"
