"""One model type as PEFT sees it: a tiny model, an adapter of each kind, and PEFT's merge of each.

All of that lies in one folder, and `made.json` there says what there is: `base`, and for each kind `KIND-adapter` and `KIND-right`. It is
made once for a type. What PEFT cannot do has its result there.
"""

import hashlib
import importlib.metadata
import json
import shutil
from pathlib import Path

import tiny_models

ADAPTER, RIGHT = "{}-adapter", "{}-right"


def adapter_config(kind: str, model):
    """What PEFT is asked for; None if the model has nothing of this kind."""
    from peft import LoraConfig

    common = {"r": 4, "lora_alpha": 8}
    if kind == "parameters":
        stacked = [n for n, p in model.named_parameters() if p.ndim == 3 and "expert" in n]
        if not stacked:
            return None
        names = sorted({".".join(n.split(".")[-2:]) for n in stacked})
        return LoraConfig(**common, target_modules=[], target_parameters=names)
    if kind == "embedding":
        try:
            embedding = model.get_input_embeddings()
        except NotImplementedError:
            return None
        name = next((n for n, m in model.named_modules() if m is embedding), None)
        return LoraConfig(**common, target_modules=[name.split(".")[-1]]) if name else None
    return LoraConfig(**common, target_modules="all-linear", use_dora=kind == "dora")


def said(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"


def saved(models, base: Path, why: list[str]) -> type | None:
    """The class of the first model that is saved and loads again."""
    try:
        for model in models:
            cls = type(model)
            shutil.rmtree(base, ignore_errors=True)
            try:
                tiny_models.save(model, base)
                # What loading changes by itself, such as the row of a padding token, is no part of a merge.
                loaded = cls.from_pretrained(str(base))
                shutil.rmtree(base)
                tiny_models.save(loaded, base)
                return cls
            except Exception as e:
                why.append(f"{cls.__name__}: saving or loading it: {said(e)}")
    except Exception as e:
        why.append(said(e))
    return None


def adapted(cls: type, folder: Path, kind: str) -> dict:
    """Makes an adapter and PEFT's merge. A result if there is none to compare with."""
    import torch
    from peft import get_peft_model

    from generate.adapters import randomise

    model = cls.from_pretrained(str(folder / "base"), dtype=torch.float32)
    config = adapter_config(kind, model)
    if config is None:
        return {"result": "no adapter", "why": "nothing of this kind"}
    try:
        peft = get_peft_model(model, config)
    except Exception as e:
        return {"result": "no adapter", "why": said(e)}
    try:
        randomise(peft, 11)
        peft.save_pretrained(folder / ADAPTER.format(kind))
        peft.merge_and_unload().save_pretrained(folder / RIGHT.format(kind))
    except Exception as e:
        return {"result": "PEFT fails", "why": said(e)}
    return {}


class Made:
    """What is made of a type. It is written after each step, so a run that was broken off goes on."""

    def __init__(self, model_type: str, folder: Path):
        self.type, self.folder, self.file = model_type, folder, folder / "made.json"
        self.found = json.loads(self.file.read_text()) if self.file.is_file() else {}
        versions = {name: importlib.metadata.version(name) for name in ("transformers", "peft", "torch")}
        # A type that was not built may be built by another way to shrink it.
        by = hashlib.sha256(Path(tiny_models.__file__).read_bytes()).hexdigest()
        if self.found.get("versions") != versions or (self.found.get("class") is None and self.found.get("by") != by):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.found = {"versions": versions, "by": by, "kinds": {}}

    def _write(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self.found))
        new.replace(self.file)

    def base(self) -> type | None:
        """The class of the tiny model; None if it cannot be built."""
        if "class" not in self.found:
            why: list[str] = []
            cls = saved(tiny_models.candidates(self.type, why), self.folder / "base", why)
            self.found["class"] = cls and [cls.__module__, cls.__name__]
            self.found["why"] = "; ".join(dict.fromkeys(why))[:300]
            self._write()
        if self.found["class"] is None:
            return None
        module, name = self.found["class"]
        return getattr(importlib.import_module(module), name)

    def kind(self, kind: str) -> dict:
        """The result for a kind where PEFT has no merge; empty if it is to be compared."""
        if (cls := self.base()) is None:
            return {"result": "not built", "why": self.found["why"]}
        if kind not in self.found["kinds"]:
            self.found["kinds"][kind] = adapted(cls, self.folder, kind)
            self._write()
        result = self.found["kinds"][kind]
        return {"class": cls.__name__} | result if result else {}
