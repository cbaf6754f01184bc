"""The shapes of the models that the campaigns merge: real widths, scaled by layers and experts alone."""

from collections.abc import Iterator

from checkpoint import Checkpoint, Tensor, cut

HIDDEN, HEAD, VOCABULARY = 4096, 128, 1000
# The parts of a mixture's attention.
Q, KV, EXPERT = 8192, 512, 1536


def mixture(layers: int, experts: int, limit: int) -> Checkpoint:
    """A Qwen3 mixture of experts, stored one by one, in files of at most so many bytes."""

    def tensors() -> Iterator[Tensor]:
        yield Tensor("model.embed_tokens.weight", (VOCABULARY, HIDDEN))
        for layer in range(layers):
            at = f"model.layers.{layer}."
            for side, shape in (("q", (Q, HIDDEN)), ("k", (KV, HIDDEN)), ("v", (KV, HIDDEN)), ("o", (HIDDEN, Q))):
                yield Tensor(f"{at}self_attn.{side}_proj.weight", shape)
            yield from (Tensor(f"{at}self_attn.{side}_norm.weight", (HEAD,)) for side in "qk")
            yield from (Tensor(f"{at}{name}_layernorm.weight", (HIDDEN,)) for name in ("input", "post_attention"))
            yield Tensor(f"{at}mlp.gate.weight", (experts, HIDDEN))
            for expert in range(experts):
                to = f"{at}mlp.experts.{expert}."
                yield from (Tensor(f"{to}{side}_proj.weight", (EXPERT, HIDDEN)) for side in ("gate", "up"))
                yield Tensor(f"{to}down_proj.weight", (HIDDEN, EXPERT))
        yield Tensor("model.norm.weight", (HIDDEN,))
        yield Tensor("lm_head.weight", (VOCABULARY, HIDDEN))

    config = {
        "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": HIDDEN, "head_dim": HEAD,
        "num_hidden_layers": layers, "num_experts": experts, "num_experts_per_tok": 8, "moe_intermediate_size": EXPERT,
        "num_attention_heads": Q // HEAD, "num_key_value_heads": KV // HEAD, "vocab_size": VOCABULARY,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    return Checkpoint(config, cut(tensors(), limit))


def llama(layers: int, vocabulary: int, limit: int) -> Checkpoint:
    """A Llama with the widths of 7B, which has 32 layers and 32,000 tokens."""
    inner = 11008

    def tensors() -> Iterator[Tensor]:
        yield Tensor("model.embed_tokens.weight", (vocabulary, HIDDEN))
        for layer in range(layers):
            at = f"model.layers.{layer}."
            yield from (Tensor(f"{at}self_attn.{side}_proj.weight", (HIDDEN, HIDDEN)) for side in "qkvo")
            yield from (Tensor(f"{at}mlp.{side}_proj.weight", (inner, HIDDEN)) for side in ("gate", "up"))
            yield Tensor(f"{at}mlp.down_proj.weight", (HIDDEN, inner))
            yield from (Tensor(f"{at}{name}_layernorm.weight", (HIDDEN,)) for name in ("input", "post_attention"))
        yield Tensor("model.norm.weight", (HIDDEN,))
        yield Tensor("lm_head.weight", (vocabulary, HIDDEN))

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": HIDDEN // HEAD, "num_key_value_heads": HIDDEN // HEAD,
        "vocab_size": vocabulary, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    return Checkpoint(config, cut(tensors(), limit))
