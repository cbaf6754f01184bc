#!/usr/bin/env bash
# check.sh [--binary FILE]: builds the image twice and holds one against the other, then runs it as Kubernetes would: read-only
# root, no capabilities, user 65532. Merges the example in it; the weights must be those of the binary outside.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
binary=$root/target/release/shardfuse
[[ ${1:-} == --binary ]] && binary=$2
"$root/tests/prepare.sh" "$root/deploy/packages.sh" podman runc strip=binutils
export CONTAINERS_CONF=${CONTAINERS_CONF:-$root/deploy/image/containers.conf}
fail() { echo "error: $*" >&2; exit 1; }

work=$(mktemp -d)
first=localhost/shardfuse:check-1 second=localhost/shardfuse:check-2
trap 'rm -rf "$work"; podman rmi --force "$first" "$second" > /dev/null 2>&1 || true' EXIT

SOURCE_DATE_EPOCH=1700000000 "$root/deploy/image.sh" --binary "$binary" --tag "$first" | sed 's/^/image: /'
sleep 1 # so that file times differ, if they mattered
SOURCE_DATE_EPOCH=1700000000 "$root/deploy/image.sh" --binary "$binary" --tag "$second" > /dev/null
digest() { podman image inspect --format '{{.Digest}}' "$1"; }
[[ $(digest "$first") == "$(digest "$second")" ]] || fail "two builds of one binary have the digests $(digest "$first") and $(digest "$second")"
echo "reproducible: $(digest "$first") twice"

run() {
  podman run --rm --network none --read-only --cap-drop all --security-opt no-new-privileges --user 65532:65532 \
    --volume "$root/examples:/in:ro" --volume "$work/out:/out" "$first" "$@"
}
[[ $(podman image inspect --format '{{.Config.User}}' "$first") == 65532:65532 ]] || fail "the image's user is not 65532"
for shell in /bin/sh /bin/bash /usr/bin/env; do
  if podman run --rm --network none --entrypoint "$shell" "$first" -c true > /dev/null 2>&1; then fail "the image has $shell"; fi
done
mkdir "$work/out"
chown 65532:65532 "$work/out"
run --version
run merge --base /in/tiny-llama --lora /in/lora-dialogue --output /out/merged --memory 256MiB --quiet
"$binary" merge --base "$root/examples/tiny-llama" --lora "$root/examples/lora-dialogue" --output "$work/outside" --memory 256MiB --quiet
cmp "$work/out/merged/model.safetensors" "$work/outside/model.safetensors" || fail "the image and the binary outside merge differently"
# Exit codes come through: 3 is a refused input.
code=0
run merge --base /in/tiny-llama --lora /in/nothing-here --output /out/refused --memory 256MiB 2> "$work/stderr" || code=$?
[[ $code == 3 ]] || fail "a missing adapter gave exit code $code in the image: $(< "$work/stderr")"
echo "image: merged the example, same bytes as outside; a missing adapter exits 3"
