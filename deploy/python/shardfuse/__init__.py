"""Merges LoRA-family adapters into Hugging Face checkpoints of any size.

The module drives the program ``shardfuse``, which comes with it::

    import shardfuse

    result = shardfuse.merge("Llama-2-7b-hf", ["first-lora", shardfuse.Adapter("mine", 0.8)], "merged")
    print(result.tensors_changed, result.plan)

A failure is an exception of the kind that the program tells, with what to do as ``hint``; all are ``shardfuse.Error``.
"""

from importlib.metadata import PackageNotFoundError, version

from .binary import find as find_binary
from .commands import cancel, merge, plan, submit, watch
from .errors import (
    BY_KIND,
    AccessLostError,
    BadConfigError,
    BadIndexError,
    BadPickleError,
    BadSafetensorsError,
    BusyError,
    ConflictError,
    DeltaLostError,
    EmptyTensorError,
    Error,
    FailedError,
    HeldError,
    IncompletePairError,
    InputChangedError,
    InternalError,
    IoError,
    MissingFileError,
    MissingTensorError,
    NonFiniteError,
    NoSpaceError,
    NoAccessError,
    NoChangeError,
    NotAllowedError,
    OutputBusyError,
    OutputExistsError,
    PartsLostError,
    RankMismatchError,
    RefusedError,
    RetryableError,
    ShapeMismatchError,
    StoppedError,
    UnmatchedKeysError,
    UnsafePathError,
    UnsafePickleError,
    UnsupportedError,
    UnusedFileError,
    UnverifiedError,
    UsageError,
    VerifyFailedError,
)
from .fleet import Coordinator
from .results import (
    Failure,
    File,
    FleetMerge,
    MergeResult,
    Plan,
    PlannedAdapter,
    PlannedFile,
    Progress,
    Survived,
)
from .spec import Adapter, Options

try:
    __version__ = version("shardfuse")
except PackageNotFoundError:
    __version__ = "unknown"
    """Of sources that are not installed."""

__all__ = [
    "BY_KIND",
    "AccessLostError",
    "Adapter",
    "BadConfigError",
    "BadIndexError",
    "BadPickleError",
    "BadSafetensorsError",
    "BusyError",
    "ConflictError",
    "Coordinator",
    "DeltaLostError",
    "EmptyTensorError",
    "Error",
    "FailedError",
    "Failure",
    "File",
    "FleetMerge",
    "HeldError",
    "IncompletePairError",
    "InputChangedError",
    "InternalError",
    "IoError",
    "MergeResult",
    "MissingFileError",
    "MissingTensorError",
    "NoSpaceError",
    "NonFiniteError",
    "NoAccessError",
    "NoChangeError",
    "NotAllowedError",
    "Options",
    "OutputBusyError",
    "OutputExistsError",
    "PartsLostError",
    "Plan",
    "PlannedAdapter",
    "PlannedFile",
    "Progress",
    "RankMismatchError",
    "RefusedError",
    "RetryableError",
    "ShapeMismatchError",
    "StoppedError",
    "Survived",
    "UnmatchedKeysError",
    "UnsafePathError",
    "UnsafePickleError",
    "UnsupportedError",
    "UnusedFileError",
    "UnverifiedError",
    "UsageError",
    "VerifyFailedError",
    "cancel",
    "find_binary",
    "merge",
    "plan",
    "submit",
    "watch",
]
