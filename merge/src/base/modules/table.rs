//! The table of renamings. It is text that the program holds; what a class needs of it is compiled when it is asked for.

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::holder::Holder;
use super::rule::{Renaming, Rule, compiled};
use super::run::Order;
use super::scope::Scope;
use super::split::Split;
use super::stack::Stack;
use crate::base::by_class::ByClass;

const TABLE: &str = include_str!("table.json");

#[derive(Deserialize)]
struct Table {
    /// Rules for every model, after its own: names of old releases.
    legacy: Vec<WrittenRule>,
    rules: ByClass<Vec<WrittenRule>>,
    stacks: ByClass<Vec<WrittenStack>>,
    splits: ByClass<Vec<WrittenSplit>>,
    stacked: ByClass<Vec<Holder>>,
}

/// A rule as it is written.
#[derive(Deserialize)]
struct WrittenRule {
    #[serde(default)]
    scope: Scope,
    branches: Vec<(String, String)>,
    #[serde(default)]
    guarded: bool,
}

/// A stack as it is written.
#[derive(Deserialize)]
struct WrittenStack {
    #[serde(default)]
    scope: Scope,
    parts: Vec<String>,
    into: Vec<String>,
    /// Whether the tensor of each part holds all experts.
    #[serde(default)]
    across: bool,
}

/// A split as it is written.
#[derive(Deserialize)]
struct WrittenSplit {
    #[serde(default)]
    scope: Scope,
    from: String,
    into: Vec<String>,
    /// Whether the rows of the parts take turns.
    #[serde(default)]
    turns: bool,
    pairs: Option<WrittenPairs>,
    /// In which proportions the parts have the rows; none if all have as many.
    #[serde(default)]
    shares: Vec<WrittenNumber>,
    /// Whether the rows are those of each expert.
    #[serde(default)]
    experts: bool,
    /// Whether each expert has its columns and rows the other way round.
    #[serde(default)]
    transposed: bool,
}

/// Parts whose heads have the rows of their two halves in pairs.
#[derive(Deserialize)]
struct WrittenPairs {
    of: Vec<usize>,
    heads: WrittenNumber,
}

/// A number of the configuration.
#[derive(Deserialize)]
struct WrittenNumber {
    /// Where it is; nothing if it is always the same.
    #[serde(default)]
    path: Vec<String>,
    /// The number where the configuration does not tell.
    default: u64,
}

impl WrittenNumber {
    fn of(&self, config: &Value) -> u64 {
        let told = self.path.iter().try_fold(config, |at, key| at.get(key)).and_then(Value::as_u64);
        told.unwrap_or(self.default)
    }
}

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test"))
}

/// The rules of the class that a configuration names, and those for every model.
pub(super) fn rules(config: &Value) -> Vec<Rule> {
    let table = table();
    table.rules.of_config(config).into_iter().flatten().chain(&table.legacy).map(rule).collect()
}

/// The stacks of the class that a configuration names.
pub(super) fn stacks(config: &Value) -> Vec<Stack> {
    table().stacks.of_config(config).into_iter().flatten().map(stack).collect()
}

/// The splits of the class that a configuration names.
pub(super) fn splits(config: &Value) -> Vec<Split> {
    table().splits.of_config(config).into_iter().flatten().map(|written| split(written, config)).collect()
}

/// The modules with stacked parameters of the class that a configuration names.
pub(super) fn holders(config: &Value) -> Vec<Holder> {
    table().stacked.of_config(config).cloned().unwrap_or_default()
}

fn rule(written: &WrittenRule) -> Rule {
    let branch = |(from, to): &(String, String)| Renaming::new(from, to).expect("checked by a test");
    Rule {
        scope: written.scope.clone(),
        branches: written.branches.iter().map(branch).collect(),
        guarded: written.guarded,
    }
}

fn stack(written: &WrittenStack) -> Stack {
    let parts = written.parts.iter().map(|part| compiled(part).expect("checked by a test")).collect();
    Stack { scope: written.scope.clone(), parts, into: written.into.clone(), across: written.across }
}

fn split(written: &WrittenSplit, config: &Value) -> Split {
    let order = match &written.pairs {
        Some(WrittenPairs { of, heads }) => Order::Pairs { heads: heads.of(config), of: of.clone() },
        None if written.turns => Order::Turns,
        None if !written.shares.is_empty() => {
            Order::Shares(written.shares.iter().map(|share| share.of(config)).collect())
        }
        None => Order::Parts,
    };
    let (scope, from, into) =
        (written.scope.clone(), compiled(&written.from).expect("checked by a test"), written.into.clone());
    Split { scope, from, into, order, experts: written.experts, transposed: written.transposed }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_rule_of_the_table_compiles_and_every_class_has_one() {
        let table = table();
        assert!(table.rules.classes.len() > 100, "{}", table.rules.classes.len());
        for (class, rules) in table.rules.all() {
            assert!(!rules.is_empty(), "{class}");
        }
        let all = table.rules.lists.iter().flatten().chain(&table.legacy);
        assert!(all.clone().all(|rule| !rule.branches.is_empty()));
        let mut parts = table.stacks.lists.iter().flatten().flat_map(|stack| &stack.parts);
        let different: BTreeSet<&str> = all
            .flat_map(|rule| &rule.branches)
            .map(|(from, _)| from)
            .chain(parts.clone())
            .map(String::as_str)
            .collect();
        for from in different {
            assert!(Renaming::new(from, "").is_ok(), "{from}");
        }
        assert!(parts.all(|part| !part.contains(r"(\d+)") || part.contains("experts")), "the names of experts say so");
        for split in table.splits.lists.iter().flatten() {
            assert!(Renaming::new(&split.from, "").is_ok() && !split.into.is_empty(), "{}", split.from);
            assert!(
                split.shares.is_empty() || split.shares.len() == split.into.len() && !split.experts,
                "{}",
                split.from
            );
        }
    }

    #[test]
    fn the_configuration_tells_the_sizes_of_parts() {
        let queries = |text: Value| {
            let config = json!({"architectures": ["Molmo2ForConditionalGeneration"], "text_config": text});
            let splits = splits(&config);
            let fused = "model.language_model.layers.0.self_attn.att_proj.weight";
            splits.iter().find(|split| split.parts(fused).is_some()).unwrap().runs(0, 80).unwrap()[0].count
        };
        assert_eq!(queries(json!({"num_attention_heads": 6, "num_key_value_heads": 2})), 48);
        assert_eq!(queries(json!({"num_attention_heads": 6, "num_key_value_heads": 1})), 60);
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        let renamed = |class: &str, name: &str| {
            rules(&json!({"architectures": [class]}))
                .iter()
                .fold(name.to_owned(), |name, rule| rule.apply(&name).unwrap_or(name))
        };
        let query = "vit.encoder.layer.3.attention.attention.query.weight";
        assert_eq!(renamed("ViTForImageClassification", query), "vit.layers.3.attention.q_proj.weight");
        assert_eq!(renamed("GPTNeoXForCausalLM", "embed_out.weight"), "lm_head.weight");
        assert_eq!(renamed("LlamaForCausalLM", query), query);
        assert_eq!(renamed("BertModel", "encoder.LayerNorm.gamma"), "encoder.LayerNorm.weight");
        assert_eq!(rules(&json!({})).len(), table().legacy.len());
    }
}
