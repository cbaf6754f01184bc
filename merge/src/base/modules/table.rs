//! The table of renamings. It is text that the program holds; what a class needs of it is compiled when it is asked for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::ModelClass;
use super::holder::Holder;
use super::rule::Rule;
use super::scope::Scope;
use super::stack::Stack;

const TABLE: &str = include_str!("table.json");

#[derive(Deserialize)]
struct Table {
    /// Rules for every model, after its own: names of old releases.
    legacy: Vec<WrittenRule>,
    rules: Lists<WrittenRule>,
    stacks: Lists<WrittenStack>,
    stacked: Lists<Holder>,
}

/// Lists by class. Many classes have the same one.
#[derive(Deserialize)]
struct Lists<T> {
    /// The number of its list, by class.
    classes: BTreeMap<String, usize>,
    lists: Vec<Vec<T>>,
}

impl<T> Lists<T> {
    /// The list of the first of these classes that has one.
    fn of(&self, classes: &[&str]) -> &[T] {
        classes.iter().find_map(|class| self.classes.get(*class)).map_or(&[], |number| &self.lists[*number])
    }
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
    into: String,
}

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test"))
}

/// What is known of the first class that a configuration names.
pub(super) fn class(config: &Value) -> ModelClass {
    let table = table();
    let classes = config.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let classes: Vec<&str> = classes.iter().filter_map(Value::as_str).collect();
    ModelClass {
        rules: table.rules.of(&classes).iter().chain(&table.legacy).map(rule).collect(),
        stacks: table.stacks.of(&classes).iter().map(stack).collect(),
        holders: table.stacked.of(&classes).to_vec(),
    }
}

fn rule(written: &WrittenRule) -> Rule {
    let branch = |(from, to): &(String, String)| (compiled(from), to.clone());
    Rule {
        scope: written.scope.clone(),
        branches: written.branches.iter().map(branch).collect(),
        guarded: written.guarded,
    }
}

fn stack(written: &WrittenStack) -> Stack {
    let parts = written.parts.iter().map(|part| compiled(part)).collect();
    Stack { scope: written.scope.clone(), parts, into: written.into.clone() }
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("checked by a test")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::super::Member;
    use super::*;

    #[test]
    fn every_rule_of_the_table_compiles_and_every_class_has_one() {
        let table = table();
        assert!(table.rules.classes.len() > 100, "{}", table.rules.classes.len());
        for (class, number) in &table.rules.classes {
            assert!(!table.rules.lists[*number].is_empty(), "{class}");
        }
        let all = table.rules.lists.iter().flatten().chain(&table.legacy);
        assert!(all.clone().all(|rule| !rule.branches.is_empty()));
        let parts = table.stacks.lists.iter().flatten().flat_map(|stack| &stack.parts);
        let different: BTreeSet<&str> =
            all.flat_map(|rule| &rule.branches).map(|(from, _)| from).chain(parts).map(String::as_str).collect();
        for from in different {
            assert!(Regex::new(from).is_ok(), "{from}");
        }
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        let renamed = |class: &str, name: &str| {
            let class = class_of(class);
            class.rules.iter().fold(name.to_owned(), |name, rule| rule.apply(&name).unwrap_or(name))
        };
        let query = "vit.encoder.layer.3.attention.attention.query.weight";
        assert_eq!(renamed("ViTForImageClassification", query), "vit.layers.3.attention.q_proj.weight");
        assert_eq!(renamed("GPTNeoXForCausalLM", "embed_out.weight"), "lm_head.weight");
        assert_eq!(renamed("LlamaForCausalLM", query), query);
        assert_eq!(renamed("BertModel", "encoder.LayerNorm.gamma"), "encoder.LayerNorm.weight");
        assert_eq!(class(&json!({})).rules.len(), table().legacy.len());
    }

    fn class_of(name: &str) -> ModelClass {
        class(&json!({"architectures": [name]}))
    }

    #[test]
    fn the_experts_of_a_class_are_known() {
        for (class, gate, into) in [
            ("Qwen3MoeForCausalLM", "mlp.experts.5.gate_proj.weight", "mlp.experts.gate_up_proj"),
            ("MixtralForCausalLM", "mlp.experts.5.w1.weight", "mlp.experts.gate_up_proj"),
            ("DeepseekV3ForCausalLM", "mlp.experts.5.gate_proj.weight", "mlp.experts.gate_up_proj"),
        ] {
            let member = class_of(class).member(&format!("model.layers.1.{gate}")).unwrap();
            let parameter = format!("model.layers.1.{into}");
            assert_eq!(member, Member { parameter, part: 0, parts: 2, expert: 5 }, "{class}");
        }
        let gpt_oss = class_of("GptOssForCausalLM");
        let experts = gpt_oss.holder("model.layers.0.mlp.experts").unwrap();
        assert!(experts.transposed);
        assert_eq!(experts.parameters, ["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"]);
        assert!(gpt_oss.holder("model.layers.0.mlp").is_none());
        assert!(class_of("LlamaForCausalLM").holders.is_empty());
    }
}
