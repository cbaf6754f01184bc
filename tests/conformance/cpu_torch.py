"""Make `import torch` work on the CPU without the CUDA libraries that torch's wheel names.

torch's shared objects for x86-64 Linux name cuBLAS, cuDNN and others as needed, so the loader insists on the files,
though nothing in them is called without a GPU. This writes a stand-in for each missing file: every CUDA symbol that
torch asks for, as a function that aborts. A call would end the process, never give a wrong number.

Needs `cc`, `nm` and `readelf`. Does nothing where nothing is missing (other platforms, a full install).
"""

import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

CUDA_SYMBOL = re.compile(r"^(cublas|cudnn|cusparse|cusolver|cufft|curand|nccl|nvrtc|nvshmem)\w*$")
CUDA_LIBRARY = re.compile(r"^lib(cublas|cudnn|cusparse|cusolver|cufft|curand|nccl|nvrtc|nvshmem)\w*\.so\.\d+$")


def output(*command: str) -> str:
    """The standard output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def needed(library: Path) -> set[str]:
    """The shared objects that `library` names as needed."""
    return set(re.findall(r"\(NEEDED\).*\[(.+?)\]", output("readelf", "-d", str(library))))


def undefined(library: Path) -> set[str]:
    """The CUDA functions that `library` expects others to define."""
    names = (
        line.split()[-1].split("@")[0] for line in output("nm", "-D", "--undefined-only", str(library)).splitlines()
    )
    return {name for name in names if CUDA_SYMBOL.match(name)}


def main() -> int:
    """Write the stand-ins that are missing; the number is printed."""
    packages = Path(sysconfig.get_path("platlib"))
    libraries = sorted((packages / "torch" / "lib").glob("*.so"))
    present = {file.name for file in packages.glob("nvidia/*/lib/*.so*")}
    wanted = {name for library in libraries for name in needed(library) if CUDA_LIBRARY.match(name)} - present
    if not wanted:
        return 0
    functions = sorted(set().union(*map(undefined, libraries)))
    source = "#include <stdlib.h>\n" + "".join(f"void {name}(void) {{ abort(); }}\n" for name in functions)
    target = packages / "nvidia" / "cu13" / "lib"  # on the search path that torch's wheel carries
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stand_in.c"
        file.write_text(source)
        for name in sorted(wanted):
            soname = f"-Wl,-soname,{name}"
            subprocess.run(["cc", "-shared", "-fPIC", "-w", soname, "-o", str(target / name), str(file)], check=True)
    print(
        f"torch runs on the CPU only: {len(wanted)} CUDA libraries replaced by stand-ins of {len(functions)} functions"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
