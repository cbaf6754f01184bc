"""What is made afresh: every kind of adapter on every architecture, with ranks, scales and targets from the seed."""

import random
from collections.abc import Callable

import torch
from peft import LoraConfig, TrainableTokensConfig

from generate.adapters import Adapter
from generate.bases import BERT, GPT2, LLAMA, MOE, Base
from generate.merges import Merge, named, sequence_at
from generate.oracle import as_class

WIDER = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": 128}
ROWS = 135  # of a grown vocabulary
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
# transformers stacks the experts, gate and up as one: PEFT wants both, and 0.21.2 silently loses both without down_proj
STACKED = "gate_proj+up_proj+down_proj"
FAMILIES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig", LLAMA | WIDER, ATTENTION + MLP),
    "llama-tied": ("LlamaForCausalLM", "LlamaConfig", LLAMA | WIDER | {"tie_word_embeddings": True}, ATTENTION + MLP),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", LLAMA | WIDER, ATTENTION + MLP),
    "qwen3moe": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", MOE | WIDER, [*ATTENTION, "down_proj", STACKED]),
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        GPT2
        | {"vocab_size": 128, "n_positions": 64, "n_embd": 64, "n_inner": 96, "bos_token_id": 1, "eos_token_id": 2},
        ["c_attn", "c_proj", "c_fc"],
    ),
    "bert": (
        "BertModel",
        "BertConfig",
        BERT | {"vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 64},
        ["query", "key", "value", "dense"],
    ),
}
EMBEDDING = {"gpt2": "wte", "bert": "word_embeddings"}
TIED = {"llama-tied", "gpt2"}


def fresh_bases() -> dict[str, Base]:
    """Every family in fp32 and in bf16; the bf16 Llamas in several files."""
    return {
        f"{family}-{dtype.lower()}": Base(
            architecture, config, options, dtype, "sharded" if dtype == "BF16" and "llama" in family else "single"
        )
        for family, (architecture, config, options, _) in FAMILIES.items()
        for dtype in ("F32", "BF16")
    }


class Draw:
    """LoRA configs with ranks, scales and targets as they come."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def lora(self, names: list[str], **more: object) -> LoraConfig:
        """Some of the targets (`+` joins those that come together), at some rank."""
        targets = self.rng.sample(names, self.rng.randint(1, len(names)))
        targets = sorted({part for target in targets for part in target.split("+")})
        rank = self.rng.choice([2, 3, 5, 8, 16] + ([] if more.get("use_rslora") else [1]))  # at 1, rsLoRA is LoRA
        return LoraConfig(r=rank, lora_alpha=self.rng.choice([rank, 2 * rank, 4, 7]), target_modules=targets, **more)

    def tokens(self) -> list[int]:
        """Eight indices, in any order."""
        return self.rng.sample(range(128), 8)


def kinds(family: str, draw: Draw) -> dict[str, Callable[[], dict]]:
    """The adapters of each kind for a family; fields of `Merge`."""
    names, embedding = FAMILIES[family][3], EMBEDDING.get(family, "embed_tokens")
    plain = {"fan_in_fan_out": True} if family == "gpt2" else {}
    one = lambda *args, **more: {"adapters": [Adapter(draw.lora(*args, **plain, **more))]}  # noqa: E731
    made: dict[str, Callable[[], dict]] = {
        "lora": lambda: one(names),
        "lora-stored-bf16": lambda: {"adapters": [Adapter(draw.lora(names, **plain), dtype=torch.bfloat16)]},
        "rslora": lambda: one(names, use_rslora=True),
        "dora": lambda: one(names, use_dora=True),
        "embedding": lambda: one([embedding]),
        "two": lambda: {"adapters": [Adapter(draw.lora(names, **plain)) for _ in range(2)]},
        "dora-then-lora": lambda: {
            "adapters": [Adapter(draw.lora(names, use_dora=True, **plain)), Adapter(draw.lora(names, **plain))]
        },
    }
    if family == "qwen3moe":
        # PEFT knows no DoRA on stacked experts, and doubles rank and alpha of a stacked gate and up, which is another
        # scale under rsLoRA
        del made["dora"], made["dora-then-lora"]
        made["rslora"] = lambda: one([*ATTENTION, "down_proj"], use_rslora=True)
        made["dora-attention"] = lambda: one(ATTENTION, use_dora=True)
    if family == "bert":
        made["saved"] = lambda: one(["query"], modules_to_save=["pooler"])
    if family in ("llama", "qwen2"):
        made["saved-grown"] = lambda: {
            "adapters": [Adapter(draw.lora(names, modules_to_save=["embed_tokens", "lm_head"]), rows=ROWS)],
            "oracle": sequence_at(ROWS),
            "config": {"vocab_size": ROWS},
        }
    if family in ("llama", "qwen2"):
        architecture = {"llama": "LlamaForTokenClassification", "qwen2": "Qwen2ForTokenClassification"}[family]
        made["head"] = lambda: {
            "adapters": [Adapter(draw.lora(names, task_type="TOKEN_CLS"), architecture=architecture, labels=4)],
            "oracle": as_class(architecture, 4),
            "config": named(architecture, 4),
        }
    if family != "gpt2":
        made["tokens-only"] = lambda: {
            "adapters": [Adapter(TrainableTokensConfig(token_indices=draw.tokens(), target_modules=[embedding]))]
        }
    if family in ("llama", "llama-tied", "qwen2"):
        made["tokens"] = lambda: one(names, trainable_token_indices=draw.tokens())
    return made


def scenarios(seed: int) -> list[Merge]:
    """All of them, in both dtypes."""
    draw = Draw(random.Random(seed))
    out = []
    for base in fresh_bases():
        family = base.rsplit("-", 1)[0]
        for kind, make in kinds(family, draw).items():
            fields = make()
            if family in TIED:
                fields["config"] = fields.get("config", {}) | {"tie_word_embeddings": True}
            out.append(Merge(f"{base}-{kind}", kind, "made afresh", base, **fields))
    return out
