"""model.py FOLDER: a Llama-shaped checkpoint of about 170 MB in two files, and an adapter for it. Values are random with a fixed
seed; no library is needed."""

import json
import pathlib
import random
import struct
import sys

HIDDEN, INNER, LAYERS, VOCABULARY, RANK = 1024, 2816, 6, 8192, 16
# The upper byte of a bf16: sign, and exponents of about 0.01, so that nothing is infinite or NaN.
UPPER = bytes([0x3C, 0xBC, 0x3B, 0xBB][i % 4] for i in range(256))
rng = random.Random(20)


def bf16(count):
    out = bytearray(2 * count)
    out[0::2] = rng.randbytes(count)
    out[1::2] = rng.randbytes(count).translate(UPPER)
    return bytes(out)


def save(path, shapes):
    header, start = {"__metadata__": {"format": "pt"}}, 0
    for name, (rows, columns) in shapes.items():
        end = start + 2 * rows * max(columns, 1)
        header[name] = {"dtype": "BF16", "shape": [rows, columns] if columns else [rows], "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for rows, columns in shapes.values():
            file.write(bf16(rows * max(columns, 1)))
    return start


def main():
    base, lora = (pathlib.Path(sys.argv[1]) / name for name in ("base", "lora"))
    base.mkdir(parents=True)
    lora.mkdir()
    files = {f"model-0000{n}-of-00002.safetensors": {} for n in (1, 2)}
    first, second = files.values()
    first["model.embed_tokens.weight"] = (VOCABULARY, HIDDEN)
    adapter = {}
    for layer in range(LAYERS):
        at = first if layer < LAYERS // 2 else second
        name = f"model.layers.{layer}"
        for part in "qkvo":
            at[f"{name}.self_attn.{part}_proj.weight"] = (HIDDEN, HIDDEN)
        at[f"{name}.mlp.gate_proj.weight"] = (INNER, HIDDEN)
        at[f"{name}.mlp.up_proj.weight"] = (INNER, HIDDEN)
        at[f"{name}.mlp.down_proj.weight"] = (HIDDEN, INNER)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            at[f"{name}.{norm}.weight"] = (HIDDEN, 0)
        for module, rows, columns in (("self_attn.q_proj", HIDDEN, HIDDEN), ("self_attn.v_proj", HIDDEN, HIDDEN), ("mlp.down_proj", HIDDEN, INNER)):
            adapter[f"base_model.model.{name}.{module}.lora_A.weight"] = (RANK, columns)
            adapter[f"base_model.model.{name}.{module}.lora_B.weight"] = (rows, RANK)
    second["model.norm.weight"] = (HIDDEN, 0)
    second["lm_head.weight"] = (VOCABULARY, HIDDEN)
    total = sum(save(base / file, shapes) for file, shapes in files.items())
    index = {"metadata": {"total_size": total}, "weight_map": {name: file for file, shapes in files.items() for name in shapes}}
    (base / "model.safetensors.index.json").write_text(json.dumps(index))
    (base / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": VOCABULARY,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16"}))
    save(lora / "adapter_model.safetensors", adapter)
    (lora / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj", "down_proj"], "bias": "none"}))
    print(total)


main()
