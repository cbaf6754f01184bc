//! Which files of a model's folder travel to the output beside the weights.

/// Endings of weight files in any framework's format. They never travel: the output's weights are our own.
const WEIGHTS: [&str; 13] = [
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".index.json",
    ".npz",
];

/// Files that only describe the base or an adapter as they were.
const OWN: [&str; 5] =
    ["config.json", "adapter_config.json", "shardfuse.json", "trainer_state.json", "training_args.json"];

/// Files that hold a vocabulary. If an adapter brings one of these, the base's set must not stay beside it: a loader
/// would take a stale `tokenizer.json` before the adapter's `tokenizer.model`.
const VOCABULARY: [&str; 12] = [
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "added_tokens.json",
    "tiktoken.model",
    "tekken.json",
    "tokenizer.model.v3",
    "qwen.tiktoken",
];

/// Other files of a tokenizer.
const TOKENIZER: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "chat_template.json"];

/// Files beside the weights that models commonly have, apart from a tokenizer's.
const COMMON: [&str; 5] =
    ["generation_config.json", "preprocessor_config.json", "processor_config.json", "README.md", "LICENSE"];

/// Configurations, indexes and weight files that a base or an adapter is recognised by.
const RECOGNISED: [&str; 8] = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
];

/// The names to ask for in a folder that cannot be listed, in no order. Shards stand in the index.
pub fn well_known() -> impl Iterator<Item = &'static str> {
    RECOGNISED.into_iter().chain(COMMON).chain(VOCABULARY).chain(TOKENIZER)
}

/// Whether a file of the base's folder travels. `name` is relative to the folder, with `/`.
pub fn travels(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    let last = name.rsplit('/').next().unwrap_or(name);
    // A sub-folder's config.json (sentence-transformers' pooling, say) is a sidecar like any other.
    let own = OWN.contains(&last) && !name.contains('/');
    // Optimiser state and other formats' exports are large and no part of the model.
    let export = ["original/", "onnx/", "openvino/", "global_step", "checkpoint-"].iter().any(|p| name.starts_with(p));
    !hidden && !own && !export && !WEIGHTS.iter().any(|e| last.ends_with(e))
}

/// Whether a file belongs to a tokenizer, and so may come from an adapter.
pub fn is_tokenizer(name: &str) -> bool {
    is_vocabulary(name) || TOKENIZER.contains(&name)
}

/// Whether a file holds a vocabulary.
pub fn is_vocabulary(name: &str) -> bool {
    VOCABULARY.contains(&name)
}

/// Weight files that a loader would take for the model's: what `--force` clears out of an old output.
pub fn is_model_weight(name: &str) -> bool {
    let stem = ["model", "pytorch_model", "consolidated"].iter().any(|s| name.starts_with(s));
    stem && !name.contains('/') && [".safetensors", ".bin", ".pth", ".index.json"].iter().any(|e| name.ends_with(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_well_known_file_has_a_use() {
        for name in well_known() {
            assert!(RECOGNISED.contains(&name) || travels(name) || is_tokenizer(name), "{name}");
        }
    }

    #[test]
    fn weights_configs_and_hidden_files_stay() {
        for name in [
            "model.safetensors",
            "pytorch_model.bin.index.json",
            "config.json",
            ".gitattributes",
            ".cache/x.json",
            "onnx/model.json",
            "optimizer.pt",
        ] {
            assert!(!travels(name), "{name}");
        }
        for name in [
            "tokenizer.json",
            "generation_config.json",
            "modeling_x.py",
            "1_Pooling/config.json",
            "README.md",
            "chat_template.jinja",
        ] {
            assert!(travels(name), "{name}");
        }
    }
}
