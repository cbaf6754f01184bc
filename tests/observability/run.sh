#!/usr/bin/env bash
# A fleet of real processes is watched while it merges: Prometheus scrapes it and answers every query of the dashboard and the
# alerts, a receiver of OTLP gets one trace, and headless Chromium looks at the status page.
#
#   tests/observability/run.sh [BINARY]     default: target/release/shardfuse
#
# SHARDFUSE_SCREENSHOTS   a folder: the pictures of the status page are left there
# Installs what it needs (setup.sh; Debian's packages as root). Everything listens on 127.0.0.1, on ports that are free.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
binary=$(realpath "${1:-$root/target/release/shardfuse}")
venv=$("$root/tests/prepare.sh" "$here/setup.sh")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

promtool check rules "$root/deploy/observability/alerts.yaml"
promtool test rules "$root/deploy/observability/alerts.test.yaml"
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$root/tests/faults" "$venv/bin/python" "$here/watch.py" "$binary" "$work"
