//! Which matrices of a model transformers gives to bitsandbytes. `tests/conformance/linears_table.py` makes the table from
//! transformers itself.
//!
//! transformers replaces modules of the class `nn.Linear` or `Conv1D`, but for the output embedding, tied weights and what it keeps in
//! fp32 [transformers 5.23, `integrations.bitsandbytes.replace_with_bnb_linear`]. Embeddings, tables of positions and some routers are
//! matrices too, so a shape tells nothing.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::by_class::ByClass;

const TABLE: &str = include_str!("table.json");

#[derive(Deserialize)]
struct Table {
    names: Vec<String>,
    #[serde(flatten)]
    classes: ByClass<Numbers>,
}

/// What is known of a class, as numbers of names.
#[derive(Deserialize)]
struct Numbers {
    #[serde(default)]
    linear: Vec<usize>,
    #[serde(default)]
    kept: Vec<usize>,
    #[serde(default)]
    either: Vec<usize>,
}

/// What becomes of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is quantised.
    Linear,
    /// It is not.
    Kept,
    /// The name does not tell.
    Either,
}

/// The matrices of a class.
#[derive(Debug)]
pub struct Linears(BTreeMap<&'static str, Fate>);

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test"))
}

impl Linears {
    /// Those of the class that a configuration names; `None` if the class is not known.
    pub fn of(config: &Value) -> Option<Linears> {
        let numbers = table().classes.of_config(config)?;
        let fates = [(&numbers.linear, Fate::Linear), (&numbers.kept, Fate::Kept), (&numbers.either, Fate::Either)];
        let name = |number: &usize| table().names.get(*number).map(String::as_str);
        let named =
            fates.into_iter().flat_map(|(numbers, fate)| numbers.iter().filter_map(name).map(move |n| (n, fate)));
        Some(Linears(named.collect()))
    }

    /// Whether transformers has a class that a configuration names.
    pub fn has_class(config: &Value) -> bool {
        table().classes.of_config(config).is_some()
    }

    /// What becomes of a parameter, by the name that it has in the model. A checkpoint may lack the first components of a name, or
    /// have more of them. `None` if the class has no such parameter.
    pub fn fate(&self, name: &str) -> Option<Fate> {
        let tail = tail(name);
        if let Some(fate) = self.0.get(tail.as_str()) {
            return Some(*fate);
        }
        let below = |long: &str, short: &str| long.strip_suffix(short).is_some_and(|rest| rest.ends_with('.'));
        let mut fates = self.0.iter().filter(|(own, _)| below(own, &tail) || below(&tail, own)).map(|(_, fate)| *fate);
        let first = fates.next()?;
        Some(if fates.all(|fate| fate == first) { first } else { Fate::Either })
    }
}

/// What follows the last number of a name, unless that is its last component: then the whole name, with `*` for numbers.
fn tail(name: &str) -> String {
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').collect();
    let behind = parts.iter().rposition(is_number).map_or(0, |at| at + 1);
    match parts.len().saturating_sub(behind) {
        0 | 1 => parts.iter().map(|part| if is_number(part) { "*" } else { part }).collect::<Vec<_>>().join("."),
        _ => parts[behind..].join("."),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fate(class: &str, name: &str) -> Option<Fate> {
        Linears::of(&json!({"architectures": [class]})).unwrap().fate(name)
    }

    #[test]
    fn every_number_of_the_table_is_a_name() {
        let table = table();
        assert!(table.classes.classes.len() > 1000);
        for (class, numbers) in table.classes.all() {
            let all = numbers.linear.iter().chain(&numbers.kept).chain(&numbers.either);
            assert!(all.clone().all(|number| *number < table.names.len()) && all.count() > 0, "{class}");
        }
    }

    #[test]
    fn layers_are_told_from_embeddings_and_routers() {
        let llama = |name| fate("LlamaForCausalLM", name);
        assert_eq!(llama("model.layers.31.self_attn.q_proj.weight"), Some(Fate::Linear));
        assert_eq!((llama("model.embed_tokens.weight"), llama("lm_head.weight")), (Some(Fate::Kept), Some(Fate::Kept)));
        assert_eq!(llama("model.layers.0.self_attn.rotary.table"), None);
        assert_eq!(fate("MixtralForCausalLM", "model.layers.0.mlp.gate.weight"), Some(Fate::Kept), "a parameter");
        let t5 = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
        assert_eq!(fate("T5ForConditionalGeneration", t5), Some(Fate::Kept));
        assert_eq!(
            fate("T5ForConditionalGeneration", "decoder.block.0.layer.2.DenseReluDense.wo.weight"),
            Some(Fate::Kept),
            "in fp32"
        );
        assert_eq!(
            fate("FalconForCausalLM", "transformer.h.0.mlp.dense_h_to_4h.weight"),
            Some(Fate::Either),
            "a class of its own"
        );
        assert_eq!(fate("Qwen2VLForConditionalGeneration", "model.visual.merger.mlp.0.weight"), Some(Fate::Linear));
        assert!(Linears::of(&json!({"architectures": ["HouseModel"]})).is_none());
    }

    #[test]
    fn a_checkpoint_may_lack_the_first_components_of_names() {
        assert_eq!(fate("GPT2LMHeadModel", "wpe.weight"), Some(Fate::Kept));
        assert_eq!(fate("GPT2LMHeadModel", "h.3.attn.c_attn.weight"), Some(Fate::Linear));
        assert_eq!(fate("GPT2Model", "transformer.wte.weight"), Some(Fate::Kept));
    }
}
