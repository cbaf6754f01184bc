"""Builds the wheel (PEP 517): the binary, and the module beside this file. Needs nothing but Python, binutils and cargo.

    pip wheel deploy/python                                        builds the binary with cargo first
    pip wheel deploy/python --config-settings binary=FILE          takes one that is built

The binary is taken as it is, so one file goes into the wheel and into every other package. The wheel depends on the binary, the
sources of the module and SOURCE_DATE_EPOCH, and on nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import subprocess
import time
import tomllib
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# What every Linux with glibc has, by the rules for manylinux.
LIBRARIES = re.compile(r"(lib(c|m|dl|rt|pthread|gcc_s)|ld-linux-.*)\.so\.\d+")


def build_wheel(
    wheel_directory: str, config_settings: dict[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    """Writes the wheel and returns its name."""
    given = (config_settings or {}).get("binary")
    binary = Path(given) if given else _built()
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    version = _version(binary)
    tag = f"py3-none-{_platform(binary)}"
    info, data = f"shardfuse-{version}.dist-info", f"shardfuse-{version}.data"

    module = sorted(path for path in (HERE / "shardfuse").iterdir() if path.suffix == ".py" or path.name == "py.typed")
    files = {f"shardfuse/{path.name}": path.read_bytes() for path in module}
    files[f"{data}/scripts/shardfuse"] = binary.read_bytes()
    files[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files[f"{info}/METADATA"] = _metadata(project, version).encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: shardfuse\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD").encode()

    name = f"shardfuse-{version}-{tag}.whl"
    moment = time.gmtime(max(int(os.environ.get("SOURCE_DATE_EPOCH", "315532800")), 315532800))
    with zipfile.ZipFile(Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, moment[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            wheel.writestr(entry, content)
    return name


def build_sdist(sdist_directory: str, config_settings: dict[str, Any] | None = None) -> str:
    """Refused: the binary is built from the whole repository."""
    raise SystemExit("error: no source distribution: build the wheel in a checkout of the repository")


def _built() -> Path:
    """The release binary, built by cargo where it is not up to date."""
    subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "shardfuse"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
    return ROOT / target / "release" / "shardfuse"


def _version(binary: Path) -> str:
    """The version of the workspace, which must be the binary's."""
    version = str(tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"])
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"error: the version {version} is not one that Python writes in the same way")
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    if told.split()[:2] != ["shardfuse", version]:
        raise SystemExit(f"error: {binary} says {told.strip()!r}, and the sources are of version {version}")
    return version


def _platform(binary: Path) -> str:
    """The oldest manylinux that the binary runs on: that of the newest glibc of which it names a symbol."""
    told = subprocess.run(
        ["readelf", "--wide", "--dynamic", "--version-info", binary], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"\(NEEDED\)\s+Shared library: \[(.*?)\]", told)
    foreign = [library for library in needed if not LIBRARIES.fullmatch(library)]
    if foreign:
        raise SystemExit(f"error: {binary} needs {', '.join(foreign)}, which not every Linux has")
    newest = max((int(major), int(minor)) for major, minor in re.findall(r"GLIBC_(\d+)\.(\d+)", told))
    return f"manylinux_{newest[0]}_{newest[1]}_{platform.machine()}"


def _metadata(project: dict[str, Any], version: str) -> str:
    fields = [
        ("Metadata-Version", "2.4"),
        ("Name", project["name"]),
        ("Version", version),
        ("Summary", project["description"]),
        ("Keywords", ",".join(project["keywords"])),
        ("License-Expression", project["license"]),
        ("License-File", "LICENSE"),
        ("Requires-Python", project["requires-python"]),
        *(("Classifier", classifier) for classifier in project["classifiers"]),
        *(("Project-URL", f"{name}, {url}") for name, url in project["urls"].items()),
        ("Description-Content-Type", "text/markdown"),
    ]
    head = "".join(f"{name}: {value}\n" for name, value in fields)
    return f"{head}\n{(HERE / project['readme']).read_text()}"


def _record(files: dict[str, bytes], own: str) -> str:
    def digest(content: bytes) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")

    lines = [f"{path},sha256={digest(content)},{len(content)}\n" for path, content in files.items()]
    return "".join(lines) + f"{own},,\n"
