#!/usr/bin/env python3
"""Which model types of transformers merge: a tiny model of each, an adapter by PEFT, merged by PEFT and by shardfuse.

    PYTHON tests/conformance/survey.py BINARY [--types llama,vit] [--kinds lora,dora] [--json FILE]

PYTHON is what tests/conformance/setup.sh prints. Kinds of adapters: `lora` on all linear layers, `dora` on the same, `embedding` on
the input embedding, `parameters` on stacked experts (`target_parameters`). Each type runs in a process of its own with a time
limit. Results:

| | |
|---|---|
| exact | every tensor that PEFT's merge changes is the same within fp32's noise, every other one bit by bit |
| refused | by its kind of error |
| WRONG | shardfuse wrote another value than PEFT |
| no adapter | PEFT finds nothing to train, or cannot merge it itself |
| not built | no tiny model was made of the type's configuration |

The exit code is 1 if a result is WRONG.
"""

import argparse
import collections
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# What is tried for a type, in this order: the classes that people adapt first.
HEADS = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM", "MULTIMODAL_LM", "MASKED_LM", "SPEECH_SEQ_2_SEQ", "CTC",
         "IMAGE_CLASSIFICATION", "AUDIO_CLASSIFICATION", "SEQUENCE_CLASSIFICATION", "")  # fmt: skip
SIZES = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32, "embedding_size": 32, "hidden_dim": 32,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "n_inner": 48,
    "mlp_dim": 48, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "ffn_hidden_size": 48,
    "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 1, "decoder_layers": 1,
    "num_decoder_layers": 1, "depth": 2, "num_encoder_layers": 1,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "d_kv": 8,
    "vocab_size": 96, "max_position_embeddings": 64, "n_positions": 64, "image_size": 16, "patch_size": 8,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
    "v_head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LIMIT = 300


def shrink(config, depth: int = 0) -> None:
    """Small sizes for what the configuration has, in its parts too."""
    for name, value in SIZES.items():
        held = getattr(config, name, None)
        if isinstance(held, int) and not isinstance(held, bool):
            try:
                setattr(config, name, value)
            except Exception:
                pass
    types = getattr(config, "layer_types", None)
    if isinstance(types, list):
        kinds = list(dict.fromkeys(types))
        config.layer_types = (kinds + types)[: max(2, getattr(config, "num_hidden_layers", 2))]
    if depth < 3:
        for name in getattr(config, "sub_configs", {}):
            if (part := getattr(config, name, None)) is not None and not isinstance(part, dict):
                shrink(part, depth + 1)


def tiny(model_type: str):
    """A tiny model of the type with random weights; None with the reasons where none is made."""
    import torch
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    why = []
    for head in HEADS:
        table = getattr(auto, f"MODEL_FOR_{head}_MAPPING" if head else "MODEL_MAPPING", None)
        config_class = CONFIG_MAPPING[model_type]
        if table is None or config_class not in table:
            continue
        cls = table[config_class]
        cls = cls[0] if isinstance(cls, tuple) else cls
        try:
            config = config_class()
            shrink(config)
            torch.manual_seed(7)
            model = cls(config).float().eval()
        except Exception as e:
            why.append(f"{cls.__name__}: {type(e).__name__}: {' '.join(str(e).split())[:120]}")
            continue
        if sum(p.numel() for p in model.parameters()) > 20_000_000:
            why.append(f"{cls.__name__}: {sum(p.numel() for p in model.parameters())} parameters")
            continue
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.normal_(std=0.1)
        return model, []
    return None, why


def adapter_config(kind: str, model):
    from peft import LoraConfig

    common = {"r": 4, "lora_alpha": 8}
    if kind == "parameters":
        stacked = [n for n, p in model.named_parameters() if p.ndim == 3 and "expert" in n]
        if not stacked:
            return None
        names = sorted({".".join(n.split(".")[-2:]) for n in stacked})
        return LoraConfig(**common, target_modules=[], target_parameters=names)
    if kind == "embedding":
        embedding = model.get_input_embeddings()
        name = next((n for n, m in model.named_modules() if m is embedding), None)
        return LoraConfig(**common, target_modules=[name.split(".")[-1]]) if name else None
    return LoraConfig(**common, target_modules="all-linear", use_dora=kind == "dora")


def one(binary: str, model_type: str, kind: str) -> dict:
    """The result for one type and kind, in a process of its own."""
    import torch
    from peft import get_peft_model

    import tensors
    from generate.adapters import randomise

    torch.set_num_threads(1)
    model, why = tiny(model_type)
    if model is None:
        return {"result": "not built", "why": "; ".join(why)[:300]}
    out = {"class": type(model).__name__}
    with tempfile.TemporaryDirectory() as folder:
        base, adapter, right, ours = (Path(folder) / name for name in ("base", "adapter", "right", "ours"))
        try:
            model.save_pretrained(base)
            config = adapter_config(kind, model)
            if config is None:
                return out | {"result": "no adapter", "why": "nothing of this kind"}
            model = type(model).from_pretrained(base, dtype=torch.float32)
            peft = get_peft_model(model, config)
            randomise(peft, 11)
            peft.save_pretrained(adapter)
            peft.merge_and_unload().save_pretrained(right)
        except Exception as e:
            return out | {"result": "no adapter", "why": f"{type(e).__name__}: {' '.join(str(e).split())[:200]}"}
        run = subprocess.run(
            [binary, "merge", "--base", base, "--lora", adapter, "--output", ours, "--quiet", "--error-format", "json"],
            capture_output=True, text=True, check=False)  # fmt: skip
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["{}"])[-1]
            try:
                error = json.loads(last)["error"]
                return out | {"result": f"refused: {error['kind']}", "why": error["message"][:300]}
            except (ValueError, KeyError):
                return out | {"result": "WRONG", "why": f"exit {run.returncode}: {last[:200]}"}
        before, expected, got = (tensors.read_folder(f) for f in (base, right, ours))
        for name, tensor in expected.items():
            if name not in got:
                return out | {"result": "WRONG", "why": f"{name} is missing"}
            if name in before and before[name].raw == tensor.raw:
                if got[name].raw != tensor.raw:
                    return out | {"result": "WRONG", "why": f"{name} is changed"}
                continue
            a, b = tensor.values(), got[name].values()
            if a.shape != b.shape or abs(a - b).max() > 1e-5 * abs(a).max():
                return out | {"result": "WRONG", "why": f"{name} differs"}
    return out | {"result": "exact"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--types", default="")
    parser.add_argument("--kinds", default="lora")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    if args.one:
        print(json.dumps(one(args.binary, *args.one)))
        return 0
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    types = args.types.split(",") if args.types else sorted(CONFIG_MAPPING_NAMES)
    found = {}
    for model_type in types:
        for kind in args.kinds.split(","):
            command = [sys.executable, __file__, args.binary, "--one", model_type, kind]
            try:
                run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
                result = json.loads(run.stdout.strip().splitlines()[-1])
            except subprocess.TimeoutExpired:
                result = {"result": "not built", "why": f"longer than {LIMIT} s"}
            except (ValueError, IndexError):
                result = {"result": "not built", "why": " ".join(run.stderr.split())[-200:]}
            found[f"{model_type} {kind}"] = result
            print(f"{model_type:32} {kind:10} {result['result']:28} {result.get('why', '')[:140]}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")
    counts = collections.Counter(result["result"] for result in found.values())
    print(", ".join(f"{count} {result}" for result, count in counts.most_common()))
    return 1 if counts["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
