# shellcheck shell=bash
# Read by the scripts of this folder: where things are. Every value can be given from outside.
: "${CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse}"
# The version decides the cache folder, and which of the cluster's settings are used.
: "${KUBERNETES_VERSION:=1.20.2}"
# kube-apiserver, kube-controller-manager, kube-scheduler and kubelet.
: "${KUBERNETES_BIN:=$CACHE/kubernetes/$KUBERNETES_VERSION}"
# What a running cluster keeps: data, logs, sockets, process ids.
: "${CLUSTER_DIR:=$CACHE/cluster}"
# helm and kubectl, as deploy/check.sh installs them.
: "${TOOLS:=$CACHE/deploy}"
export KUBECONFIG=$CLUSTER_DIR/kubeconfig
export PATH=$TOOLS/bin:$PATH

say() { echo "== $*" >&2; }
fail() {
  echo "error: $*" >&2
  exit 1
}
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" > /dev/null || fail "$tool is not installed (on Debian: $PACKAGES)"
  done
}
# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < until)) || fail "waited in vain for $what"
    sleep 0.5
  done
}
PACKAGES="apt-get install --no-install-recommends golang-go dpkg-dev rsync etcd-server containerd runc containernetworking-plugins conntrack dnsmasq-base iptables iproute2 openssl gcc podman"
