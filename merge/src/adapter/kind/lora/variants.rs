//! The variants of LoRA that cannot be merged.

use serde_json::Value;

use crate::adapter::config::fields::{Fields, bad, unsupported};
use crate::error::Result;
use crate::json::{self, show};

/// Refuses the variants of LoRA whose merge is something else than `W + scale * B @ A`.
pub(in crate::adapter::kind) fn refuse(fields: Fields<'_>) -> Result<()> {
    for (key, what) in [
        ("alora_invocation_tokens", "aLoRA acts only after its invocation tokens and has no merged weight"),
        ("use_qalora", "QA-LoRA needs the quantised base that it was trained on"),
        ("arrow_config", "Arrow routes between adapters in the forward pass and has no merged weight"),
        ("layer_replication", "layer_replication changes the number of layers and is not supported"),
        ("kasa_config", "KaSA changes the base weight by its own decomposition and is not supported"),
        ("use_bdlora", "BD-LoRA (block-diagonal factors) is not supported yet"),
    ] {
        if fields.sets(key) {
            return Err(unsupported(format!("adapter_config.json sets {key}: {what}")));
        }
    }
    match fields.get("init_lora_weights") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(value) => match json::text(value) {
            Some(init) => refuse_start(init),
            None => Err(bad(format!("init_lora_weights is {}, expected a boolean or a name", show(value)))),
        },
    }
}

/// Refuses initialisations that subtract something from the base: merging into the raw base would be silently wrong.
fn refuse_start(init: &str) -> Result<()> {
    let lower = init.to_ascii_lowercase();
    match lower.as_str() {
        "gaussian" | "eva" | "orthogonal" | "mica" => Ok(()),
        _ if lower.starts_with("pissa") || ["olora", "corda", "lora_ga", "loftq"].contains(&lower.as_str()) => {
            Err(unsupported(format!(
                "init_lora_weights is {init}: training changed the base, so merging into the raw base is wrong"
            ))
            .hint("convert the adapter with PEFT (save_pretrained with path_initial_model_for_weight_conversion, which needs the adapter as it was saved before training); or name the residual base as --base, and set init_lora_weights to true in adapter_config.json"))
        }
        _ => Err(unsupported(format!("init_lora_weights {init} is not known"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::adapter::config::AdapterConfig;
    use crate::error::{Kind, Result};

    fn parse(json: &str) -> Result<AdapterConfig> {
        AdapterConfig::parse(json.as_bytes())
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
        ] {
            let refused = parse(&format!(r#"{{"peft_type": "LORA", {set}}}"#)).unwrap_err();
            assert_eq!(refused.kind(), Kind::Unsupported, "{set}");
        }
        let unset = r#"{"peft_type": "LORA", "use_qalora": false, "target_parameters": [], "kasa_config": null}"#;
        assert!(parse(unset).is_ok());
    }
}
