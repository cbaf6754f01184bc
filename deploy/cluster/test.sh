#!/usr/bin/env bash
# test.sh [--binary FILE] [--keep]: the chart's service mode on a real cluster (up.sh), with faults.
#
# SeaweedFS as S3 on this machine; coordinator, three workers and a submit Job as pods, with mutual TLS. While the merge runs a
# worker's pod and then the coordinator's pod are deleted. The Job must complete, the weights must be those of the merge on one
# machine, and a merge whose input is refused must fail its Job at once, with the message in the pod's termination log.
# Reads and writes only 127.0.0.1 and the cluster's own bridge. --keep leaves the cluster running.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=settings.sh
source "$here/settings.sh"

binary=$root/target/release/shardfuse keep=no
while (($#)); do
  case $1 in
    --binary) binary=$(realpath "$2"); shift ;;
    --keep) keep=yes ;;
    *) fail "unknown argument $1" ;;
  esac
  shift
done

HOST=10.244.0.1
PORT=18340
NAMESPACE=merges
IMAGE=localhost/shardfuse:cluster
RATE=2MiB # a worker writes no faster, so that there is time for faults

work=$(mktemp -d)
finish() {
  local status=$?
  if ((status)); then
    echo "-- the cluster at the end" >&2
    kubectl -n $NAMESPACE get pods,jobs -o wide >&2 2> /dev/null || true
    for pod in $(kubectl -n $NAMESPACE get pods -o name 2> /dev/null); do
      echo "-- $pod" >&2
      kubectl -n $NAMESPACE logs --tail=15 "$pod" >&2 2> /dev/null || true
    done
  fi
  "$root/tests/services/stop.sh" "$work/s3" 2> /dev/null || true
  [[ $keep == yes ]] || "$here/down.sh" || true
  rm -rf "$work"
  exit $status
}

k() { kubectl -n $NAMESPACE "$@"; }
pods() { k get pods -l "app.kubernetes.io/component=$1" --field-selector=status.phase=Running -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}'; }
ready() { k get pods -l "app.kubernetes.io/component=$1" -o jsonpath='{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' | grep -c ' True$'; }
three_ready() { [[ $(ready worker) == 3 && $(ready coordinator) == 1 ]]; }
job_state() { k get job "$1" -o jsonpath='{range .status.conditions[?(@.status=="True")]}{.type} {end}'; }
# Bytes of the merge that are finished, as its coordinator tells a submitter outside of the cluster; 0 while it cannot be asked.
bytes_done() { merge_says bytes_done; }
# merge_says FIELD, as a number.
merge_says() {
  local address
  address=$(k get pods -l app.kubernetes.io/component=coordinator --field-selector=status.phase=Running -o jsonpath='{.items[0].status.podIP}') || return 0
  "$binary" list --coordinator "https://$address:7070" --tls-name fleet-shardfuse-coordinator --format json \
    --tls-ca "$work/certs/ca.pem" --tls-cert "$work/certs/submitter.pem" --tls-key "$work/certs/submitter.key" 2> /dev/null |
    python3 -c 'import json, sys; print(sum(m[sys.argv[1]] for m in json.load(sys.stdin)["merges"] if m["output"].endswith("/merged")))' "$1" 2> /dev/null || echo 0
}
has_done() { (($(bytes_done) >= $1)); }

main() {
  trap finish EXIT
  [[ -x $binary ]] || fail "no binary at $binary; cargo build --release, or --binary"
  "$root/tests/services/install.sh"
  "$here/up.sh"

  say "the image, onto the node"
  "$root/deploy/image.sh" --binary "$binary" --tag $IMAGE --archive "$work/image.tar"
  "$here/load.sh" "$work/image.tar"

  say "SeaweedFS on $HOST:$PORT, inputs into it"
  SHARDFUSE_TEST_HOST=$HOST "$root/tests/services/start.sh" seaweedfs $PORT "$work/s3" > "$work/s3.env"
  # shellcheck source=/dev/null
  source "$work/s3.env"
  python3 "$here/model.py" "$work/model" > /dev/null
  put() {
    local file
    (cd "$1" && find . -type f | sed 's|^\./||') | while read -r file; do
      curl --silent --fail --aws-sigv4 aws:amz:us-east-1:s3 --user "$SHARDFUSE_TEST_S3_KEY:$SHARDFUSE_TEST_S3_SECRET" \
        -T "$1/$file" "http://$HOST:$PORT/models/$2/$file" > /dev/null
    done
  }
  put "$work/model/base" base
  put "$work/model/lora" lora

  say "the same merge on one machine"
  "$binary" merge --base "$work/model/base" --lora "$work/model/lora" --output "$work/alone" --part-size 8MiB --memory 256MiB --quiet

  say "helm install"
  kubectl create namespace $NAMESPACE
  "$binary" certs --out "$work/certs" --host fleet-shardfuse-coordinator --kubernetes-secret fleet-shardfuse | k apply -f - > /dev/null
  k create secret generic s3 --from-literal=AWS_ACCESS_KEY_ID="$SHARDFUSE_TEST_S3_KEY" \
    --from-literal=AWS_SECRET_ACCESS_KEY="$SHARDFUSE_TEST_S3_SECRET"
  cat > "$work/values.yaml" <<EOT
image: {repository: localhost/shardfuse, tag: cluster, pullPolicy: Never}
allow: [s3://models]
stores:
  s3://models: {endpoint: "http://$HOST:$PORT", region: us-east-1, allow_http: true}
envFrom: [{secretRef: {name: s3}}]
coordinator:
  state: s3://models/state
  resources: {requests: {cpu: 50m, memory: 128Mi}, limits: {memory: 512Mi}}
  extraArgs: [--lease=10s]
worker:
  replicas: 3
  memoryMiB: 256
  cpu: 100m
  graceSeconds: 5
  extraArgs: [--limit-rate=$RATE]
submissions:
  - name: model
    spec: {base: s3://models/base, lora: [s3://models/lora], output: s3://models/merged, part_size: 8MiB}
  - name: refused
    spec: {base: s3://models/base, lora: [s3://models/nowhere], output: s3://models/refused}
EOT
  helm install fleet "$root/deploy/helm/shardfuse" --namespace $NAMESPACE --values "$root/deploy/helm/shardfuse/values-1.20.yaml" \
    --values "$work/values.yaml"
  local job refused
  job=$(k get jobs -l shardfuse.dev/submission=model -o name | cut -d/ -f2)
  refused=$(k get jobs -l shardfuse.dev/submission=refused -o name | cut -d/ -f2)
  wait_for 120 "three workers and the coordinator to be ready" three_ready
  k get pods -o wide

  say "a refused input fails its Job at once"
  k wait --for=condition=Failed --timeout=90s "job/$refused"
  local state
  state=$(k get pods -l shardfuse.dev/submission=refused -o jsonpath='{.items[*].status.containerStatuses[0].state.terminated}')
  echo "$state"
  [[ $(k get pods -l shardfuse.dev/submission=refused -o name | wc -l) == 1 ]] || fail "a refused merge was tried again"
  grep -q '"exitCode":3' <<< "$state" || fail "the refused merge did not end with 3"
  grep -q 's3://models/nowhere' <<< "$state" || fail "the termination log does not name what was refused"

  say "a worker's pod is deleted in mid-merge"
  local before victim
  wait_for 120 "the first parts" has_done 1
  victim=$(pods worker | sed -n 1p)
  k delete pod "$victim" --grace-period=0 --force 2> /dev/null
  [[ -z $(job_state "$job") ]] || fail "the merge had ended before the worker was deleted"
  wait_for 120 "another worker in its place" three_ready

  say "the coordinator's pod is deleted in mid-merge"
  before=$(bytes_done)
  wait_for 120 "more parts" has_done $((before + 1))
  victim=$(pods coordinator)
  k delete pod "$victim" --grace-period=0 --force 2> /dev/null
  [[ -z $(job_state "$job") ]] || fail "the merge had ended before the coordinator was deleted"

  say "the Job completes"
  k wait --for=condition=Complete --timeout=400s "job/$job"
  k get pods,jobs -o wide
  [[ $(k get pods -l shardfuse.dev/submission=model -o name | wc -l) == 1 ]] || fail "the submit pod did not outlive the coordinator"

  local kept made
  kept=$(merge_says parts_kept) made=$(merge_says parts_written)
  echo "the second coordinator found $kept parts done and saw $made made"
  ((kept > 0 && made > 0)) || fail "the faults did not meet a merge that was under way"

  say "the weights are those of the merge on one machine"
  local file
  for file in "$work"/alone/*.safetensors; do
    curl --silent --fail --aws-sigv4 aws:amz:us-east-1:s3 --user "$SHARDFUSE_TEST_S3_KEY:$SHARDFUSE_TEST_S3_SECRET" \
      "http://$HOST:$PORT/models/merged/$(basename "$file")" | cmp - "$file" || fail "$(basename "$file") differs"
    sha256sum "$file" | sed "s|$work/alone/||"
  done
  say "all of it held"
}

main
