#!/usr/bin/env bash
# job-processes.sh [--binary FILE]: what an Indexed Job does to `shardfuse job`, done to processes in network namespaces, as root.
#
# Each pod is a namespace with an address of its own, JOB_COMPLETION_INDEX, and the stable name merge-0.merge in its hosts file.
# Pods start in any order, get SIGTERM and SIGKILL in mid-merge, and are started again; what the Job would do with each exit code
# is read from the podFailurePolicy of deploy/kubernetes/merge-job.yaml. SeaweedFS on the namespaces' bridge is the store.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
# shellcheck source=settings.sh
source "$here/settings.sh"

binary=$root/target/release/shardfuse
[[ ${1:-} == --binary ]] && binary=$(realpath "$2")

NET=10.245.0
PORT=18360
RATE=40mbit # of each pod, so that the merge lasts long enough to be interrupted

work=$(mktemp -d)
declare -A pid=()
finish() {
  local status=$? index
  for index in "${!pid[@]}"; do kill -9 "${pid[$index]}" 2> /dev/null || true; done
  if ((status)); then tail -n 12 "$work"/pod-*.log >&2 || true; fi
  "$root/tests/services/stop.sh" "$work/s3" 2> /dev/null || true
  for index in 0 1 2; do
    ip netns delete sfjob-$index 2> /dev/null || true
    rm -rf /etc/netns/sfjob-$index
  done
  ip link delete sfjob 2> /dev/null || true
  rm -rf "$work"
  exit $status
}

network() {
  local index
  ip link add sfjob type bridge
  ip address add $NET.1/24 dev sfjob
  ip link set sfjob up
  for index in 0 1 2; do
    ip netns add sfjob-$index
    ip link add sfjob-$index type veth peer name eth0 netns sfjob-$index
    ip link set sfjob-$index master sfjob up
    ip -n sfjob-$index address add $NET.$((10 + index))/24 dev eth0
    ip -n sfjob-$index link set eth0 up
    ip -n sfjob-$index link set lo up
    ip netns exec sfjob-$index tc qdisc add dev eth0 root tbf rate $RATE burst 256kb latency 400ms
    mkdir -p /etc/netns/sfjob-$index
    printf '127.0.0.1 localhost\n%s merge-0.merge\n' "$NET.10" > /etc/netns/sfjob-$index/hosts
  done
}

# pod INDEX [SPEC]: starts one, as the manifest's container would be.
pod() {
  local index=$1 spec=${2:-$work/merge.yaml}
  ip netns exec sfjob-"$index" env JOB_COMPLETION_INDEX="$index" SHARDFUSE_LOG=info AWS_ACCESS_KEY_ID="$SHARDFUSE_TEST_S3_KEY" \
    AWS_SECRET_ACCESS_KEY="$SHARDFUSE_TEST_S3_SECRET" AWS_ENDPOINT_URL="http://$NET.1:$PORT" AWS_ALLOW_HTTP=true AWS_REGION=us-east-1 \
    "$binary" job --spec "$spec" --coordinator=https://merge-0.merge:7070 --listen=0.0.0.0:7070 --health=0.0.0.0:7072 --http=127.0.0.1:7071 \
    --memory=256MiB --grace=5s --format=json --tls-ca="$work/certs/ca.pem" --tls-cert="$work/certs/job.pem" --tls-key="$work/certs/job.key" \
    > "$work/pod-$index.out" 2>> "$work/pod-$index.log" &
  pid[$index]=$!
}
signal() { kill -"$2" "${pid[$1]}"; }
lives() { kill -0 "${pid[$1]}" 2> /dev/null; }
# ends INDEX CODE ANSWER: the pod ends with CODE, for which the manifest's policy has ANSWER.
ends() {
  local index=$1 code=0 answer
  wait "${pid[$index]}" || code=$?
  unset "pid[$index]"
  [[ $code == "$2" ]] || fail "index $index ended with $code instead of $2"
  answer=$("$TOOLS/venv/bin/python" - "$root/deploy/kubernetes/merge-job.yaml" "$code" <<'PYTHON'
import sys, yaml
job = next(d for d in yaml.safe_load_all(open(sys.argv[1])) if d["kind"] == "Job")
code = int(sys.argv[2])
rules = job["spec"]["podFailurePolicy"]["rules"]
hits = [r["action"] for r in rules if code in (r.get("onExitCodes") or {}).get("values", [])]
print("Success" if code == 0 else hits[0] if hits else "Count")
PYTHON
  )
  [[ $answer == "$3" ]] || fail "the policy answers $code with $answer instead of $3"
  echo "index $index: exit code $code, $answer"
}
s3() { curl --silent --fail --aws-sigv4 aws:amz:us-east-1:s3 --user "$SHARDFUSE_TEST_S3_KEY:$SHARDFUSE_TEST_S3_SECRET" "$@"; }
there() { s3 --head "http://$NET.1:$PORT/models/merged/$1" > /dev/null; }
# The share of the merge that is journaled, as index 0 tells in its metrics; 0 while it cannot be asked. progress_over SHARE
progress() { ip netns exec sfjob-0 curl --silent http://127.0.0.1:7071/metrics | awk '/^shardfuse_merge_progress_ratio/ {share = $2} END {print share + 0}'; }
progress_over() { awk -v now="$(progress)" -v before="$1" 'BEGIN {exit !(now > before)}'; }
ready() { ip netns exec sfjob-"$1" "$binary" health --coordinator http://127.0.0.1:7072 --service ready; }
no_success() {
  local file
  for file in config.json shardfuse.json model.safetensors.index.json; do
    if there $file; then fail "$1, and $file is visible"; fi
  done
}

main() {
  trap finish EXIT
  [[ -x $binary ]] || fail "no binary at $binary; cargo build --release, or --binary"
  ((EUID == 0)) || fail "network namespaces need root"
  local prepare=$root/tests/prepare.sh
  "$prepare" "$root/deploy/packages.sh" ip=iproute2 tc=iproute2 curl python3
  "$prepare" "$root/deploy/tools.sh"
  "$prepare" "$root/tests/services/install.sh"
  network
  SHARDFUSE_TEST_HOST=$NET.1 "$root/tests/services/start.sh" seaweedfs $PORT "$work/s3" > "$work/env"
  # shellcheck source=/dev/null
  source "$work/env"
  "$binary" certs --out "$work/certs" --host merge-0.merge --quiet
  python3 "$here/model.py" "$work/model" > /dev/null
  local file share
  for file in base/{model-00001-of-00002.safetensors,model-00002-of-00002.safetensors,model.safetensors.index.json,config.json} \
    lora/{adapter_model.safetensors,adapter_config.json}; do
    s3 -T "$work/model/$file" "http://$NET.1:$PORT/models/$file"
  done
  "$binary" merge --base "$work/model/base" --lora "$work/model/lora" --output "$work/alone" --part-size 8MiB --memory 256MiB --quiet
  echo '{base: s3://models/base, lora: [s3://models/lora], output: s3://models/merged, part_size: 8MiB}' > "$work/merge.yaml"
  echo '{base: s3://models/base, lora: [s3://models/nowhere], output: s3://models/refused}' > "$work/refused.yaml"
  echo '{base: s3://models/base, loras: [s3://models/lora]}' > "$work/wrong.yaml"

  say "a worker that has not found index 0 yet is interrupted"
  pod 1
  wait_for 30 "the worker to say that it is alone" grep -q "no session" "$work/pod-1.log"
  if ready 1 > /dev/null 2>&1; then fail "a worker without a coordinator is ready"; fi
  signal 1 TERM
  ends 1 4 Ignore

  say "workers first, then index 0; index 0 is interrupted in mid-merge"
  pod 1
  pod 2
  sleep 1
  pod 0
  wait_for 120 "the first part" progress_over 0
  wait_for 30 "a worker to be ready" ready 1
  share=$(progress)
  signal 0 TERM
  ends 0 4 Ignore
  no_success "index 0 was interrupted"
  if ! lives 1 || ! lives 2; then fail "a worker ended with index 0"; fi

  say "index 0 again; a worker is interrupted, another killed, both start again"
  pod 0
  wait_for 120 "more parts" progress_over "$share"
  signal 1 TERM
  ends 1 4 Ignore
  signal 2 KILL
  ends 2 137 Count
  no_success "two workers ended"
  pod 1
  pod 2
  ends 0 0 Success
  ends 1 0 Success
  ends 2 0 Success
  cat "$work/pod-0.out"
  python3 -c 'import json, sys; sys.exit(json.load(open(sys.argv[1]))["parts_kept"] == 0)' "$work/pod-0.out" ||
    fail "the restarted index 0 kept nothing of what was finished"
  if ! there config.json || ! there shardfuse.json; then fail "index 0 ended with 0, and nothing is published"; fi
  for file in "$work"/alone/*.safetensors; do
    s3 "http://$NET.1:$PORT/models/merged/$(basename "$file")" | cmp - "$file" || fail "$(basename "$file") differs"
  done
  echo "the weights are those of the merge on one machine"

  say "the same Job once more: it is published already"
  pod 0
  ends 0 0 Success

  say "a refused input, and a wrong spec"
  pod 1 "$work/refused.yaml"
  pod 0 "$work/refused.yaml"
  ends 0 3 FailJob
  grep -q "s3://models/nowhere" "$work/pod-0.log" || fail "the refused input is not named"
  lives 1 || fail "a worker ended although nothing was published"
  signal 1 TERM
  ends 1 4 Ignore
  pod 0 "$work/wrong.yaml"
  ends 0 2 FailJob
  say "all of it held"
}

main
