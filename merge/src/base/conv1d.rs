//! Which modules are `Conv1D`, transformers' linear layer with the transposed weight [in, out].
//!
//! The layer's type decides the transposition, never `fan_in_fan_out` and never the shape. Conv1D exists in a few model
//! types only [transformers 5.23, `pytorch_utils.Conv1D`]. For types that are not known see [`crate::adapter::orientation`].

use fancy_regex::Regex;
use serde_json::Value;

use super::classes;

/// Decides for the modules of one model.
#[derive(Debug)]
pub struct Conv1d {
    known: bool,
    rules: Vec<(String, Regex)>,
}

const GPT2: &str = r"^(?:transformer\.)?h\.\d+\.(?:attn\.(?:c_attn|c_proj)|mlp\.(?:c_fc|c_proj)|crossattention\.(?:c_attn|q_attn|c_proj))$";
const OPENAI: &str = r"^(?:transformer\.)?h\.\d+\.(?:attn\.(?:c_attn|c_proj)|mlp\.(?:c_fc|c_proj))$";
const DECISION: &str = r"^encoder\.h\.\d+\.(?:attn\.(?:c_attn|c_proj)|mlp\.(?:c_fc|c_proj))$";
const CLVP_DECODER: &str = r"^model\.decoder\.layers\.\d+\.mlp\.(?:c_fc|c_proj)$";
const CLVP: &str = r"^speech_decoder_model\.model\.decoder\.layers\.\d+\.mlp\.(?:c_fc|c_proj)$";

impl Conv1d {
    /// Reads the model types from a base's `config.json`.
    pub fn of(config: &Value) -> Conv1d {
        let mut rules = Vec::new();
        collect(config, "", &mut rules);
        let composite = ["encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder"];
        let class = config.get("model_type").and_then(Value::as_str);
        let known = class.is_some_and(|c| composite.contains(&c) || classes::ties(c).is_some()) || !rules.is_empty();
        Conv1d { known, rules }
    }

    /// Whether the model's type is one whose layers are known.
    pub fn knows_the_model(&self) -> bool {
        self.known
    }

    /// Whether the module of this path (in the base's names) is a Conv1D.
    pub fn is(&self, module: &str) -> bool {
        self.rules.iter().any(|(prefix, rule)| {
            module.strip_prefix(prefix.as_str()).is_some_and(|rest| rule.is_match(rest).unwrap_or(false))
        })
    }
}

fn collect(config: &Value, prefix: &str, rules: &mut Vec<(String, Regex)>) {
    let rule = match config.get("model_type").and_then(Value::as_str) {
        Some("gpt2" | "imagegpt") => Some(GPT2),
        Some("openai-gpt") => Some(OPENAI),
        Some("decision_transformer") => Some(DECISION),
        Some("clvp_decoder") => Some(CLVP_DECODER),
        Some("clvp") => Some(CLVP),
        _ => None,
    };
    if let Some(regex) = rule.and_then(|r| Regex::new(r).ok()) {
        rules.push((prefix.to_owned(), regex));
    }
    // encoder-decoder and kin name their halves.
    for half in ["encoder", "decoder"] {
        if let Some(sub) = config.get(half).filter(|s| s.get("model_type").is_some()) {
            collect(sub, &format!("{prefix}{half}."), rules);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_model_type_decides_and_heads_stay_linear() {
        let gpt2 = Conv1d::of(&json!({"model_type": "gpt2"}));
        assert!(gpt2.is("transformer.h.3.attn.c_attn") && gpt2.is("h.3.mlp.c_proj"));
        assert!(!gpt2.is("lm_head") && !gpt2.is("transformer.wte"));
        let bigcode = Conv1d::of(&json!({"model_type": "gpt_bigcode"}));
        assert!(!bigcode.is("transformer.h.3.attn.c_attn"));
    }

    #[test]
    fn composites_take_the_type_of_their_half() {
        let c = Conv1d::of(
            &json!({"model_type": "encoder-decoder", "encoder": {"model_type": "bert"}, "decoder": {"model_type": "gpt2"}}),
        );
        assert!(c.is("decoder.transformer.h.0.attn.c_attn"));
        assert!(!c.is("encoder.transformer.h.0.attn.c_attn"));
    }
}
