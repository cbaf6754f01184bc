//! Tied embeddings: whether a model is tied, and what its two sides are called.
//!
//! `tie_word_embeddings` in config.json (or in its text sub-config) decides, else the class's default in transformers
//! 5.23. Neither the lack of an lm_head tensor nor its presence is a test.

use serde_json::Value;

/// Model types whose class ties by default.
const TIED: [&str; 47] = [
    "gpt2",
    "gpt-sw3",
    "gpt_bigcode",
    "gpt_neo",
    "openai-gpt",
    "bloom",
    "opt",
    "mpt",
    "falcon",
    "falcon_mamba",
    "mamba",
    "gemma",
    "gemma2",
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma3n_text",
    "gemma4",
    "gemma4_text",
    "paligemma",
    "cohere",
    "cohere2",
    "starcoder2",
    "smollm3",
    "ernie4_5",
    "ernie4_5_moe",
    "recurrent_gemma",
    "lfm2",
    "jetmoe",
    "zamba",
    "zamba2",
    "internvl",
    "mistral3",
    "t5",
    "mt5",
    "umt5",
    "longt5",
    "bart",
    "mbart",
    "pegasus",
    "marian",
    "whisper",
    "bert",
    "roberta",
    "xlm-roberta",
    "distilbert",
    "albert",
];
/// Model types whose class does not.
const UNTIED: [&str; 45] = [
    "llama",
    "llama4",
    "llama4_text",
    "mistral",
    "ministral",
    "mixtral",
    "qwen2",
    "qwen2_moe",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3",
    "qwen3_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_next",
    "phi",
    "phi3",
    "deepseek_v2",
    "deepseek_v3",
    "glm",
    "glm4",
    "glm4_moe",
    "gpt_neox",
    "gptj",
    "gpt_oss",
    "olmo",
    "olmo2",
    "olmo3",
    "olmoe",
    "granite",
    "granitemoe",
    "granitemoehybrid",
    "mamba2",
    "stablelm",
    "minimax",
    "minimax_m2",
    "llava",
    "llava_next",
    "llava_next_video",
    "llava_onevision",
    "idefics",
    "idefics2",
    "idefics3",
    "smolvlm",
    "persimmon",
];

/// Input embedding and the output embedding that is its partner.
const SIDES: [(&str, &str); 12] = [
    ("model.embed_tokens.weight", "lm_head.weight"),
    ("model.language_model.embed_tokens.weight", "lm_head.weight"),
    ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight"),
    ("transformer.wte.weight", "lm_head.weight"),
    ("wte.weight", "lm_head.weight"),
    ("gpt_neox.embed_in.weight", "embed_out.weight"),
    ("model.decoder.embed_tokens.weight", "lm_head.weight"),
    ("transformer.word_embeddings.weight", "lm_head.weight"),
    ("word_embeddings.weight", "lm_head.weight"),
    ("transformer.tokens_embed.weight", "lm_head.weight"),
    ("backbone.embeddings.weight", "lm_head.weight"),
    ("shared.weight", "lm_head.weight"),
];

/// Whether the model is tied; `None` where neither the config nor the class tells.
pub fn is_tied(config: &Value) -> Option<bool> {
    let said = |c: &Value| c.get("tie_word_embeddings").and_then(Value::as_bool);
    if let Some(tied) = said(config).or_else(|| config.get("text_config").and_then(said)) {
        return Some(tied);
    }
    let class = config.get("model_type").and_then(Value::as_str)?;
    match class {
        _ if TIED.contains(&class) => Some(true),
        _ if UNTIED.contains(&class) => Some(false),
        _ => None,
    }
}

/// The names of input and output embedding, from the tensors that the base holds.
pub fn sides(config: &Value, has: impl Fn(&str) -> bool) -> Option<(&'static str, &'static str)> {
    let (input, output) = SIDES.into_iter().find(|(input, _)| has(input))?;
    let whisper = config.get("model_type").and_then(Value::as_str) == Some("whisper");
    Some((input, if whisper { "proj_out.weight" } else { output }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_config_decides_before_the_class() {
        assert_eq!(is_tied(&json!({"model_type": "llama", "tie_word_embeddings": true})), Some(true));
        assert_eq!(
            is_tied(&json!({"model_type": "gemma3", "text_config": {"tie_word_embeddings": false}})),
            Some(false)
        );
        assert_eq!(is_tied(&json!({"model_type": "gpt2"})), Some(true));
        assert_eq!(is_tied(&json!({"model_type": "llama"})), Some(false));
        assert_eq!(is_tied(&json!({"model_type": "unheard_of"})), None);
    }
}
