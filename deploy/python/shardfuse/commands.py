"""The commands, a function each."""

from __future__ import annotations

import os
from typing import Literal, Unpack

from . import fleet, spec
from .fleet import Coordinator
from .process import OnProgress, run
from .results import FleetMerge, MergeResult, Plan
from .spec import Adapters, Options, Place, Size


def plan(
    base: Place,
    lora: Adapters,
    output: Place,
    *,
    memory: Size | None = None,
    stores: Place | None = None,
    html: Place | None = None,
    **options: Unpack[Options],
) -> Plan:
    """What a merge would do. Reads headers only and writes nothing but the page that ``html`` names."""
    text = spec.text(base, lora, output, options, memory=memory)
    flags = [*_value("--stores", stores), *_value("--html", html)]
    return Plan.of_json(run(["plan", "--spec=-", *flags], stdin=text))


def merge(
    base: Place,
    lora: Adapters,
    output: Place,
    *,
    on_progress: OnProgress | None = None,
    restart: bool = False,
    force: bool = False,
    take_over: bool = False,
    allow_no_change: bool = False,
    memory: Size | None = None,
    threads: int | None = None,
    limit_rate: Size | None = None,
    device: str | None = None,
    stores: Place | None = None,
    **options: Unpack[Options],
) -> MergeResult:
    """Merges adapters into a base on this machine. A merge that was stopped goes on with the same call.

    ``device`` is ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``on_progress`` is called in this thread, a few times a second at
    the most; an exception in it stops the merge, and so does Ctrl-C.
    """
    text = spec.text(base, lora, output, options, memory=memory, threads=threads, device=device)
    switches = _switches(restart=restart, force=force, take_over=take_over, allow_no_change=allow_no_change)
    flags = [*switches, *_value("--limit-rate", limit_rate), *_value("--stores", stores)]
    return MergeResult.of_json(run(["merge", "--spec=-", *flags], stdin=text, on_progress=on_progress))


def submit(
    base: Place,
    lora: Adapters,
    output: Place,
    *,
    coordinator: Coordinator | str | None = None,
    restart: bool = False,
    force: bool = False,
    allow_no_change: bool = False,
    priority: int = 0,
    device: Literal["cpu", "cuda"] | None = None,
    verify_parts: float | None = None,
    **options: Unpack[Options],
) -> FleetMerge:
    """Hands a merge to a coordinator and returns at once. The same submission again is the same merge."""
    text = spec.text(base, lora, output, options)
    flags = [
        *fleet.arguments(coordinator),
        *_switches(restart=restart, force=force, allow_no_change=allow_no_change),
        f"--priority={priority}",
        *_value("--device", device),
        *_value("--verify-parts", verify_parts),
    ]
    return FleetMerge.of_json(run(["submit", "--spec=-", *flags], stdin=text))


def watch(
    merge: FleetMerge | str,
    *,
    coordinator: Coordinator | str | None = None,
    on_progress: OnProgress | None = None,
) -> FleetMerge:
    """Follows a merge of a coordinator to its end; one that fails or is cancelled raises its error. An exception in
    ``on_progress``, or Ctrl-C, ends the watching: the merge goes on, and ``cancel`` stops it."""
    arguments = ["watch", _id(merge), *fleet.arguments(coordinator)]
    return FleetMerge.of_json(run(arguments, on_progress=on_progress))


def cancel(
    merge: FleetMerge | str, *, coordinator: Coordinator | str | None = None, discard: bool = False
) -> FleetMerge:
    """Stops a merge of a coordinator. Finished work stays, unless ``discard`` is given."""
    arguments = ["cancel", _id(merge), *fleet.arguments(coordinator), *(["--discard"] if discard else [])]
    return FleetMerge.of_json(run(arguments))


def _id(merge: FleetMerge | str) -> str:
    return merge if isinstance(merge, str) else merge.id


def _switches(**switches: bool) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name, on in switches.items() if on]


def _value(flag: str, value: Place | float | None) -> list[str]:
    if value is None:
        return []
    return [f"{flag}={value if isinstance(value, (int, float)) else os.fspath(value)}"]
