//! The table of renamings. It is text that the program holds; what a class needs of it is compiled when it is asked for.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use fancy_regex::Regex;
use serde::Deserialize;

use super::holder::Holder;
use super::rule::{Renaming, Rule};
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

/// The rules of the first of these classes that has some, and those for every model.
pub(super) fn rules(classes: &[&str]) -> Vec<Rule> {
    let table = table();
    table.rules.of(classes).iter().chain(&table.legacy).map(rule).collect()
}

/// The stacks of the first of these classes that has some.
pub(super) fn stacks(classes: &[&str]) -> Vec<Stack> {
    table().stacks.of(classes).iter().map(stack).collect()
}

/// The modules with stacked parameters of the first of these classes that has some.
pub(super) fn holders(classes: &[&str]) -> Vec<Holder> {
    table().stacked.of(classes).to_vec()
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
    let parts = written.parts.iter().map(|part| compiled(part)).collect();
    Stack { scope: written.scope.clone(), parts, into: written.into.clone() }
}

fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("checked by a test")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        assert!(parts.all(|part| part.contains("experts")), "the names of experts say so");
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        let renamed = |class: &str, name: &str| {
            rules(&[class]).iter().fold(name.to_owned(), |name, rule| rule.apply(&name).unwrap_or(name))
        };
        let query = "vit.encoder.layer.3.attention.attention.query.weight";
        assert_eq!(renamed("ViTForImageClassification", query), "vit.layers.3.attention.q_proj.weight");
        assert_eq!(renamed("GPTNeoXForCausalLM", "embed_out.weight"), "lm_head.weight");
        assert_eq!(renamed("LlamaForCausalLM", query), query);
        assert_eq!(renamed("BertModel", "encoder.LayerNorm.gamma"), "encoder.LayerNorm.weight");
        assert_eq!(rules(&[]).len(), table().legacy.len());
    }
}
