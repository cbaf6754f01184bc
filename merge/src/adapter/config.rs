//! `adapter_config.json`, as PEFT writes it: what is understood, what is refused by name, and the defaults.
//!
//! Defaults and meanings follow PEFT 0.21 (`LoraConfig`, `TrainableTokensConfig`).

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};
use crate::json::{self, number as as_number, show};

/// The adapter kinds that can be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeftType {
    /// LoRA and its variants.
    Lora,
    /// Whole rows of an embedding.
    TrainableTokens,
}

/// A module selection: PEFT matches a string as a regular expression and a list by suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Modules {
    /// Nothing was said.
    None,
    /// A regular expression over the whole module path.
    Regex(String),
    /// Names that equal the module path or end it after a dot.
    List(Vec<String>),
}

/// Which token rows an adapter carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// None.
    None,
    /// Rows of the input embedding.
    Input(Arc<[u64]>),
    /// Rows of named layers.
    ByLayer(Vec<(String, Arc<[u64]>)>),
}

/// A parsed adapter configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// The kind.
    pub peft_type: PeftType,
    /// The default rank.
    pub r: u64,
    /// The default alpha.
    pub lora_alpha: f64,
    /// Scale by `alpha / sqrt(r)` instead of `alpha / r`.
    pub use_rslora: bool,
    /// Whether every target carries a DoRA magnitude.
    pub use_dora: bool,
    /// Whether tied embeddings carry the same delta on both sides.
    pub ensure_weight_tying: bool,
    /// What is targeted.
    pub target_modules: Modules,
    /// Modules saved whole.
    pub modules_to_save: Vec<String>,
    /// Ranks by module, in the order of the file.
    pub rank_pattern: Vec<(String, f64)>,
    /// Alphas by module, in the order of the file.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Token rows.
    pub tokens: Tokens,
    /// The base that the adapter names.
    pub base_model: Option<String>,
    /// What PEFT wrote of the layout of the weights: true if it met transformers' `Conv1D`. Only a hint, see
    /// [`super::orientation`].
    pub fan_in_fan_out: bool,
    /// Keys that this version does not know, in the order of the file.
    pub unknown: Vec<String>,
}

impl AdapterConfig {
    /// Parses and judges a configuration.
    pub fn parse(json: &[u8]) -> Result<AdapterConfig> {
        let value = json::parse("adapter_config.json", json).map_err(|e| match e.advice() {
            None => e.hint("the file may have been cut off; save the adapter again"),
            Some(_) => e,
        })?;
        let map = value.as_object().ok_or_else(|| bad("adapter_config.json is not a JSON object"))?;
        let peft_type = peft_type(map)?;
        refuse_variants(map)?;
        let config = AdapterConfig {
            peft_type,
            r: rank(map, peft_type)?,
            lora_alpha: number(map, "lora_alpha")?.unwrap_or(8.0),
            use_rslora: flag(map, "use_rslora")?,
            use_dora: flag(map, "use_dora")?,
            ensure_weight_tying: flag(map, "ensure_weight_tying")?,
            target_modules: modules(map, "target_modules")?,
            modules_to_save: match modules(map, "modules_to_save")? {
                Modules::List(list) => list,
                Modules::None => Vec::new(),
                Modules::Regex(one) => vec![one],
            },
            rank_pattern: pattern(map, "rank_pattern")?,
            alpha_pattern: pattern(map, "alpha_pattern")?,
            tokens: tokens(map, peft_type)?,
            base_model: text(map, "base_model_name_or_path")?.filter(|s| !s.is_empty()),
            fan_in_fan_out: map.get("fan_in_fan_out") == Some(&Value::Bool(true)),
            unknown: map.keys().filter(|k| !KNOWN.contains(&k.as_str())).cloned().collect(),
        };
        if !config.lora_alpha.is_finite() {
            return Err(bad(format!("lora_alpha is {}", config.lora_alpha)));
        }
        Ok(config)
    }
}

/// Adapter kinds that have a merged weight and are not merged yet.
const LATER: [&str; 14] = [
    "LOHA",
    "LOKR",
    "IA3",
    "VERA",
    "ADALORA",
    "OFT",
    "BOFT",
    "HRA",
    "FOURIERFT",
    "VBLORA",
    "RANDLORA",
    "BONE",
    "MISS",
    "LN_TUNING",
];
/// Adapter kinds that live in the prompt or in the forward pass: there is nothing to merge.
const NEVER: [&str; 8] = [
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
    "XLORA",
    "POLY",
];

fn peft_type(map: &Map<String, Value>) -> Result<PeftType> {
    let name = match map.get("peft_type") {
        Some(value) => {
            json::text(value).ok_or_else(|| bad(format!("peft_type is {}, expected a string", show(value))))?
        }
        None => return Err(bad("adapter_config.json has no peft_type").hint("is this folder a PEFT adapter?")),
    };
    match name {
        "LORA" => Ok(PeftType::Lora),
        "TRAINABLE_TOKENS" => Ok(PeftType::TrainableTokens),
        _ if LATER.contains(&name) => Err(unsupported(format!("peft_type {name} is not supported yet"))
            .hint("merge this adapter with PEFT's merge_and_unload")),
        _ if NEVER.contains(&name) => Err(unsupported(format!(
            "peft_type {name} has no merged weight: it works in the forward pass, so there is nothing to merge"
        ))),
        _ => Err(unsupported(format!("peft_type {name} is not known"))),
    }
}

/// Refuses the variants of LoRA whose merge is something else than `W + scale * B @ A`.
fn refuse_variants(map: &Map<String, Value>) -> Result<()> {
    let set = |key: &str| map.get(key).is_some_and(|v| !matches!(v, Value::Null | Value::Bool(false)) && !empty(v));
    for (key, what) in [
        ("alora_invocation_tokens", "aLoRA acts only after its invocation tokens and has no merged weight"),
        ("use_qalora", "QA-LoRA needs the quantised base that it was trained on"),
        ("arrow_config", "Arrow routes between adapters in the forward pass and has no merged weight"),
        ("layer_replication", "layer_replication changes the number of layers and is not supported"),
        ("kasa_config", "KaSA changes the base weight by its own decomposition and is not supported"),
        ("use_bdlora", "BD-LoRA (block-diagonal factors) is not supported yet"),
        ("target_parameters", "target_parameters (LoRA on stacked experts) is not supported yet"),
    ] {
        if set(key) {
            return Err(unsupported(format!("adapter_config.json sets {key}: {what}")));
        }
    }
    match map.get("init_lora_weights") {
        None | Some(Value::Null | Value::Bool(_)) => Ok(()),
        Some(value) => match json::text(value) {
            Some(init) => init_refusal(init),
            None => Err(bad(format!("init_lora_weights is {}, expected a boolean or a name", show(value)))),
        },
    }
}

/// Initialisations that subtract something from the base: merging into the raw base would be silently wrong.
fn init_refusal(init: &str) -> Result<()> {
    let lower = init.to_ascii_lowercase();
    match lower.as_str() {
        "gaussian" | "eva" | "orthogonal" | "mica" => Ok(()),
        _ if lower.starts_with("pissa") || ["olora", "corda", "lora_ga", "loftq"].contains(&lower.as_str()) => {
            Err(unsupported(format!(
                "init_lora_weights is {init}: training changed the base, so merging into the raw base is wrong"
            ))
            .hint("convert the adapter with PEFT (save_pretrained with path_initial_model_for_weight_conversion), or merge into the residual base with init_lora_weights true"))
        }
        _ => Err(unsupported(format!("init_lora_weights {init} is not known"))),
    }
}

fn rank(map: &Map<String, Value>, peft_type: PeftType) -> Result<u64> {
    match map.get("r") {
        None | Some(Value::Null) => Ok(8),
        Some(_) if peft_type == PeftType::TrainableTokens => Ok(8),
        Some(v) => v
            .as_u64()
            .filter(|r| *r > 0)
            .ok_or_else(|| bad(format!("r is {}, expected a whole number above 0", show(v)))),
    }
}

fn tokens(map: &Map<String, Value>, peft_type: PeftType) -> Result<Tokens> {
    let key = if peft_type == PeftType::TrainableTokens { "token_indices" } else { "trainable_token_indices" };
    let list = |v: &Value, of: &str| -> Result<Arc<[u64]>> {
        let items = v.as_array().ok_or_else(|| bad(format!("{of} is not a list of token ids")))?;
        let ids: Vec<u64> = items
            .iter()
            .map(|i| {
                i.as_u64().ok_or_else(|| bad(format!("{of} holds {}, expected token ids of 0 and above", show(i))))
            })
            .collect::<Result<_>>()?;
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        match sorted.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(bad(format!("{of} names token {} twice", twice[0]))),
            None => Ok(ids.into()),
        }
    };
    match map.get(key) {
        None | Some(Value::Null) => Ok(Tokens::None),
        Some(v @ Value::Array(items)) if !items.is_empty() => {
            let ids = list(v, key)?;
            match (peft_type, modules(map, "target_modules")?) {
                (PeftType::TrainableTokens, Modules::List(layers)) => {
                    Ok(Tokens::ByLayer(layers.into_iter().map(|l| (l, ids.clone())).collect()))
                }
                (PeftType::TrainableTokens, Modules::Regex(layer)) => Ok(Tokens::ByLayer(vec![(layer, ids)])),
                _ => Ok(Tokens::Input(ids)),
            }
        }
        Some(Value::Array(_)) => Ok(Tokens::None),
        Some(Value::Object(layers)) => layers
            .iter()
            .map(|(layer, v)| Ok((layer.clone(), list(v, &format!("{key}.{layer}"))?)))
            .collect::<Result<_>>()
            .map(Tokens::ByLayer),
        Some(other) => Err(bad(format!("{key} is {}, expected a list or an object of lists", show(other)))),
    }
}

fn modules(map: &Map<String, Value>, key: &str) -> Result<Modules> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(Modules::None),
        Some(Value::Array(items)) => items
            .iter()
            .map(|i| {
                let name = json::text(i).map(str::to_owned);
                name.ok_or_else(|| bad(format!("{key} holds {}, expected names", show(i))))
            })
            .collect::<Result<_>>()
            .map(Modules::List),
        Some(other) => match json::text(other) {
            Some(name) => Ok(Modules::Regex(name.to_owned())),
            None => Err(bad(format!("{key} is {}, expected a name or a list of names", show(other)))),
        },
    }
}

fn pattern(map: &Map<String, Value>, key: &str) -> Result<Vec<(String, f64)>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(entries)) => entries
            .iter()
            .map(|(k, v)| match as_number(v).filter(|n| n.is_finite() && *n > 0.0) {
                Some(n) => Ok((k.clone(), n)),
                None => Err(bad(format!("{key} gives {} for {k}, expected a number above 0", show(v)))),
            })
            .collect(),
        Some(other) => Err(bad(format!("{key} is {}, expected an object", show(other)))),
    }
}

fn number(map: &Map<String, Value>, key: &str) -> Result<Option<f64>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => as_number(v).map(Some).ok_or_else(|| bad(format!("{key} is {}, expected a number", show(v)))),
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> Result<bool> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(v) => v.as_bool().ok_or_else(|| bad(format!("{key} is {}, expected true or false", show(v)))),
    }
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(v) => {
            let text = json::text(v).map(|s| Some(s.to_owned()));
            text.ok_or_else(|| bad(format!("{key} is {}, expected a string", show(v))))
        }
    }
}

fn empty(v: &Value) -> bool {
    v.as_array().is_some_and(Vec::is_empty)
        || v.as_object().is_some_and(Map::is_empty)
        || v.as_str().is_some_and(str::is_empty)
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::BadConfig, message)
}

fn unsupported(message: impl Into<String>) -> Error {
    Error::new(Kind::Unsupported, message)
}

/// The keys that PEFT 0.3 to 0.21 write for these kinds.
const KNOWN: [&str; 51] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "enable_lora",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "fan_in_fan_out",
    "inference_mode",
    "init_lora_weights",
    "init_weights",
    "kasa_config",
    "layer_replication",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "merge_weights",
    "modules_to_save",
    "monteclora_config",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "target_parameters",
    "task_type",
    "token_indices",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
    "velora_config",
    "tinylora_config",
    "num_virtual_tokens",
    "token_dim",
    "num_layers",
    "library_name",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<AdapterConfig> {
        AdapterConfig::parse(json.as_bytes())
    }

    #[test]
    fn a_minimal_old_config_takes_pefts_defaults() {
        let c = parse(r#"{"peft_type": "LORA"}"#).unwrap();
        assert_eq!((c.r, c.lora_alpha, c.use_rslora, c.use_dora), (8, 8.0, false, false));
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
    fn kinds_without_a_merge_are_refused_by_name() {
        for kind in ["LOHA", "IA3", "PROMPT_TUNING", "SOMETHING_NEW"] {
            let e = parse(&format!(r#"{{"peft_type": "{kind}"}}"#)).unwrap_err();
            assert_eq!(e.kind(), Kind::Unsupported);
            assert!(e.message().contains(kind));
        }
    }

    #[test]
    fn starts_that_change_the_base_are_refused_and_eva_is_not() {
        for init in ["pissa", "pissa_niter_16", "olora", "corda", "lora_ga", "loftq"] {
            let e = parse(&format!(r#"{{"peft_type": "LORA", "init_lora_weights": "{init}"}}"#)).unwrap_err();
            assert_eq!(e.kind(), Kind::Unsupported, "{init}");
            assert!(e.advice().is_some());
        }
        for init in ["eva", "gaussian", "orthogonal"] {
            assert!(parse(&format!(r#"{{"peft_type": "LORA", "init_lora_weights": "{init}"}}"#)).is_ok());
        }
    }

    #[test]
    fn variants_that_are_not_a_plain_merge_are_refused() {
        for set in [
            r#""use_qalora": true"#,
            r#""alora_invocation_tokens": [1]"#,
            r#""layer_replication": [[0, 2]]"#,
            r#""kasa_config": {"a": 1}"#,
            r#""target_parameters": ["x"]"#,
        ] {
            assert_eq!(
                parse(&format!(r#"{{"peft_type": "LORA", {set}}}"#)).unwrap_err().kind(),
                Kind::Unsupported,
                "{set}"
            );
        }
        assert!(
            parse(r#"{"peft_type": "LORA", "use_qalora": false, "target_parameters": [], "kasa_config": null}"#)
                .is_ok()
        );
    }

    #[test]
    fn a_rank_of_zero_is_a_bad_config() {
        assert_eq!(parse(r#"{"peft_type": "LORA", "r": 0}"#).unwrap_err().kind(), Kind::BadConfig);
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
        assert!(parse(r#"{"peft_type": "LORA", "trainable_token_indices": [3, 3]}"#).is_err());
    }

    #[test]
    fn trainable_tokens_are_a_kind_with_rows_by_layer() {
        let config =
            parse(r#"{"peft_type": "TRAINABLE_TOKENS", "target_modules": ["a", "b"], "token_indices": [7]}"#).unwrap();
        assert_eq!(config.peft_type, PeftType::TrainableTokens);
        assert_eq!(config.tokens, Tokens::ByLayer(vec![("a".into(), [7].into()), ("b".into(), [7].into())]));
    }
}
