#!/usr/bin/env bash
# A Kubernetes cluster of one node on this machine, as root: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
# kubelet with containerd and runc, and dnsmasq for the names of services. Everything listens on 127.0.0.1 or on the pods' own
# bridge, and lives in $CLUSTER_DIR; down.sh ends it. After it, kubectl works with KUBECONFIG=$CLUSTER_DIR/kubeconfig.
#
# KUBERNETES_VERSION and KUBERNETES_BIN choose another Kubernetes (settings.sh). 1.20.2 is what was run; newer versions get the
# flags that they want, and were not run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=settings.sh
source "$here/settings.sh"

API=127.0.0.1:26443
ETCD=127.0.0.1:23790
BRIDGE=sfkube0
NET=10.244.0

minor=$(cut -d. -f2 <<< "$KUBERNETES_VERSION")
at_least() { ((minor >= $1)); }

start() {
  local name=$1
  shift
  setsid "$@" > "$CLUSTER_DIR/$name.log" 2>&1 < /dev/null &
  echo $! > "$CLUSTER_DIR/$name.pid"
}

main() {
  need etcd containerd runc dnsmasq ip openssl gcc podman conntrack python3
  ((EUID == 0)) || fail "a kubelet needs root"
  "$here/../tools.sh"
  "$here/binaries.sh"
  "$here/down.sh"
  mkdir -p "$CLUSTER_DIR"/{cni,certs}
  local d=$CLUSTER_DIR
  # What is there already is not the cluster's, and stays when it goes.
  find /run/netns -name "cni-*" -printf "%f\n" > "$d/netns-before" 2> /dev/null || true

  say "network $NET.0/24 on $BRIDGE"
  ip link add "$BRIDGE" type bridge
  ip address add "$NET.1/24" dev "$BRIDGE"
  ip link set "$BRIDGE" up
  cat > "$d/cni/10-bridge.conflist" <<EOT
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "$BRIDGE", "isGateway": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$d/ipam", "ranges": [[{"subnet": "$NET.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
]}
EOT

  say "etcd and kube-apiserver $KUBERNETES_VERSION"
  openssl genrsa -out "$d/sa.key" 2048 2> /dev/null
  local token
  token=$(openssl rand -hex 24)
  (umask 077; echo "$token,admin,1,\"system:masters\"" > "$d/tokens.csv")
  (umask 077; cat > "$KUBECONFIG" <<EOT
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://$API", insecure-skip-tls-verify: true}}]
users: [{name: u, user: {token: $token}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
EOT
  )
  start etcd etcd --data-dir "$d/etcd" --unsafe-no-fsync --listen-client-urls "http://$ETCD" --advertise-client-urls "http://$ETCD" \
    --listen-peer-urls http://127.0.0.1:23800 --initial-advertise-peer-urls http://127.0.0.1:23800 \
    --initial-cluster default=http://127.0.0.1:23800
  local api=(--etcd-servers="http://$ETCD" --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --secure-port="${API#*:}"
    --cert-dir="$d/certs" --service-account-key-file="$d/sa.key" --service-account-signing-key-file="$d/sa.key"
    --service-account-issuer=https://kubernetes.default.svc --token-auth-file="$d/tokens.csv" "--authorization-mode=Node,RBAC"
    --service-cluster-ip-range=10.96.0.0/16 --disable-admission-plugins=ServiceAccount)
  at_least 24 || api+=(--insecure-port=0)
  start kube-apiserver "$KUBERNETES_BIN/kube-apiserver" "${api[@]}"
  wait_for 180 "the kube-apiserver (see $d/kube-apiserver.log)" kubectl get --raw /readyz

  say "kube-controller-manager, kube-scheduler"
  local manager=(--kubeconfig="$KUBECONFIG" --service-account-private-key-file="$d/sa.key" --leader-elect=false
    --bind-address=127.0.0.1 --cert-dir="$d/certs-manager" --secure-port=26257)
  local scheduler=(--kubeconfig="$KUBECONFIG" --leader-elect=false --bind-address=127.0.0.1 --cert-dir="$d/certs-scheduler" --secure-port=26259)
  if ! at_least 24; then
    manager+=(--port=0)
    scheduler+=(--port=0)
  fi
  start kube-controller-manager "$KUBERNETES_BIN/kube-controller-manager" "${manager[@]}"
  start kube-scheduler "$KUBERNETES_BIN/kube-scheduler" "${scheduler[@]}"

  say "containerd"
  cat > "$d/containerd.toml" <<EOT
version = 2
root = "$d/containerd"
state = "$d/containerd-state"
[grpc]
  address = "$d/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  stream_server_address = "127.0.0.1"
  # Where this machine is itself a container, scores cannot be lowered.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$d/cni"
EOT
  start containerd containerd --config "$d/containerd.toml"
  wait_for 60 "containerd (see $d/containerd.log)" ctr --address "$d/containerd.sock" version
  mkdir -p "$d/pause"
  gcc -static -Os -o "$d/pause/pause" "$here/pause.c"
  printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' > "$d/pause/Dockerfile"
  CONTAINERS_CONF=$here/../image/containers.conf podman build --quiet --isolation chroot --tag localhost/pause:1 "$d/pause" > /dev/null
  CONTAINERS_CONF=$here/../image/containers.conf podman push --quiet localhost/pause:1 "oci-archive:$d/pause.tar:localhost/pause:1" > /dev/null
  "$here/load.sh" "$d/pause.tar"

  say "dnsmasq, kubelet"
  touch "$d/hosts"
  start dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --listen-address="$NET.1" --bind-interfaces --no-resolv --no-hosts \
    --addn-hosts="$d/hosts" --local=/cluster.local/ --local-ttl=1 --pid-file= --user=root --log-facility=-
  start names python3 "$here/names.py" "$d/hosts" "$d/dnsmasq.pid"
  # cgroups stay out of it: on a machine that is itself a container their tree is not ours to arrange.
  cat > "$d/kubelet.yaml" <<EOT
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 127.0.0.1
port: 20250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
healthzPort: 20248
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [$NET.1]
clusterDomain: cluster.local
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, imagefs.available: 1%}
nodeStatusUpdateFrequency: 3s
makeIPTablesUtilChains: false
EOT
  local kubelet=(--config="$d/kubelet.yaml" --kubeconfig="$KUBECONFIG" --root-dir="$d/kubelet" --cert-dir="$d/certs-kubelet"
    --hostname-override=localhost --container-runtime-endpoint="unix://$d/containerd.sock")
  at_least 24 || kubelet+=(--container-runtime=remote)
  at_least 27 || kubelet+=(--pod-infra-container-image=localhost/pause:1)
  start kubelet "$KUBERNETES_BIN/kubelet" "${kubelet[@]}"
  wait_for 120 "the node to be ready (see $d/kubelet.log)" kubectl wait --for=condition=Ready --timeout=5s node/localhost
  say "up: export KUBECONFIG=$KUBECONFIG"
}

main
