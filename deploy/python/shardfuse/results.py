"""What the binary answers, as values. ``raw`` holds the whole answer, with what this version has no field for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, TypeAlias

from .errors import InternalError

Json: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class _Answer:
    """A dataclass that is made of the fields of the same names in a JSON object."""

    @classmethod
    def of(cls, raw: Json, /, **more: object) -> Self:
        """Made of an answer; ``more`` are fields that are more than a copy."""
        names = {known.name for known in fields(cls)}
        try:
            return cls(**{name: value for name, value in {**raw, **more}.items() if name in names})
        except TypeError as error:
            raise InternalError(f"the binary's answer is not understood: {error}", "internal") from error


@dataclass(frozen=True)
class Progress(_Answer):
    """How a merge stands. ``waiting``: it is not planned yet, and ``bytes_total`` is 0."""

    stage: Literal["waiting", "fusing", "publishing"]
    bytes_done: int
    bytes_total: int
    tasks_done: int
    tasks_total: int

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1."""
        return self.bytes_done / self.bytes_total if self.bytes_total else 0.0


@dataclass(frozen=True)
class File(_Answer):
    """A file of the output. ``blake3`` is the digest that ``b3sum`` prints; ``parts`` has that of each part of a weight file. They are
    ``None`` for bytes that the store copied and nobody read."""

    name: str
    size: int
    blake3: str | None
    parts: Sequence[str | None] = ()


@dataclass(frozen=True)
class Survived(_Answer):
    """How much of a delta survived where a weight was encoded again (``quantised="requantise"``)."""

    tensor: str
    cosine: float
    norm: float


@dataclass(frozen=True)
class MergeResult(_Answer):
    """A merge on this machine. Where the output was this very merge already, ``already_done`` is true, and
    ``bytes_written`` and ``parts_written`` are 0."""

    output: str
    plan: str
    already_done: bool = False
    device_class: str | None = None
    seconds: float | None = None
    bytes_written: int = 0
    parts_written: int = 0
    parts_kept: int = 0
    retries: int = 0
    manifest: str | None = None
    tensors_changed: int | None = None
    tensors_copied: int | None = None
    warnings: Sequence[str] = ()
    conflicts: Sequence[str] = ()
    notes: Sequence[str] = ()
    files: Sequence[File] = ()
    survived: Sequence[Survived] = ()
    raw: Json = field(default_factory=dict, repr=False)

    @classmethod
    def of_json(cls, raw: Json) -> Self:
        """Of what ``merge`` prints."""
        files = [File.of(file) for file in raw.get("files", ())]
        survived = [Survived.of(one) for one in raw.get("survived", ())]
        return cls.of(raw, files=files, survived=survived, raw=raw)


@dataclass(frozen=True)
class PlannedAdapter(_Answer):
    """A use of an adapter."""

    path: str
    kind: str
    weight: float
    ranks: Sequence[int]
    scales: Sequence[float]
    modules: int
    replaced: int
    token_rows: int


@dataclass(frozen=True)
class PlannedFile(_Answer):
    """A weight file of the output."""

    name: str
    size: int
    tensors: int


@dataclass(frozen=True)
class Plan(_Answer):
    """What a merge would do."""

    plan: str
    adapters: Sequence[PlannedAdapter]
    files: Sequence[PlannedFile]
    sidecars: Sequence[str]
    tensors_changed: int
    tensors_copied: int
    vocabulary: tuple[int, int] | None
    warnings: Sequence[str]
    conflicts: Sequence[str]
    notes: Sequence[str]
    bytes_read: int
    bytes_written: int
    multiply_adds: int
    peak_memory: int
    tasks: int
    bytes_copied: int = 0
    raw: Json = field(default_factory=dict, repr=False)

    @classmethod
    def of_json(cls, raw: Json) -> Self:
        """Of what ``plan`` prints."""
        report: Json = raw.get("report", {})
        vocabulary = report.get("vocabulary")
        return cls.of(
            {**report, **raw},
            adapters=[PlannedAdapter.of(adapter) for adapter in report.get("adapters", ())],
            files=[PlannedFile.of(file) for file in raw.get("files", ())],
            vocabulary=tuple(vocabulary) if vocabulary else None,
            raw=raw,
        )


@dataclass(frozen=True)
class Failure(_Answer):
    """Why a merge of a coordinator failed."""

    kind: str
    message: str
    hint: str | None = None


State: TypeAlias = Literal["queued", "planning", "running", "publishing", "done", "failed", "cancelled", "held"]


@dataclass(frozen=True)
class FleetMerge(_Answer):
    """A merge of a coordinator, as it stands. ``known``: ``submit`` found it there already."""

    id: str
    state: State
    output: str
    priority: int
    bytes_done: int
    bytes_total: int
    tasks_done: int
    tasks_running: int
    tasks_total: int
    workers: int
    known: bool = False
    submitted: str | None = None
    ended: str | None = None
    plan: str | None = None
    device_class: str | None = None
    seconds: float | None = None
    bytes_written: int = 0
    parts_written: int = 0
    parts_kept: int = 0
    retries: int = 0
    failure: Failure | None = None
    remarks: Sequence[str] = ()
    raw: Json = field(default_factory=dict, repr=False)

    @classmethod
    def of_json(cls, raw: Json) -> Self:
        """Of what ``submit``, ``watch`` and ``cancel`` print."""
        failure = raw.get("failure")
        return cls.of(raw, failure=Failure.of(failure) if failure else None, raw=raw)
