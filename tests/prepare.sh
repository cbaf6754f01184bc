#!/usr/bin/env bash
# prepare.sh COMMAND...: runs a command that downloads, installs or builds.
#
# Adds its seconds to the file that SHARDFUSE_PREPARE_SECONDS names, so that .ci/run can tell them from the tests' own. Without
# the variable it only runs the command.
set -euo pipefail

[[ -n ${SHARDFUSE_PREPARE_SECONDS:-} ]] || exec "$@"
began=$EPOCHREALTIME status=0
# A command inside this one that is wrapped too must not count twice.
env --unset=SHARDFUSE_PREPARE_SECONDS "$@" || status=$?
awk -v from="$began" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f\n", to - from }' >> "$SHARDFUSE_PREPARE_SECONDS"
exit $status
