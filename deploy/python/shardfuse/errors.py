"""Failures, a class for each kind that the binary tells (docs/cli.md, "Errors")."""

from __future__ import annotations

from typing import ClassVar


class Error(Exception):
    """A failure. The classes below it say what the caller can do, those below them which kind it is.

    ``kind`` is stable, ``message`` may change from version to version, ``hint`` says what to do where there is something.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, kind: str, hint: str | None = None) -> None:
        super().__init__(message, kind, hint)
        self.message = message
        self.kind = kind
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class FailedError(Error):
    """The merge failed, and would fail again."""

    exit_code = 1


class UsageError(Error):
    """The arguments or the merge spec are wrong."""

    exit_code = 2


class RefusedError(Error):
    """An input, or the output folder, was refused."""

    exit_code = 3


class StoppedError(Error):
    """It was stopped: the same call goes on where it stopped."""

    exit_code = 4


class RetryableError(Error):
    """A store, a disk or another merge was in the way: the same call may succeed later, and keeps what is done."""

    exit_code = 5


class NonFiniteError(FailedError):
    """NaN, infinity, or an overflow of the output's dtype."""


class UnverifiedError(FailedError):
    """Parts were to be computed again on another worker, and what came out decides nothing."""


class VerifyFailedError(FailedError):
    """An output does not match its manifest, or rows are wrong."""


class HeldError(FailedError):
    """The coordinator was killed twice in a row while it planned this merge."""


class InternalError(FailedError):
    """A part of the program could not go on, or the binary ended without an answer."""


class MissingFileError(RefusedError):
    """A file that a folder must hold is not there."""


class UnusedFileError(RefusedError):
    """A folder holds a weight file that is neither merged nor known to be superfluous."""


class BadConfigError(RefusedError):
    """A configuration is not JSON, lacks a field or contradicts itself."""


class BadSafetensorsError(RefusedError):
    """A safetensors header or length is wrong."""


class BadIndexError(RefusedError):
    """An index contradicts the files that it names."""


class UnsafePathError(RefusedError):
    """A name in an index would leave its folder."""


class UnsafePickleError(RefusedError):
    """A pickle is more than tensor data. Nothing of it was run."""


class BadPickleError(RefusedError):
    """A PyTorch file is damaged or laid out in a way that is not understood."""


class EmptyTensorError(RefusedError):
    """A tensor without elements where values are needed."""


class MissingTensorError(RefusedError):
    """A tensor that should be there is not."""


class IncompletePairError(RefusedError):
    """One low-rank factor without the other."""


class RankMismatchError(RefusedError):
    """Configuration and tensor, or two factors, disagree on the rank."""


class ShapeMismatchError(RefusedError):
    """Two shapes that must fit do not."""


class UnmatchedKeysError(RefusedError):
    """Adapter tensors that no tensor of the base takes."""


class DeltaLostError(RefusedError):
    """Encoding the merged weights again would lose too much of the adapters."""


class UnsupportedError(RefusedError):
    """Understood, and not supported."""


class ConflictError(RefusedError):
    """Two inputs that cannot both be applied."""


class InputChangedError(RefusedError):
    """An input is not what it was when the merge was planned."""


class OutputExistsError(RefusedError):
    """The output holds something else."""


class NotAllowedError(RefusedError):
    """A place outside of what the process may read and write."""


class NoAccessError(RefusedError):
    """A store refuses the credentials, or there are none, before the merge has begun."""


class NoChangeError(RefusedError):
    """An adapter changes nothing. What was made is kept."""


class AccessLostError(RetryableError):
    """A store refuses the credentials of a merge that has begun."""


class IoError(RetryableError):
    """Reading or writing failed."""


class NoSpaceError(RetryableError):
    """The target has not enough room."""


class OutputBusyError(RetryableError):
    """Another shardfuse works on this output."""


class PartsLostError(RetryableError):
    """The store did not make a file of parts that it had taken, three times in a row."""


class BusyError(RetryableError):
    """The coordinator has as many merges waiting as it takes on."""


BY_KIND: dict[str, type[Error]] = {
    "usage": UsageError,
    "missing_file": MissingFileError,
    "unused_file": UnusedFileError,
    "bad_config": BadConfigError,
    "bad_safetensors": BadSafetensorsError,
    "bad_index": BadIndexError,
    "unsafe_path": UnsafePathError,
    "unsafe_pickle": UnsafePickleError,
    "bad_pickle": BadPickleError,
    "empty_tensor": EmptyTensorError,
    "missing_tensor": MissingTensorError,
    "incomplete_pair": IncompletePairError,
    "rank_mismatch": RankMismatchError,
    "shape_mismatch": ShapeMismatchError,
    "unmatched_keys": UnmatchedKeysError,
    "delta_lost": DeltaLostError,
    "unsupported": UnsupportedError,
    "conflict": ConflictError,
    "input_changed": InputChangedError,
    "output_exists": OutputExistsError,
    "non_finite": NonFiniteError,
    "not_allowed": NotAllowedError,
    "no_access": NoAccessError,
    "no_change": NoChangeError,
    "access_lost": AccessLostError,
    "io": IoError,
    "no_space": NoSpaceError,
    "output_busy": OutputBusyError,
    "unverified": UnverifiedError,
    "parts_lost": PartsLostError,
    "busy": BusyError,
    "held": HeldError,
    "verify_failed": VerifyFailedError,
    "internal": InternalError,
    "interrupted": StoppedError,
}

_BY_EXIT_CODE: dict[int, type[Error]] = {
    known.exit_code: known for known in (FailedError, UsageError, RefusedError, StoppedError, RetryableError)
}


def of(kind: str, message: str, hint: str | None, exit_code: int) -> Error:
    """The failure of a kind; of one that is not known here, the class of its exit code."""
    known = BY_KIND.get(kind) or _BY_EXIT_CODE.get(exit_code, FailedError)
    return known(message, kind, hint)
