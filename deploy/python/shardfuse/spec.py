"""What a merge is made of."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

Place: TypeAlias = str | os.PathLike[str]
"""A local path, or a URL such as ``s3://bucket/model`` or ``hf://org/model``."""

Size: TypeAlias = int | str
"""A number of bytes, or a text such as ``64MiB`` or ``5GB``."""


@dataclass(frozen=True)
class Adapter:
    """An adapter with a weight."""

    path: Place
    weight: float = 1.0


Adapters: TypeAlias = Place | Adapter | Sequence[Place | Adapter]
"""One adapter, or several that apply in this order."""


class Options(TypedDict, total=False):
    """The options of a merge spec. docs/cli.md tells what each means, and its default."""

    dtype: Literal["keep", "bf16", "f16", "f32"]
    quantised: Literal["keep", "dequantise", "requantise"]
    survival: float
    base_as: str
    max_shard_size: Size
    part_size: Size
    store_copies: Literal["auto", "none"]
    digests: Literal["known", "complete"]
    base_index: Place
    dora_norm: Literal["standing", "original"]
    partial_weight: bool
    rounding: Literal["once", "per-adapter"]
    expert_order: Sequence[Literal["fastest", "slowest"]]
    tokenizer: Place
    card: Literal["auto", "none"]
    tied: bool
    architecture: str
    extra_weights: Sequence[str]
    ignore_files: Sequence[str]


def text(base: Place, lora: Adapters, output: Place, options: Options, **machine: object) -> str:
    """A spec file: JSON, which is YAML too. What is ``None`` is left out.

    Raises ``TypeError`` for an option that there is not, as Python does for an argument.
    """
    for name in options:
        if name not in Options.__annotations__:
            near = difflib.get_close_matches(name, Options.__annotations__, 1)
            raise TypeError(f"there is no argument or option {name!r}" + (f"; is {near[0]!r} meant?" if near else ""))
    adapters = [lora] if isinstance(lora, (str, os.PathLike, Adapter)) else list(lora)
    fields: dict[str, object] = {
        "base": base,
        "lora": [_entry(adapter) for adapter in adapters],
        "output": output,
        **options,
        **machine,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps(given, default=_plain, ensure_ascii=False)


def _entry(adapter: Place | Adapter) -> dict[str, object]:
    """An entry whose path is taken literally: commas and ``=`` in it mean nothing."""
    if isinstance(adapter, Adapter):
        return {"path": adapter.path, "weight": adapter.weight}
    return {"path": adapter}


def _plain(value: object) -> object:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{value!r} is of the type {type(value).__name__}, which no option takes")
