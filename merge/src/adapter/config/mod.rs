//! `adapter_config.json`, as PEFT writes it: what all adapters have, and what the adapter's kind makes of the rest.
//!
//! Defaults and meanings follow PEFT 0.21.

use std::sync::Arc;

use serde_json::Value;

pub mod fields;
pub mod modules;
pub mod tokens;

use super::kind::{self, AdapterKind};
use crate::error::Result;
use crate::json;
use fields::{Fields, bad};
use modules::Modules;
use tokens::Tokens;

/// The keys that PEFT 0.3 to 0.21 write for adapters of every kind.
const SHARED: [&str; 16] = [
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "library_name",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "revision",
    "target_modules",
    "task_type",
];

/// A parsed adapter configuration.
#[derive(Debug, Clone)]
pub struct AdapterConfig {
    /// The kind, with its own settings.
    pub kind: Arc<dyn AdapterKind>,
    /// Whether tied embeddings carry the same delta on both sides.
    pub ensure_weight_tying: bool,
    /// What is targeted.
    pub target_modules: Modules,
    /// Modules saved whole.
    pub modules_to_save: Vec<String>,
    /// Token rows.
    pub tokens: Tokens,
    /// The base that the adapter names.
    pub base_model: Option<String>,
    /// The task that the adapter was trained for, as PEFT calls it.
    pub task_type: Option<String>,
    /// What PEFT wrote of the layout of the weights: true if it met transformers' `Conv1D`. Only a hint, see
    /// [`super::orientation`].
    pub fan_in_fan_out: bool,
    /// Keys that this version does not know, in the order of the file.
    pub unknown: Vec<String>,
}

impl AdapterConfig {
    /// Parses and judges a configuration.
    ///
    /// # Errors
    /// `bad_config` for what is no configuration, `unsupported` for a kind or a variant that cannot be merged.
    pub fn parse(json: &[u8]) -> Result<AdapterConfig> {
        let value = json::parse("adapter_config.json", json).map_err(|e| match e.advice() {
            None => e.hint("the file may have been cut off; save the adapter again"),
            Some(_) => e,
        })?;
        let map = value.as_object().ok_or_else(|| bad("adapter_config.json is not a JSON object"))?;
        let fields = Fields(map);
        let row = kind::of(fields)?;
        let known = |key: &&String| !SHARED.contains(&key.as_str()) && !row.keys.contains(&key.as_str());
        Ok(AdapterConfig {
            kind: (row.parse)(fields)?,
            ensure_weight_tying: fields.flag("ensure_weight_tying")?,
            target_modules: fields.modules("target_modules")?,
            modules_to_save: match fields.modules("modules_to_save")? {
                Modules::List(list) => list,
                Modules::None => Vec::new(),
                Modules::Regex(one) => vec![one],
            },
            tokens: (row.tokens)(fields)?,
            base_model: fields.text("base_model_name_or_path")?.filter(|s| !s.is_empty()),
            task_type: fields.text("task_type")?,
            fan_in_fan_out: map.get("fan_in_fan_out") == Some(&Value::Bool(true)),
            unknown: map.keys().filter(known).cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn parse(json: &str) -> Result<AdapterConfig> {
        AdapterConfig::parse(json.as_bytes())
    }

    #[test]
    fn a_number_beyond_the_standard_is_named_and_stands_for_no_text() {
        for (set, says) in [
            (r#""lora_alpha": Infinity"#, "lora_alpha is inf"),
            (r#""r": NaN"#, "r is NaN, expected a whole number above 0"),
            (r#""alpha_pattern": {"q": -Infinity}"#, "alpha_pattern gives -Infinity for q"),
            (r#""target_modules": NaN"#, "target_modules is NaN, expected a name"),
            (r#""base_model_name_or_path": NaN"#, "base_model_name_or_path is NaN, expected a string"),
        ] {
            let error = parse(&format!(r#"{{"peft_type": "LORA", {set}}}"#)).unwrap_err();
            assert!(error.message().starts_with(says), "{error}");
        }
        assert!(parse(r#"{"peft_type": "LORA", "lora_dropout": NaN, "seed": 123456789012345678901234567890}"#).is_ok());
    }

    #[test]
    fn unknown_keys_are_kept_and_listed() {
        assert_eq!(parse(r#"{"peft_type": "LORA", "from_the_future": 1}"#).unwrap().unknown, ["from_the_future"]);
    }

    #[test]
    fn a_key_of_another_kind_is_unknown() {
        for (kind, key) in [("LORA", "token_indices"), ("TRAINABLE_TOKENS", "lora_alpha")] {
            let config = parse(&format!(r#"{{"peft_type": "{kind}", "{key}": null}}"#)).unwrap();
            assert_eq!(config.unknown, [key]);
        }
    }

    #[test]
    fn token_indices_come_as_list_or_by_layer() {
        assert_eq!(
            parse(r#"{"peft_type": "LORA", "trainable_token_indices": [3, 1]}"#).unwrap().tokens,
            Tokens::Input([3, 1].into())
        );
        assert_eq!(
            parse(r#"{"peft_type": "LORA", "trainable_token_indices": {"wte": [5]}}"#).unwrap().tokens,
            Tokens::ByLayer(vec![("wte".into(), [5].into())])
        );
        let twice = parse(r#"{"peft_type": "LORA", "trainable_token_indices": [3, 3]}"#).unwrap_err();
        assert_eq!(twice.kind(), Kind::BadConfig);
    }
}
