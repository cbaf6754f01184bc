#!/usr/bin/env bash
# Everything about the deployment that can be held against something without a cluster: scripts, Dockerfiles, manifests and the
# chart against schemas of the versions that they are for, what the schema of values refuses, policies, alert rules with their
# tests, the dashboard. Installs the tools that it needs (deploy/tools.sh; promtool comes with Debian's package prometheus, as root).
# Nothing is left out silently: a missing tool fails.
set -euo pipefail
cd "$(dirname "$0")"

# Mode service from 1.28, mode job and the plain Job from 1.31; values-1.20.yaml against the oldest schema that there is.
SERVICE="1.28 1.31 1.34 1.37"
JOB="1.31 1.34 1.37"
OLDEST=1.25

fail() { echo "error: $*" >&2; exit 1; }
stage() {
  local name=$1 log=$work/log status=0
  shift
  # Not inside an `if`: there a command that fails in the middle of a function would go unnoticed.
  set +e
  (set -e; "$@") > "$log" 2>&1
  status=$?
  set -e
  if ((status)); then
    cat "$log"
    fail "$name"
  fi
  echo "ok: $name"
  { grep -hE '^(policy|same job|metrics|chart): .* 0 (problems|differences)$|^chart:' "$log" || true; } | sed 's/^/    /'
}

scripts() { shellcheck --external-sources --source-path=SCRIPTDIR ./*.sh image/*.sh cluster/*.sh release/*.sh kubernetes/*.sh; }

# Waiting for a Job, with a kubectl that knows one which is complete, one that failed, and one that fails later.
waiting() {
  mkdir "$work/bin"
  cat > "$work/bin/kubectl" <<'KUBECTL'
#!/usr/bin/env bash
case "$*" in
  *job/good*Complete*status*|*job/bad*Failed*status*) printf True ;;
  *job/bad*reason*) printf PodFailurePolicy ;;
  *job/bad*message*) printf 'exit code 3' ;;
  *job/late*Failed*status*) if [[ -e $LATE ]]; then printf True; else touch "$LATE"; fi ;;
esac
KUBECTL
  chmod +x "$work/bin/kubectl"
  local LATE=$work/late PATH=$work/bin:$PATH SHARDFUSE_WAIT_SECONDS=0.1
  export LATE PATH SHARDFUSE_WAIT_SECONDS
  kubernetes/wait.sh good
  if kubernetes/wait.sh bad 2> "$work/told"; then fail "a Job that failed counts as complete"; fi
  grep -q 'job/bad failed: PodFailurePolicy: exit code 3' "$work/told" || fail "the reason is not told: $(< "$work/told")"
  if kubernetes/wait.sh late --namespace merges 2> /dev/null; then fail "a Job that fails later counts as complete"; fi
}

permissions() {
  local python=$TOOLS/venv/bin/python
  "$python" checks/iam.py iam
  # That it can fail: a right that nothing needs.
  cp -r iam "$work/iam"
  sed -i 's/"s3:DeleteObject"/"s3:DeleteObject", "s3:PutObjectAcl"/' "$work/iam/aws-policy.json"
  if "$python" checks/iam.py "$work/iam"; then fail "a right that nothing needs is taken"; fi
}

examples() {
  local python=$TOOLS/venv/bin/python
  helm template shardfuse helm/shardfuse --namespace merges --kube-version 1.37 --set coordinator.state=s3://b/state --set 'allow={s3://b/}' > "$work/named.yaml"
  "$python" checks/examples.py "$work/named.yaml" examples/cronjob.yaml examples/argo-workflow-template.yaml
  # That it can fail: a pod without the label that is let in, and a service that is not there.
  sed 's/shardfuse.dev\/submitter/shardfuse.dev\/other/' examples/cronjob.yaml > "$work/wrong.yaml"
  if "$python" checks/examples.py "$work/named.yaml" "$work/wrong.yaml"; then fail "a pod without the label is let in"; fi
  sed 's/shardfuse-coordinator:7070/coordinator:7070/' examples/cronjob.yaml > "$work/wrong.yaml"
  if "$python" checks/examples.py "$work/named.yaml" "$work/wrong.yaml"; then fail "another service counts as the chart's"; fi
}

render() {
  local chart=helm/shardfuse base="--set coordinator.state=s3://b/state --set allow={s3://b/}" version
  local merge="spec.base=s3://b/base --set @spec.lora={s3://b/lora} --set @spec.output=s3://b/out"
  local submit="--set submissions[0].name=one --set submissions[0].${merge//@/submissions[0].}"
  local job="--set mode=job --set job.${merge//@/job.}"
  template() {
    local name=$1 version=$2
    shift 2
    helm template release $chart --namespace merges --kube-version "$version" "$@" > "$work/$name-$version.yaml"
  }
  # Words are split on purpose: the arguments hold no spaces.
  # shellcheck disable=SC2086
  {
    for version in $SERVICE; do
      template service "$version" $base $submit
      template service-insecure "$version" $base $submit --set tls.mode=insecure --set networkPolicy.enabled=false
      template service-cuda "$version" $base $submit --set device=cuda --set workloadIdentity.azure.clientId=id-0 \
        --set-json 'stores={"s3://b":{"region":"x","credentials":"web-identity"}}' --set metrics.enabled=true --set "envFrom[0].secretRef.name=s"
      template service-hpa "$version" $base --set autoscaling.enabled=true --set autoscaling.kind=hpa
    done
    template service-custom 1.37 $base --set autoscaling.enabled=true --set metrics.enabled=true --set metrics.podMonitor=true \
      --set tls.mode=certManager --set tls.certManager.issuerRef.name=ca
    template service-old 1.20.2 $base $submit --values $chart/values-1.20.yaml
    for version in $JOB; do
      template job "$version" $job
      template job-cuda "$version" $job --set device=cuda --set workloadIdentity.gcp.serviceAccount=a@b
    done
  }
  for overlay in cpu gpu spot; do
    kubectl kustomize "kustomize/$overlay" > "$work/plain-$overlay.yaml"
  done
}

lint() {
  helm lint --strict helm/shardfuse --set coordinator.state=s3://b/state --set 'allow={s3://b/}'
  helm lint --strict helm/shardfuse --set mode=job --set job.spec.base=s3://b --set 'job.spec.lora={s3://l}' --set job.spec.output=s3://o
}

rejections() {
  local line arguments word count=0
  while IFS= read -r line; do
    [[ -z $line || $line == \#* ]] && continue
    arguments=${line% | *} word=${line##* | }
    # shellcheck disable=SC2086
    if helm template release helm/shardfuse $arguments > "$work/rejected" 2>&1; then fail "the chart takes $arguments"; fi
    grep -qi -e "$word" "$work/rejected" || fail "the chart refuses $arguments without a word of $word: $(< "$work/rejected")"
    count=$((count + 1))
  done < checks/rejected.txt
  ((count > 20)) || fail "only $count rejections were tried"
  echo "chart: $count sets of values refused, each for its reason"
}

validate() {
  local version=$1
  shift
  kubernetes-validate --strict --no-warn --quiet --kubernetes-version "$version" "$@"
}
schemas() {
  local version
  for version in $SERVICE; do validate "$version" "$work"/service{,-insecure,-cuda,-hpa}-"$version".yaml; done
  # Before 1.29 the schema wants onPodConditions in every rule of a podFailurePolicy; the chart leaves the policy out there.
  for version in 1.29 $JOB; do validate "$version" examples/cronjob.yaml; done
  for version in $JOB; do
    validate "$version" "$work"/job{,-cuda}-"$version".yaml "$work"/plain-*.yaml kubernetes/merge-job.yaml
    for file in kubernetes/jobset.yaml examples/argo-workflow-template.yaml; do
      "$TOOLS/venv/bin/python" checks/inner.py $file > "$work/inner.yaml"
      validate "$version" "$work/inner.yaml"
    done
  done
  validate $OLDEST "$work/service-old-1.20.2.yaml"
  # That the check can fail at all: a field that is not there, and a field that a version does not know yet.
  sed 's/completionMode:/completionMood:/' kubernetes/merge-job.yaml > "$work/misspelt.yaml"
  if validate 1.37 "$work/misspelt.yaml"; then fail "the schemas take completionMood"; fi
  if validate 1.29 kubernetes/merge-job.yaml; then fail "the schemas of 1.29 know successPolicy"; fi
}

policies() {
  local python=$TOOLS/venv/bin/python
  "$python" checks/policy.py "$work"/service*.yaml "$work"/job*.yaml "$work"/plain-*.yaml kubernetes/*job*.yaml examples/cronjob.yaml
  "$python" checks/same_job.py kubernetes/merge-job.yaml kubernetes/jobset.yaml "$work"/plain-*.yaml "$work"/job{,-cuda}-1.37.yaml
  # That it can fail: exit code 3 tried again, a root that can be written.
  sed 's/values: \[1, 2, 3\]/values: [1, 2]/' kubernetes/merge-job.yaml > "$work/wrong.yaml"
  if "$python" checks/policy.py "$work/wrong.yaml"; then fail "the policies take exit code 3 for worth another try"; fi
  sed 's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/' kubernetes/merge-job.yaml > "$work/wrong.yaml"
  if "$python" checks/policy.py "$work/wrong.yaml"; then fail "the policies take a root that can be written"; fi
}

# Left out, as the user's choice: CPU limits (they throttle), image by digest, pull policy Always, the namespace, credentials as variables.
checkov_run() {
  mkdir "$work/checkov"
  cp "$work"/service-1.37.yaml "$work"/service-cuda-1.37.yaml "$work"/job-cuda-1.37.yaml "$work"/plain-*.yaml kubernetes/*job*.yaml examples/cronjob.yaml "$work/checkov"
  checkov --directory "$work/checkov" --framework kubernetes --quiet --compact --skip-download \
    --skip-check CKV_K8S_11,CKV_K8S_43,CKV_K8S_15,CKV_K8S_21,CKV_K8S_35
  checkov --file Dockerfile --framework dockerfile --quiet --compact --skip-download --skip-check CKV_DOCKER_2
}

observability() {
  promtool check rules observability/alerts.yaml
  promtool check config observability/prometheus.yaml
  promtool test rules observability/alerts.test.yaml
  "$TOOLS/venv/bin/python" checks/metrics.py observability helm/shardfuse
}

main() {
  export TOOLS=${TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/deploy}
  ../tests/prepare.sh ./tools.sh
  export PATH=$TOOLS/bin:$PATH
  ../tests/prepare.sh ./packages.sh promtool=prometheus
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT

  stage "scripts" scripts
  stage "Dockerfiles" hadolint Dockerfile Dockerfile.builder
  stage "the chart, strictly" lint
  stage "rendering" render
  stage "values that are refused" rejections
  stage "schemas: service $SERVICE, job $JOB, values-1.20 $OLDEST" schemas
  stage "policies of our own" policies
  stage "examples against the chart" examples
  stage "waiting for a Job" waiting
  stage "permissions of the clouds" permissions
  stage "policies of checkov" checkov_run
  stage "alerts and dashboard" observability
  echo "not checked here, for want of their schemas: the outer objects of JobSet, Argo, KEDA, cert-manager and the Prometheus operator"
}

main
