//! Files that a model has beside its weights, by their names: a tokenizer's, and what else is common.

use super::files::names::ASKED;

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
    RECOGNISED.into_iter().chain(COMMON).chain(VOCABULARY).chain(TOKENIZER).chain(ASKED.iter().copied())
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
    fn only_weights_of_the_top_folder_are_the_models() {
        for name in [
            "model-00001-of-00002.safetensors",
            "pytorch_model.bin",
            "consolidated.00.pth",
            "model.safetensors.index.json",
        ] {
            assert!(is_model_weight(name), "{name}");
        }
        for name in ["2_Dense/model.safetensors", "model.py", "adapter_model.safetensors", "tokenizer.model"] {
            assert!(!is_model_weight(name), "{name}");
        }
    }
}
