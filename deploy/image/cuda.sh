#!/usr/bin/env bash
# cuda.sh DIR: collects into DIR the two CUDA 12 libraries that the image's cuda variant adds, with their licence. They come
# from NVIDIA's own package of cuBLAS; libcuda belongs to the driver and comes from the node.
set -euo pipefail
dir=$1
VERSION=12.8.4.1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --no-deps --dest "$work" "nvidia-cublas-cu12==$VERSION"
rm -rf "$dir"
mkdir -p "$dir/usr/lib/x86_64-linux-gnu" "$dir/usr/share/doc/cublas"
python3 - "$work" "$dir" <<'PYTHON'
import pathlib, shutil, sys, zipfile
work, dir = map(pathlib.Path, sys.argv[1:])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
for name in wheel.namelist():
    file = name.rsplit("/", 1)[-1]
    if file in ("libcublas.so.12", "libcublasLt.so.12"):
        place = dir / "usr/lib/x86_64-linux-gnu" / file
    elif "license" in file.lower():
        place = dir / "usr/share/doc/cublas/LICENSE"
    else:
        continue
    with wheel.open(name) as source, open(place, "wb") as target:
        shutil.copyfileobj(source, target)
    place.chmod(0o755 if ".so." in file else 0o644)
PYTHON
for file in usr/lib/x86_64-linux-gnu/libcublas.so.12 usr/lib/x86_64-linux-gnu/libcublasLt.so.12 usr/share/doc/cublas/LICENSE; do
  [[ -s $dir/$file ]] || { echo "error: nvidia-cublas-cu12 $VERSION has no $(basename "$file")" >&2; exit 1; }
done
