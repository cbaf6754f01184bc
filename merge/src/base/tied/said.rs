//! Whether a model is tied by what its configuration and its class say.

use serde_json::Value;

use super::table;
use crate::base::linears::Linears;
use crate::base::{classes, levels};

/// The key of config.json.
pub const TIE: &str = "tie_word_embeddings";

/// Whether the model is tied: by its class, where config.json has no say in it, else by config.json, else by the class's or
/// the model type's default; a class of transformers that the table of ties does not have ties nothing. `None` where nothing
/// tells.
pub fn is_tied(config: &Value) -> Option<bool> {
    let class = table::of(config);
    if class.is_some_and(table::ClassTies::always) {
        return Some(true);
    }
    let written = levels::get(config, TIE).and_then(Value::as_bool);
    let by_type = || classes::ties(config.get("model_type").and_then(Value::as_str)?);
    let ties_nothing = || (class.is_none() && Linears::has_class(config)).then_some(false);
    written.or(class.map(|class| class.default)).or_else(by_type).or_else(ties_nothing)
}

/// Whether config.json itself says that nothing is tied, of a class that listens to it.
pub(super) fn is_written_untied(config: &Value) -> bool {
    is_tied(config) == Some(false) && levels::get(config, TIE).and_then(Value::as_bool) == Some(false)
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
        assert_eq!(is_tied(&json!({"architectures": ["ElectraForMaskedLM"]})), Some(true), "the table's default");
        let pocket = json!({"model_type": "pocket_tts", "architectures": ["PocketTTSForConditionalGeneration"]});
        assert_eq!(is_tied(&pocket), Some(false), "a known class without ties");
    }

    #[test]
    fn a_class_that_always_ties_does_not_listen_to_the_config() {
        let said = |class: &str| json!({"architectures": [class], "tie_word_embeddings": false});
        assert_eq!(is_tied(&said("T5ForConditionalGeneration")), Some(true));
        assert_eq!(is_tied(&said("BartForConditionalGeneration")), Some(false));
        assert!(is_written_untied(&said("BartForConditionalGeneration")));
        assert!(!is_written_untied(&json!({"architectures": ["LlamaForCausalLM"]})), "that is its default");
    }
}
