//! The table of renamings. It is text that the program holds; what a class needs of it is compiled when it is asked for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use fancy_regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::rule::Rule;

const TABLE: &str = include_str!("table.json");

#[derive(Deserialize)]
struct Table {
    /// Rules for every model, after its own: names of old releases.
    legacy: Vec<Written>,
    /// The number of its list of rules, by class.
    classes: BTreeMap<String, usize>,
    /// Lists of rules, in the order in which they are applied.
    rules: Vec<Vec<Written>>,
}

/// A rule as it is written.
#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    scope: Vec<String>,
    branches: Vec<(String, String)>,
    #[serde(default)]
    guarded: bool,
}

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test"))
}

/// The rules for a model, by the class that its configuration names.
pub fn rules(config: &Value) -> Vec<Rule> {
    let table = table();
    let classes = config.get("architectures").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let number = classes.iter().filter_map(Value::as_str).find_map(|class| table.classes.get(class));
    let own = number.map_or(&[][..], |number| &table.rules[*number]);
    own.iter().chain(&table.legacy).map(compiled).collect()
}

fn compiled(rule: &Written) -> Rule {
    let branch = |(from, to): &(String, String)| (Regex::new(from).expect("checked by a test"), to.clone());
    Rule { scope: rule.scope.clone(), branches: rule.branches.iter().map(branch).collect(), guarded: rule.guarded }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_rule_of_the_table_compiles_and_every_class_has_one() {
        let table = table();
        assert!(table.classes.len() > 100, "{}", table.classes.len());
        for (class, number) in &table.classes {
            assert!(!table.rules[*number].is_empty(), "{class}");
        }
        let all = table.rules.iter().flatten().chain(&table.legacy);
        assert!(all.clone().all(|rule| !rule.branches.is_empty()));
        let different: BTreeSet<&str> = all.flat_map(|rule| &rule.branches).map(|(from, _)| from.as_str()).collect();
        for from in different {
            assert!(Regex::new(from).is_ok(), "{from}");
        }
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        let renamed = |class: &str, name: &str| {
            let rules = rules(&json!({"architectures": [class]}));
            rules.iter().fold(name.to_owned(), |name, rule| rule.apply(&name).unwrap_or(name))
        };
        let query = "vit.encoder.layer.3.attention.attention.query.weight";
        assert_eq!(renamed("ViTForImageClassification", query), "vit.layers.3.attention.q_proj.weight");
        assert_eq!(renamed("GPTNeoXForCausalLM", "embed_out.weight"), "lm_head.weight");
        assert_eq!(renamed("LlamaForCausalLM", query), query);
        assert_eq!(renamed("BertModel", "encoder.LayerNorm.gamma"), "encoder.LayerNorm.weight");
        assert_eq!(rules(&json!({})).len(), table().legacy.len());
    }
}
