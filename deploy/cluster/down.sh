#!/usr/bin/env bash
# Ends what up.sh started, by process id, and removes its folder and bridge.
set -euo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"

end() {
  local file=$CLUSTER_DIR/$1.pid pid
  [[ -f $file ]] || return 0
  pid=$(< "$file")
  # Only what up.sh started there: a number may belong to another process by now.
  if [[ -r /proc/$pid/cmdline ]] && tr '\0' ' ' < "/proc/$pid/cmdline" | grep -qF -e "$2"; then
    kill "$pid"
    for _ in {1..100}; do
      kill -0 "$pid" 2> /dev/null || break
      sleep 0.1
    done
    kill -9 "$pid" 2> /dev/null || true
  fi
  rm -f "$file"
}

main() {
  [[ -d $CLUSTER_DIR ]] || exit 0
  if [[ -f $CLUSTER_DIR/kubelet.pid ]]; then
    # While the kubelet lives, so that it takes the containers down.
    timeout 60 kubectl delete pods,jobs,deployments --all --all-namespaces --grace-period=1 --wait=true --timeout=50s > /dev/null 2>&1 || true
  fi
  local socket=$CLUSTER_DIR/containerd.sock
  end kubelet kubelet
  if [[ -S $socket ]] && timeout 10 ctr --address "$socket" version > /dev/null 2>&1; then
    for task in $(timeout 10 ctr --address "$socket" --namespace k8s.io tasks list --quiet); do
      timeout 20 ctr --address "$socket" --namespace k8s.io tasks delete --force "$task" > /dev/null 2>&1 || true
    done
  fi
  end names names.py
  end dnsmasq dnsmasq
  end kube-scheduler kube-scheduler
  end kube-controller-manager kube-controller-manager
  end kube-apiserver kube-apiserver
  end containerd containerd
  end etcd etcd
  # Secrets and shared namespaces that the kubelet and containerd mounted.
  awk -v d="$CLUSTER_DIR/" 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do umount -l "$mount" || true; done
  # Networks of pods that were still there.
  if [[ -f $CLUSTER_DIR/netns-before ]]; then
    { find /run/netns -name "cni-*" -printf "%f\n" 2> /dev/null || true; } | { grep -vxFf "$CLUSTER_DIR/netns-before" || true; } |
      while read -r name; do ip netns delete "$name" 2> /dev/null || rm -f "/run/netns/$name"; done
  fi
  ip link delete sfkube0 2> /dev/null || true
  rm -rf "$CLUSTER_DIR"
}

main
