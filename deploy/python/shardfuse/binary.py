"""Where the binary is."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

from .errors import MissingFileError, UsageError

VARIABLE = "SHARDFUSE_BINARY"


def find() -> Path:
    """The binary that the variable ``SHARDFUSE_BINARY`` names, else the one of this wheel, else the one on ``PATH``."""
    named = os.environ.get(VARIABLE)
    if named:
        if not _runs(Path(named)):
            raise UsageError(f"{VARIABLE} is {named!r}, which is no program", "usage")
        return Path(named)
    found = _shipped() or shutil.which("shardfuse")
    if found is None:
        raise MissingFileError(
            "the program shardfuse is neither in this installation nor on PATH",
            "missing_file",
            f"install the wheel, or name the program with {VARIABLE}",
        )
    return Path(found)


def _shipped() -> Path | None:
    """The program that was installed with this module: the wheel's record of files says where it lies."""
    try:
        files = importlib.metadata.files("shardfuse") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    places = (Path(str(file.locate())) for file in files if file.name == "shardfuse")
    return next((place.resolve() for place in places if _runs(place)), None)


def _runs(place: Path) -> bool:
    return place.is_file() and os.access(place, os.X_OK)
