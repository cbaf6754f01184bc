#!/usr/bin/env bash
# wait.sh JOB [KUBECTL ARGUMENT...]: waits until a Job has ended, either way. Exit code 0 if it is complete; 1 if it failed, with
# what it says of the reason. `kubectl wait --for=condition=Complete` alone goes on waiting for a Job that has failed.
#
#   deploy/kubernetes/wait.sh merge --namespace merges
set -euo pipefail
job=${1:?the name of a Job}
shift

condition() { # TYPE FIELD: the field of the condition, if it holds
  kubectl "${@:3}" get "job/$job" --output "jsonpath={.status.conditions[?(@.type==\"$1\")].$2}"
}

while true; do
  if [[ $(condition Complete status "$@") == True ]]; then
    exit 0
  fi
  if [[ $(condition Failed status "$@") == True ]]; then
    echo "job/$job failed: $(condition Failed reason "$@"): $(condition Failed message "$@")" >&2
    # The last lines of a pod that failed name the error and what to do.
    kubectl "$@" logs "job/$job" --tail 5 >&2 || true
    exit 1
  fi
  sleep "${SHARDFUSE_WAIT_SECONDS:-5}"
done
