#!/usr/bin/env bash
# sbom.sh FILE: the bill of materials of the binary, CycloneDX 1.5 as JSON, from Cargo.lock by cargo-cyclonedx (installed once into
# ~/.cache/shardfuse/deploy). What else the image holds (glibc's files, certificate authorities) comes from the machine that built
# it; the cuda variant adds NVIDIA's cuBLAS (deploy/image/cuda.sh has the version).
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
TOOLS=${TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/deploy}
VERSION=0.5.9
[[ $# == 1 ]] || { echo "usage: sbom.sh FILE" >&2; exit 2; }
if [[ ! -x $TOOLS/cargo/bin/cargo-cyclonedx ]] || ! "$TOOLS/cargo/bin/cargo-cyclonedx" cyclonedx --version | grep -qF "$VERSION"; then
  cargo install --quiet --locked --root "$TOOLS/cargo" "cargo-cyclonedx@$VERSION"
fi
cd "$root"
trap 'find . -maxdepth 2 -name "sbom-of-*.json" -not -path "./target/*" -delete' EXIT
# It writes one file beside each package's manifest; the binary's is the root's.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} \
  "$TOOLS/cargo/bin/cargo-cyclonedx" cyclonedx --quiet --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename sbom-of-shardfuse
python3 - sbom-of-shardfuse.json "$1" <<'PYTHON'
import json, sys
sbom = json.load(open(sys.argv[1]))
if sbom["metadata"]["component"]["name"] != "shardfuse" or len(sbom["components"]) < 50:
    sys.exit(f"error: {sys.argv[1]} is not the binary's: {len(sbom['components'])} components")
json.dump(sbom, open(sys.argv[2], "w"), indent=1)
print(f"{sys.argv[2]}: {len(sbom['components'])} components")
PYTHON
