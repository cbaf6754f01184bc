#!/usr/bin/env bash
# Builds kernels.ptx from kernels.cu, or holds the one that is checked in against a fresh build.
#
#   build-ptx.sh           compare with kernels.ptx, and assemble it for every architecture
#   build-ptx.sh --write   replace kernels.ptx first
#
# Neither a GPU nor a CUDA toolkit is needed: the compiler and the assembler come as wheels (about 100 MB once), exact
# versions, into SHARDFUSE_CUDA_TOOLS (default ~/.cache/shardfuse/cuda). The compiler is the oldest of CUDA 12, because PTX
# needs a driver at least as new as the compiler that wrote it: PTX 8.0 runs from driver 525 on, which is what
# libcublas.so.12 needs anyway.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../../../..
tools=${SHARDFUSE_CUDA_TOOLS:-$HOME/.cache/shardfuse/cuda}
old=12.0.140
new=12.8.93 # the first that knows sm_100 and sm_120

mkdir -p "$tools"
exec 9> "$tools/.lock"
flock 9 # two runs at once: the second waits and finds the wheels

# Each wheel has a folder of its own: all of them hold `nvidia/`, and pip 23.2 replaces a top folder that is already there.
wheel() { # NAME VERSION: prints the folder
  local folder=$tools/$1-$2
  if [ ! -d "$folder" ]; then
    rm -rf "$folder.part"
    "$root/tests/prepare.sh" python3 -m pip install -q --no-deps --target "$folder.part" "$1==$2" >&2
    mv "$folder.part" "$folder"
  fi
  echo "$folder"
}
nvrtc=$(wheel nvidia-cuda-nvrtc-cu12 $old)/nvidia/cuda_nvrtc/lib/libnvrtc.so.12
old_ptxas=$(wheel nvidia-cuda-nvcc-cu12 $old)/nvidia/cuda_nvcc/bin/ptxas
new_ptxas=$(wheel nvidia-cuda-nvcc-cu12 $new)/nvidia/cuda_nvcc/bin/ptxas

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 - "$nvrtc" "$here/kernels.cu" "$scratch/kernels.ptx" <<'PY'
import ctypes
import sys
from pathlib import Path

library, source, target = sys.argv[1:]
nvrtc = ctypes.CDLL(library)


def check(code, what):
    if code:
        sys.exit(f"{what}: NVRTC error {code}")


program = ctypes.c_void_p()
check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), Path(source).read_bytes(), b"kernels.cu", 0, None, None), "create")
# Contraction is off although every operation is spelled out: nothing may be fused that is not written so.
options = [b"--gpu-architecture=compute_70", b"--fmad=false"]
code = nvrtc.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
size = ctypes.c_size_t()
check(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)), "log")
log = ctypes.create_string_buffer(size.value)
check(nvrtc.nvrtcGetProgramLog(program, log), "log")
if log.value.strip():
    sys.stderr.write(log.value.decode())
check(code, "compile")
check(nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size)), "ptx")
ptx = ctypes.create_string_buffer(size.value)
check(nvrtc.nvrtcGetPTX(program, ptx), "ptx")
Path(target).write_bytes(ptx.value)
PY

[ "${1:-}" != --write ] || cp "$scratch/kernels.ptx" "$here/kernels.ptx"
if ! cmp -s "$scratch/kernels.ptx" "$here/kernels.ptx"; then
  diff "$here/kernels.ptx" "$scratch/kernels.ptx" | head -20 || true
  echo "kernels.ptx is not what kernels.cu compiles to: build-ptx.sh --write" >&2
  exit 1
fi

assemble() { # VERSION PTXAS ARCHITECTURES...
  chmod +x "$2"
  for arch in "${@:3}"; do
    "$2" --gpu-name "$arch" --warn-on-spills --output-file "$scratch/$arch.cubin" "$here/kernels.ptx"
    echo "$arch: $(stat -c %s "$scratch/$arch.cubin") bytes of machine code, ptxas $1"
  done
}
assemble $old "$old_ptxas" sm_70 sm_75 sm_80 sm_86 sm_89 sm_90
assemble $new "$new_ptxas" sm_100 sm_120
