"""Train the example models: a tiny Llama, a LoRA and a DoRA on it. Run with the conformance environment:

    $(tests/conformance/setup.sh) examples/make.py

Prints the losses, and writes tiny-llama/, lora-dialogue/ and dora-orders/ beside this file. Seeds are fixed; other
machines and versions give other last bits, and much the same losses.
"""

import json
import math
import platform
import random
import shutil
import time
from pathlib import Path

import peft
import tokenizers
import torch
import transformers
from grammar import corpus
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
BASE = HERE / "tiny-llama"
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
SEED = 20
ADAPTERS = {
    "lora-dialogue": ("dialogue", {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}, 300),
    "dora-orders": (
        "orders",
        {"r": 4, "lora_alpha": 8, "use_dora": True, "target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"]},
        300,
    ),
}


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 512 entries, trained on `texts`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, model_max_length=128, **SPECIAL)


def blocks(tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int = 64) -> torch.Tensor:
    """All texts after one another, each as `<s> text </s>`, cut into rows of equal length."""
    stream: list[int] = []
    for text in texts:
        stream += [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
    rows = len(stream) // length
    return torch.tensor(stream[: rows * length]).view(rows, length)


@torch.no_grad()
def loss_on(model: torch.nn.Module, rows: torch.Tensor) -> float:
    """The mean next-token loss, in nats."""
    model.eval()
    return sum(model(input_ids=part, labels=part).loss.item() * len(part) for part in rows.split(64)) / len(rows)


def fit(model: torch.nn.Module, rows: torch.Tensor, steps: int, rate: float) -> None:
    """AdamW with a short warm-up and a cosine decay; a line every 100 steps."""
    generator = torch.Generator().manual_seed(SEED)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    model.train()
    for step in range(1, steps + 1):
        batch = rows[torch.randint(len(rows), (32,), generator=generator)]
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"    step {step:4}  training loss {loss.item():.3f}")


def sample(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> str:
    """What the model writes on its own, greedily, from the start token."""
    model.eval()
    start = torch.tensor([[tokenizer.bos_token_id]])
    out = model.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=48, do_sample=False)
    return tokenizer.decode(out[0], skip_special_tokens=True)


def make_base() -> None:
    """Tokenizer and base model, trained in fp32 and saved as bf16."""
    texts = corpus("narrative", 6000, seed=1)
    # a pinch of the other styles, as any large corpus would hold: every token is seen, no style but one is learned well
    texts += corpus("dialogue", 120, seed=3) + corpus("orders", 120, seed=3)
    random.Random(SEED).shuffle(texts)
    tokenizer = train_tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(config)
    rows, held_out = blocks(tokenizer, texts), blocks(tokenizer, corpus("narrative", 400, seed=2))
    print(f"tiny-llama: {sum(p.numel() for p in model.parameters()):,} parameters, {rows.numel():,} tokens of text")
    print(f"    held-out loss before {loss_on(model, held_out):.3f}")
    fit(model, rows, steps=600, rate=3e-3)
    model.to(torch.bfloat16).save_pretrained(BASE)
    tokenizer.save_pretrained(BASE)
    model = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    print(f"    held-out loss after {loss_on(model, held_out):.3f} (as saved, in bf16)")
    print(f"    writes: {sample(model, tokenizer)}")


def make_adapter(name: str, style: str, options: dict, steps: int) -> None:
    """An adapter fine-tuned on the saved base with another style of text."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BASE)
    torch.manual_seed(SEED)
    base = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    base.name_or_path = BASE.name  # what ends up in adapter_config.json
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options))
    rows = blocks(tokenizer, corpus(style, 2000, seed=1))
    held_out, other = (blocks(tokenizer, corpus(kind, 400, seed=2)) for kind in (style, "narrative"))
    print(f"{name}: {model.get_nb_trainable_parameters()[0]:,} trained parameters, style {style!r}, {options}")
    print(f"    held-out loss before {loss_on(model, held_out):.3f}")
    fit(model, rows, steps, rate=3e-3)
    model.save_pretrained(HERE / name, save_embedding_layers=False)
    (HERE / name / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    base = LlamaForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, HERE / name)
    print(f"    held-out loss after {loss_on(model, held_out):.3f}; of the narrative style {loss_on(model, other):.3f}")
    print(f"    writes: {sample(model, tokenizer)}")


def main() -> None:
    """Make everything, and say how large it is."""
    torch.set_num_threads(1)  # the model is too small for more to pay, and one repeats better
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    started = time.monotonic()
    versions = {m.__name__: m.__version__ for m in (torch, transformers, peft, tokenizers)}
    print(
        f"python {platform.python_version()}, " + ", ".join(f"{name} {version}" for name, version in versions.items())
    )
    for name in (BASE.name, *ADAPTERS):
        shutil.rmtree(HERE / name, ignore_errors=True)
    make_base()
    for name, (style, options, steps) in ADAPTERS.items():
        make_adapter(name, style, options, steps)
    for name in (BASE.name, *ADAPTERS):
        for file in (HERE / name).iterdir():
            file.chmod(0o644)
        files = sorted((HERE / name).iterdir())
        print(json.dumps({name: {file.name: file.stat().st_size for file in files}}))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
