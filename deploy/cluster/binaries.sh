#!/usr/bin/env bash
# Puts the Kubernetes binaries into $KUBERNETES_BIN, once. Version 1.20.2 is built from Debian's source package (about 8
# minutes of one core); for another version, put the four binaries there yourself and set KUBERNETES_VERSION.
set -euo pipefail
# shellcheck source=settings.sh
source "$(dirname "$0")/settings.sh"

COMPONENTS="kube-apiserver kube-controller-manager kube-scheduler kubelet"
PACKAGE_VERSION=1.20.5+really1.20.2-1.1+deb12u1

complete() {
  local component
  for component in $COMPONENTS; do
    [[ -x $KUBERNETES_BIN/$component ]] || return 1
  done
}

build() {
  # A build that was interrupted goes on with Go's own cache.
  work=$CACHE/kubernetes-build
  mkdir -p "$work"
  exec 9> "$work/lock"
  flock 9
  rm -rf "$work"/{lists,source,tree,go}
  mkdir -p "$work/lists/partial" "$work/source"
  # A source list of its own, so that the machine's stays as it is.
  echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main" > "$work/sources.list"
  apt=(apt-get -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  say "fetching the source of kubernetes=$PACKAGE_VERSION"
  "${apt[@]}" -q update > "$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "apt-get update"; }
  (cd "$work/source" && "${apt[@]}" -q source --download-only "kubernetes=$PACKAGE_VERSION" > ../apt.log 2>&1) ||
    { cat "$work/apt.log" >&2; fail "apt-get source kubernetes=$PACKAGE_VERSION"; }
  mkdir "$work/tree"
  tar -xf "$work"/source/*.orig.tar.* -C "$work/tree" --strip-components=1

  say "building $COMPONENTS"
  mkdir -p "$work/go/src/k8s.io"
  ln -s "$work/tree" "$work/go/src/k8s.io/kubernetes"
  what=
  for component in $COMPONENTS; do what+=" cmd/$component"; done
  (
    cd "$work/go/src/k8s.io/kubernetes"
    export GOPATH=$work/go GO111MODULE=off GOFLAGS="" GOCACHE=$work/cache CGO_ENABLED=0 KUBE_GIT_TREE_STATE=clean \
      KUBE_GIT_COMMIT=debian KUBE_GIT_VERSION=v1.20.2 KUBE_GIT_MAJOR=1 KUBE_GIT_MINOR=20
    nice -n 19 make WHAT="$what" > "$work/make.log" 2>&1
  ) || { tail -40 "$work/make.log" >&2; fail "the build of Kubernetes $KUBERNETES_VERSION"; }
  mkdir -p "$KUBERNETES_BIN"
  for component in $COMPONENTS; do
    install -m 755 "$(find "$work/tree/_output" "$work/go/bin" -name "$component" -type f -perm -u+x 2> /dev/null | head -1)" "$KUBERNETES_BIN/$component"
  done
  say "built into $KUBERNETES_BIN"
  rm -rf "$work"
}

if complete; then
  say "Kubernetes $KUBERNETES_VERSION is in $KUBERNETES_BIN"
  exit 0
fi
[[ $KUBERNETES_VERSION == 1.20.2 ]] ||
  fail "no binaries of Kubernetes $KUBERNETES_VERSION in $KUBERNETES_BIN (wanted: $COMPONENTS), and only 1.20.2 can be built here"
need go dpkg-source rsync apt-get make
build
