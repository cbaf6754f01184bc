"""The classes of transformers, each made on the meta device: what the scripts that write tables of them share."""

import argparse
import datetime
import json
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

import torch  # noqa: E402
import transformers  # noqa: E402

import tiny_models  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402
from transformers.models.auto.configuration_auto import CONFIG_MAPPING  # noqa: E402

# Seconds that making one class may take.
LIMIT = 60
LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers", "depth", "num_experts",
          "n_routed_experts", "num_local_experts", "encoder_num_layers", "decoder_num_layers", "num_encoder_layers", "num_decoder_layers")
def classes() -> dict[str, str]:
    """Every class of the auto mappings, with its model type."""
    found = {}
    for name in sorted(vars(modeling_auto)):
        if name.endswith("_MAPPING_NAMES") and not name.startswith("CONFIG"):
            for model_type, value in getattr(modeling_auto, name).items():
                for cls in (value,) if isinstance(value, str) else value:
                    found.setdefault(cls, model_type)
    return found


# Layers before the first one with experts.
DENSE = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "encoder_moe_layer_start_index")


def shrink(config, depth: int = 0) -> None:
    for name in DENSE:
        if isinstance(tiny_models.held(config, name), int):
            setattr(config, name, 1)
    for name in LAYERS:
        value = tiny_models.held(config, name)
        if isinstance(value, int) and value > 2:
            try:
                setattr(config, name, 2 if "expert" not in name else 4)
            except Exception:
                pass
    if depth < 3:
        for name in getattr(config, "sub_configs", {}):
            if (inner := getattr(config, name, None)) is not None:
                shrink(inner, depth + 1)


def make(cls, config_class, configure: Callable = tiny_models.given):
    """A model without values, with two layers where its configuration allows that."""
    # Some configurations do not allow two layers, and some default ones no model at all.
    failed = None

    def configs():
        for change in (shrink, lambda config: None):
            config = configure(config_class)
            change(config)
            yield config
        yield from tiny_models.shrunk(config_class, configure)

    ways = configs()
    while True:
        try:
            if (config := next(ways, None)) is None:
                raise failed
            with torch.device("meta"):
                return cls(config)
        except Exception as e:
            if e is failed:
                raise
            failed = failed or e


class Lists:
    """What is known of each class. Many classes have the same."""

    def __init__(self):
        self.lists: list = []
        self.by_class: dict[str, int] = {}

    def add(self, name: str, found) -> None:
        if found:
            if found not in self.lists:
                self.lists.append(found)
            self.by_class[name] = self.lists.index(found)

    def table(self) -> dict:
        return {"classes": self.by_class, "lists": self.lists}

    def __str__(self) -> str:
        return f"{len(self.by_class)} classes, {len(self.lists)} different lists"


def rendered(value) -> str:
    """JSON with a line for each list of `Lists`, so that a change of one shows."""
    if not isinstance(value, dict) or not ("lists" in value or any(isinstance(v, dict) for v in value.values())):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    lines = lambda lists: "[\n" + ",\n".join(map(rendered, lists)) + "]"  # noqa: E731
    return "{" + ",".join(f"{json.dumps(k)}:{lines(v) if k == 'lists' else rendered(v)}" for k, v in value.items()) + "}"


def write(description: str, table: Callable[[], dict]) -> None:
    """The command line of a script that writes a table: its only argument is the file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    origin = {"transformers": transformers.__version__, "made": datetime.date.today().isoformat()}
    output.write_text(rendered(origin | table()) + "\n")


class Failures(dict):
    """Why a class could not be made, by its name."""

    def report(self) -> None:
        print(f"{len(self)} could not be made")
        for name, why in self.items():
            print(f"  {name}: {why}")


def each(failed: Failures, ask: Callable, only: set[str] | None = None) -> Iterator[tuple[str, object]]:
    """What `ask(class, class of its configuration)` says of every class, or of `only` these.

    A class that fails or takes too long is left out.
    """

    def stop(*_):
        raise TimeoutError(f"longer than {LIMIT} s")

    signal.signal(signal.SIGALRM, stop)
    for name, model_type in sorted(classes().items()):
        if only is not None and name not in only:
            continue
        signal.alarm(LIMIT)
        try:
            cls = getattr(transformers, name)
            answer = ask(cls, getattr(cls, "config_class", None) or CONFIG_MAPPING[model_type])
        except BaseException as why:  # noqa: BLE001
            if isinstance(why, KeyboardInterrupt):
                raise
            failed[name] = f"{type(why).__name__}: {' '.join(str(why).split())[:100]}"
            continue
        finally:
            signal.alarm(0)
        yield name, answer
