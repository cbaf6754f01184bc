//! Tied embeddings: whether a model is tied, and what its two sides are called.
//!
//! `tie_word_embeddings` in config.json (at the top or in the language model's own part) decides, else the class's default
//! in transformers 5.23. Neither the lack of an lm_head tensor nor its presence is a test; but a file that holds two
//! different tensors is not tied, whatever its configuration says.

use std::collections::HashMap;

use serde_json::Value;

use crate::adapter::key::classify;
use crate::adapter::rename::candidates;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, BaseInventory, Source};
use crate::output::levels;

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
const SIDES: [Sides; 12] = [
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
    if let Some(tied) = levels::get(config, "tie_word_embeddings").and_then(Value::as_bool) {
        return Some(tied);
    }
    let class = config.get("model_type").and_then(Value::as_str)?;
    match class {
        _ if TIED.contains(&class) => Some(true),
        _ if UNTIED.contains(&class) => Some(false),
        _ => None,
    }
}

/// Whether a model type is one of those whose class is known.
pub fn knows(class: &str) -> bool {
    TIED.contains(&class) || UNTIED.contains(&class)
}

/// Names of the input and the output embedding.
pub type Sides = (&'static str, &'static str);

/// How input and output embedding hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether they are one tensor; `None` where nothing tells.
    pub tied: Option<bool>,
    /// The configuration says that they are one, and the values of the file say that they are two. transformers 5 goes
    /// by the values, older ones by the configuration.
    pub config_is_wrong: bool,
    /// The configuration says that they are one, and the user that they are two.
    pub untied_by_request: bool,
    /// The values of both are known to be the same or not.
    pub compared: bool,
}

/// Decides whether a base is tied: by its values where they are known, else by `--tied`, else by its configuration.
/// `head` tells whether the file holds the output embedding.
///
/// # Errors
/// If `--tied` cannot be obeyed.
pub fn decide(base: &BaseInventory, sides: Option<Sides>, head: bool, asked: Option<bool>) -> Result<Decision> {
    let said = is_tied(&base.config);
    let conflict = |why: String| Err(Error::new(Kind::Conflict, why));
    let (input, output) = sides.unwrap_or(("the input embedding", "the output embedding"));
    match (asked, said) {
        (Some(true), Some(false)) => {
            return conflict(format!(
                "--tied true, but by config.json or its model type {input} and {output} are two tensors"
            ))
            .map_err(|e| e.hint("set tie_word_embeddings in the base's config.json if it is wrong"));
        }
        (Some(true), _) if sides.is_none() => {
            return conflict("--tied true, but the base holds no input embedding under a name that is known".into());
        }
        (Some(true), _) if base.head_is_embedding == Some(false) => {
            return conflict(format!("--tied true, but {input} and {output} hold different values in the base"))
                .map_err(|e| e.hint("--tied false keeps both as they are"));
        }
        (Some(false), Some(true)) if sides.is_some() && !head => {
            return conflict(format!(
                "--tied false, but by config.json or its model type {output} is {input}, and the base holds no {output} of its own"
            ));
        }
        _ => {}
    }
    let differ = base.head_is_embedding == Some(false);
    Ok(Decision {
        tied: if differ { Some(false) } else { asked.or(said) },
        config_is_wrong: differ && said == Some(true) && asked.is_none(),
        untied_by_request: asked == Some(false) && said == Some(true),
        compared: base.head_is_embedding.is_some(),
    })
}

/// The input and the output embedding of the base's files, if a plan has to know whether they hold the same values: the
/// base may be tied, the files hold both, and an adapter changes one of them.
pub fn to_compare<'a>(
    base: &'a BaseInventory,
    adapters: &[AdapterInventory],
    asked: Option<bool>,
) -> Option<(&'a Source, &'a Source)> {
    if asked == Some(false) || is_tied(&base.config) == Some(false) {
        return None;
    }
    let tensors: HashMap<&str, &Source> =
        base.shards.iter().flat_map(|s| &s.tensors).map(|t| (t.name.as_str(), t)).collect();
    let (input, output) = sides(&base.config, |name| tensors.contains_key(name))?;
    let pair = (*tensors.get(input)?, *tensors.get(output)?);
    let is_side = |module: &str| [input, output].iter().any(|side| side.strip_suffix(".weight") == Some(module));
    let touched = |t: &Source| candidates(&classify(&t.name).module).iter().any(|module| is_side(module));
    adapters.iter().flat_map(AdapterInventory::all_tensors).any(touched).then_some(pair)
}

/// The names of input and output embedding, from the tensors that the base holds.
pub fn sides(config: &Value, has: impl Fn(&str) -> bool) -> Option<Sides> {
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
