#!/usr/bin/env bash
# load.sh ARCHIVE...: puts container images (OCI archives) onto the cluster's node.
set -euo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"
for archive; do
  ctr --address "$CLUSTER_DIR/containerd.sock" --namespace k8s.io images import "$archive" > /dev/null
done
