#!/usr/bin/env bash
# What the observability suite needs: Debian's prometheus and chromium where they are missing, and a Python environment
# (tests/venv.sh), whose folder is printed. SHARDFUSE_OBSERVABILITY_VENV puts it elsewhere.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$here/../../deploy/packages.sh" prometheus chromium >&2
exec "$here/../venv.sh" observability "$here/requirements.txt"
