#!/usr/bin/env bash
# Stops the store that start.sh started in a folder, and waits until it is gone.
set -euo pipefail

[ -f "$1/pid" ] || exit 0
pid=$(cat "$1/pid")
# It leads a process group of its own.
kill -- "-$pid" 2>/dev/null || true
for _ in $(seq 50); do
    kill -0 -- "-$pid" 2>/dev/null || break
    sleep 0.1
done
kill -KILL -- "-$pid" 2>/dev/null || true
rm -f "$1/pid"
