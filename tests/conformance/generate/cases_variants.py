"""Cases of one adapter that is more than a low-rank pair: DoRA, biases, saved modules, tokens, tied models."""

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import AdaLoraConfig, IA3Config, LNTuningConfig, LoHaConfig, PeftConfig, TrainableTokensConfig, VeraConfig
from safetensors.torch import load_file

from . import oracle
from .adapters import WEIGHTS, Adapter, all_of, as_bin, renamed
from .cases_lora import ALL7, CONV1D, lora
from .merges import Merge, named, sequence_at

HEAD, EMBED = "lm_head.weight", "model.embed_tokens.weight"
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
BOTH = ["embed_tokens", "lm_head"]


def dora(targets: object = ("q_proj", "v_proj", "down_proj"), **more: object) -> object:
    """A DoRA config."""
    return lora(list(targets), use_dora=True, **more)


def _delta(folder: Path, a: str, b: str, scale: float) -> torch.Tensor:
    tensors = {name.removeprefix("base_model.model."): x.double() for name, x in load_file(folder / WEIGHTS).items()}
    return scale * tensors[b] @ tensors[a]


def _tied_once(base: Path, folders: Sequence[Path]) -> oracle.State:
    """Both sides of a tied pair carry the same delta: once, in f64."""
    state = oracle.stored(base)
    others = oracle.in_sequence(base, folders)
    embedding = _delta(folders[0], "model.embed_tokens.lora_embedding_A", "model.embed_tokens.lora_embedding_B", 2.0).T
    head = _delta(folders[0], "lm_head.lora_A.weight", "lm_head.lora_B.weight", 2.0)
    torch.testing.assert_close(head, embedding)  # it is the same
    return others | {EMBED: (state[EMBED].double() + embedding).float()}


def _head_only(base: Path, folders: Sequence[Path]) -> oracle.State:
    """LoRA on one side of a tied pair, in f64: the sides part."""
    state = oracle.stored(base)
    head = _delta(folders[0], "lm_head.lora_A.weight", "lm_head.lora_B.weight", 2.0)
    return state | {HEAD: (state[EMBED].double() + head).float()}


DECODER = "cls.predictions.decoder"


def _decoder_only(base: Path, folders: Sequence[Path]) -> oracle.State:
    """LoRA on BERT's decoder alone, in f64: it parts from the embedding, and its bias is written beside it."""
    state = oracle.stored(base)
    delta = _delta(folders[0], f"{DECODER}.lora_A.weight", f"{DECODER}.lora_B.weight", 2.0)
    embedding = state["bert.embeddings.word_embeddings.weight"].double()
    return state | {f"{DECODER}.weight": (embedding + delta).float(), f"{DECODER}.bias": state["cls.predictions.bias"]}


DORA = [
    Merge("dora-f32", "DoRA", "on linears", "llama-f32", [Adapter(dora())]),
    Merge("dora-bf16", "DoRA", "on all linears, bf16, rsLoRA, patterns", "llama-bf16",
          [Adapter(dora(ALL7, use_rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"up_proj": 2}))]),
    Merge("dora-magnitude-weight-key", "DoRA", "`lora_magnitude_vector.weight`, and a leftover adapter name", "llama-f32",
          [Adapter(dora(), disguise=all_of(
              renamed("lora_magnitude_vector", "lora_magnitude_vector.weight"), renamed("lora_A.weight", "lora_A.default.weight")))]),
    Merge("dora-conv1d", "DoRA", "GPT-2's transposed layers: the norm is of the transposed view", "gpt2-f32",
          [Adapter(dora(CONV1D, fan_in_fan_out=True))]),
    Merge("dora-embedding", "DoRA", "one magnitude a dimension, the norm over the vocabulary", "llama-f32",
          [Adapter(dora(["embed_tokens"]))]),
    Merge("dora-conv2d", "DoRA", "convolutions: the norm over all dimensions but the first", "resnet-f32",
          [Adapter(dora(["convolution"]))]),
    Merge("dora-conv1d-layer", "DoRA", "nn.Conv1d, fp16", "whisper-f16", [Adapter(dora(["conv1", "conv2"]))]),
]  # fmt: skip

BIAS = [
    Merge("lora-bias", "bias", "`lora_B.bias`: added, times the scale", "qwen2-bf16",
          [Adapter(lora(["q_proj", "v_proj"], alpha=12, lora_bias=True))]),
    Merge("bias-lora-only", "bias", "the targets' biases are replaced", "qwen2-bf16", [Adapter(lora(bias="lora_only"))]),
    Merge("bias-lora-only-old-keys", "bias", "PEFT 0.6 and older: `X.bias`", "qwen2-bf16",
          [Adapter(lora(bias="lora_only"), disguise=renamed(".base_layer.bias", ".bias"))]),
    Merge("bias-all", "bias", "every bias is replaced, norms included", "bert-f32",
          [Adapter(lora(["query", "pooler.dense"], bias="all"))]),
]  # fmt: skip

SAVED = [
    Merge("saved-vocabulary-grown", "modules_to_save", "embed_tokens and lm_head with 8 more rows; three keys each; own tokenizer",
          "llama-bf16-sharded", [Adapter(lora(ALL7, modules_to_save=BOTH), rows=104, dtype=torch.float16, tokenizer=True)],
          oracle=sequence_at(104), config={"vocab_size": 104}),
    Merge("saved-vocabulary-grown-bin", "modules_to_save", "the same from pickles", "llama-bf16-bin",
          [Adapter(lora(modules_to_save=BOTH), rows=104, dtype=torch.float16, disguise=as_bin, tokenizer=True)],
          oracle=sequence_at(104), config={"vocab_size": 104}),
    Merge("vocabulary-grown-untrained", "modules_to_save", "resized, not trained: both are saved as `X.weight`", "llama-f32",
          [Adapter(lora(), rows=100)], oracle=sequence_at(100), config={"vocab_size": 100}),
    Merge("saved-same-size", "modules_to_save", "embed_tokens, lm_head and the last norm, vocabulary as it was", "llama-bf16",
          [Adapter(lora(modules_to_save=[*BOTH, "model.norm"]))]),
    Merge("saved-submodule", "modules_to_save", "a module with a weight and a bias below it", "bert-f32",
          [Adapter(lora(["query"], modules_to_save=["pooler"]))]),
    Merge("saved-name-in-keys", "modules_to_save", "`X.modules_to_save.default.weight`", "llama-f32",
          [Adapter(lora(modules_to_save=["lm_head"]), disguise=renamed("lm_head.weight", "lm_head.modules_to_save.default.weight"))]),
    Merge("saved-batch-norm", "modules_to_save", "a module with running statistics, an integer among them", "resnet-f32",
          [Adapter(lora([r"layer.0.convolution"], modules_to_save=["embedder.embedder.normalization"]))]),
]  # fmt: skip

TOKENS = [
    Merge("tokens", "trainable tokens", "rows in the config's order, which is not sorted", "llama-f32",
          [Adapter(lora(trainable_token_indices=[41, 3, 90]))]),
    Merge("tokens-by-layer", "trainable tokens", "indices for two layers", "llama-bf16",
          [Adapter(lora(trainable_token_indices={"embed_tokens": [5, 2], "lm_head": [7]}))]),
    Merge("tokens-tied", "trainable tokens", "a tied model stays tied", "llama-tied-bf16",
          [Adapter(lora(trainable_token_indices=[41, 3, 90]))], config=TIED),
    Merge("tokens-type", "trainable tokens", "peft_type TRAINABLE_TOKENS", "llama-f32",
          [Adapter(TrainableTokensConfig(token_indices=[9, 2], target_modules=["embed_tokens"]))]),
    Merge("tokens-type-tied", "trainable tokens", "peft_type TRAINABLE_TOKENS, tied: both sides are in the file", "llama-tied-f32",
          [Adapter(TrainableTokensConfig(token_indices=[9, 2], target_modules=["embed_tokens"]))], config=TIED),
    Merge("tokens-vocabulary-grown", "trainable tokens", "`token_adapter.base_layer.weight` and lm_head are saved too", "llama-f32",
          [Adapter(lora(trainable_token_indices=[5, 97, 99]), rows=100)], oracle=sequence_at(100), config={"vocab_size": 100}),
]  # fmt: skip

ONE_SIDE = ["conflict", "unsupported"]
TIES = [
    Merge("tied-embedding", "tied", "LoRA on embed_tokens: the shared matrix changes", "llama-tied-f32",
          [Adapter(lora(["embed_tokens", "q_proj"]))], config=TIED),
    Merge("tied-embedding-grown", "tied", "the same with 8 more rows", "llama-tied-bf16",
          [Adapter(lora(["embed_tokens"]), rows=104)], oracle=sequence_at(104), config=TIED | {"vocab_size": 104}),
    Merge("tied-both-sides", "tied", "ensure_weight_tying: both sides carry the same delta, applied once", "llama-tied-f32",
          [Adapter(lora(["embed_tokens", "q_proj"], ensure_weight_tying=True))], oracle=_tied_once, config=TIED,
          notes=["embedding computed in f64: PEFT 0.21.2 applies the delta twice"]),
    Merge("tied-both-saved", "tied", "modules_to_save with ensure_weight_tying: both sides, equal", "llama-tied-f32",
          [Adapter(lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True))], config=TIED),
    Merge("tied-head-saved", "tied", "modules_to_save lm_head: the sides part", "llama-tied-f32",
          [Adapter(lora(modules_to_save=["lm_head"]))], config=UNTIED, may_refuse_as=ONE_SIDE),
    Merge("tied-embedding-saved", "tied", "modules_to_save embed_tokens: the sides part, lm_head keeps the old rows",
          "llama-tied-f32", [Adapter(lora(modules_to_save=["embed_tokens"]))], config=UNTIED, may_refuse_as=ONE_SIDE),
    Merge("tied-head", "tied", "LoRA on lm_head: the sides part", "llama-tied-f32", [Adapter(lora(["lm_head"]))],
          oracle=_head_only, config=UNTIED, may_refuse_as=ONE_SIDE,
          notes=["lm_head computed in f64: PEFT adds the delta to the embedding too"]),
]  # fmt: skip

WORDS = ["word_embeddings", "query"]
SETS = [
    Merge("ties-t5", "ties", "four names, one in the file: LoRA on shared", "t5-f32", [Adapter(lora(["shared", "q"]))],
          oracle=oracle.written, config=TIED),
    Merge("ties-t5-bin", "ties", "four names of one storage: all carry the merged value", "t5-f32-bin",
          [Adapter(lora(["shared", "q"]))], config=TIED),
    Merge("ties-t5-parted", "ties", "the file's lm_head has other values: it stays, the other three are one", "t5-parted-f32",
          [Adapter(lora(["shared", "q"]))], config=TIED),
    Merge("ties-t5-head-saved", "ties", "modules_to_save lm_head: it parts from the other three, config.json has no say", "t5-f32",
          [Adapter(lora(["q"], modules_to_save=["lm_head"]))], oracle=oracle.written, config=TIED),
    Merge("ties-bart-bin", "ties", "four names of one storage", "bart-f32-bin", [Adapter(lora(["shared", "q_proj"]))], config=TIED),
    Merge("ties-bart-shared-saved", "ties", "modules_to_save shared: the other three keep the old values", "bart-f32",
          [Adapter(lora(modules_to_save=["shared"]))], oracle=oracle.written, config=UNTIED),
    Merge("ties-bert", "ties", "the decoder is not in the file", "mlm-f32", [Adapter(lora(WORDS))], oracle=oracle.written, config=TIED),
    Merge("ties-bert-copies", "ties", "a safetensors file with the decoder and its bias too", "mlm-copies-f32",
          [Adapter(lora(WORDS))], config=TIED),
    Merge("ties-bert-parted", "ties", "the file's decoder has other values and stays", "mlm-parted-f32", [Adapter(lora(WORDS))],
          config=UNTIED),
    Merge("ties-bert-bias-all", "ties", "a tied bias that is saved under both names", "mlm-f32",
          [Adapter(lora(["query"], bias="all"))], oracle=oracle.written, config=TIED),
    Merge("ties-bert-decoder", "ties", "LoRA on the decoder: it parts from the embedding", "mlm-f32", [Adapter(lora([DECODER]))],
          oracle=_decoder_only, config=UNTIED, notes=["decoder computed in f64: PEFT adds the delta to the embedding too"]),
]  # fmt: skip

def _head(name: str, tests: str, base: str, config: PeftConfig, architecture: str, labels: int, **more: object) -> Merge:
    """An adapter that was trained on another class than the base's, and brings its head."""
    return Merge(name, "new heads", tests, base, [Adapter(config, architecture=architecture, labels=labels)],
                 oracle=oracle.as_class(architecture, labels), config=named(architecture, labels), **more)  # fmt: skip


HEADS = [
    _head("head-seqcls", "task_type SEQ_CLS: score is added, lm_head stays", "llama-f32", lora(task_type="SEQ_CLS"),
          "LlamaForSequenceClassification", 3),
    _head("head-seqcls-bf16", "the head gets the base's dtype", "llama-bf16", lora(task_type="SEQ_CLS"),
          "LlamaForSequenceClassification", 5),
    _head("head-tokencls-bert", "task_type TOKEN_CLS: classifier with its bias", "mlm-f32", lora(["query"], task_type="TOKEN_CLS"),
          "BertForTokenClassification", 4),
    _head("head-architecture", "no task_type, --architecture names the class", "llama-f32", lora(modules_to_save=["score"]),
          "LlamaForSequenceClassification", 2, options=["--architecture", "LlamaForSequenceClassification"]),
]  # fmt: skip

LLAMA_FF = IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
KINDS = [
    Merge("adalora", "AdaLoRA", "a value for each rank; the scale divides by init_r", "llama-f32",
          [Adapter(AdaLoraConfig(target_modules=["q_proj", "down_proj"], init_r=4, lora_alpha=6, total_step=10))]),
    Merge("adalora-bf16", "AdaLoRA", "onto bf16, with saved modules", "llama-bf16",
          [Adapter(AdaLoraConfig(target_modules=ALL7, init_r=3, total_step=10, modules_to_save=["lm_head"]))]),
    Merge("adalora-conv1d", "AdaLoRA", "GPT-2's transposed layers", "gpt2-f32",
          [Adapter(AdaLoraConfig(target_modules=list(CONV1D), init_r=4, total_step=10, fan_in_fan_out=True))]),
    Merge("loha", "LoHa", "patterns of rank and alpha", "llama-f32",
          [Adapter(LoHaConfig(r=4, alpha=6, target_modules=["q_proj", "v_proj", "down_proj"], rank_pattern={"v_proj": 2},
                              alpha_pattern={"down_proj": 3}))]),
    Merge("loha-bf16", "LoHa", "onto bf16", "llama-bf16", [Adapter(LoHaConfig(r=8, alpha=4, target_modules=ALL7))]),
    Merge("loha-conv2d", "LoHa", "convolutions in matrix form", "resnet-f32",
          [Adapter(LoHaConfig(r=4, alpha=4, target_modules=["convolution"]))]),
    Merge("ia3", "IA3", "outputs and, feed-forward, inputs", "llama-f32", [Adapter(LLAMA_FF)]),
    Merge("ia3-bias", "IA3", "the biases of outputs are multiplied too", "qwen2-bf16", [Adapter(LLAMA_FF)]),
    Merge("ia3-regex", "IA3", "feedforward_modules as a regular expression", "llama-f16",
          [Adapter(IA3Config(target_modules=r".*\.(q_proj|up_proj)", feedforward_modules=r".*\.mlp\.up_proj"))]),
    Merge("ia3-conv1d", "IA3", "GPT-2's transposed layers", "gpt2-f32",
          [Adapter(IA3Config(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True))]),
    Merge("vera", "VeRA", "two matrices for modules of all sizes", "llama-f32",
          [Adapter(VeraConfig(r=6, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]))]),
    Merge("vera-bf16", "VeRA", "onto bf16", "llama-bf16", [Adapter(VeraConfig(r=4, target_modules=ALL7))]),
    Merge("ln-tuning", "LN tuning", "norms trained whole", "llama-bf16",
          [Adapter(LNTuningConfig(target_modules=["input_layernorm", "model.norm"]))]),
    Merge("ln-tuning-bias", "LN tuning", "with a bias", "bert-f32", [Adapter(LNTuningConfig(target_modules=["attention.output.LayerNorm"]))]),
    Merge("lora-then-ia3", "IA3", "it multiplies what a LoRA left", "llama-f32", [Adapter(lora(["k_proj", "down_proj"])), Adapter(LLAMA_FF)]),
    Merge("loha-then-lora", "LoHa", "a LoRA on top of it", "llama-f32",
          [Adapter(LoHaConfig(r=4, alpha=4, target_modules=["q_proj"])), Adapter(lora(["q_proj"]))]),
]  # fmt: skip

CASES = DORA + BIAS + SAVED + TOKENS + TIES + SETS + HEADS + KINDS
