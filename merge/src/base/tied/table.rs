//! The table of ties: the names of each class of transformers that are one parameter. `tests/conformance/ties_table.py`
//! makes it from transformers itself.

use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use crate::base::by_class::ByClass;

const TABLE: &str = include_str!("table.json");

/// The ties of a class.
#[derive(Deserialize)]
pub(super) struct ClassTies {
    /// Whether it ties where config.json says nothing.
    pub(super) default: bool,
    /// The sets of names that are one parameter then.
    pub(super) sets: Vec<NamedSet>,
    /// Those whose names have numbers: parts of the model that are one.
    #[serde(default)]
    pub(super) repeated: Vec<RepeatedSet>,
}

/// Names of modules that are one parameter.
#[derive(Deserialize)]
pub(super) struct NamedSet {
    /// The names, what the others are tied to first.
    pub(super) names: Vec<String>,
    /// Those that are an output embedding.
    #[serde(default)]
    pub(super) outputs: Vec<String>,
    /// Whether they are one parameter whatever config.json says.
    #[serde(default)]
    pub(super) always: bool,
}

/// Names of modules that are one parameter, for many numbers at once.
#[derive(Deserialize)]
pub(super) struct RepeatedSet {
    /// The names, in the order in which the class registers them. `#` stands for a number that is the same in all names of a
    /// set, `*` for one that differs in them.
    pub(super) names: Vec<String>,
    /// The number of the name that the others are tied to.
    #[serde(default)]
    pub(super) source: usize,
    /// A name with `*`: a parameter that the base has for each number that `*` stands for.
    pub(super) beside: Option<String>,
    /// Whether they are one parameter whatever config.json says.
    #[serde(default)]
    pub(super) always: bool,
}

impl ClassTies {
    /// Whether `tie_word_embeddings` of config.json has no say.
    pub(super) fn always(&self) -> bool {
        self.sets.iter().all(|set| set.always) && self.repeated.iter().all(|set| set.always)
    }
}

/// The ties of the class that a configuration names; `None` if the class ties nothing or is not known.
pub(super) fn of(config: &Value) -> Option<&'static ClassTies> {
    static PARSED: OnceLock<ByClass<ClassTies>> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test")).of_config(config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_class_has_sets_of_at_least_two_names() {
        let table: ByClass<ClassTies> = serde_json::from_str(TABLE).unwrap();
        assert!(table.classes.len() > 300, "{}", table.classes.len());
        for (class, ClassTies { sets, repeated, .. }) in table.all() {
            assert!(!sets.is_empty() || !repeated.is_empty(), "{class}");
            for set in repeated {
                let many = set.names.iter().all(|name| name.contains('*'));
                assert!(set.source < set.names.len() && many == set.beside.is_some(), "{class}");
                assert!(many || set.names.len() > 1 && set.names.iter().all(|name| name.contains('#')), "{class}");
            }
            for set in sets {
                assert!(set.names.len() > 1 && set.outputs.iter().all(|name| set.names.contains(name)), "{class}");
            }
        }
    }

    #[test]
    fn a_class_is_found_by_its_name() {
        let of = |class: &str| of(&json!({"architectures": [class]}));
        let t5 = of("T5ForConditionalGeneration").unwrap();
        assert!(t5.always() && t5.sets[0].names.len() == 4 && t5.sets[0].outputs == ["lm_head.weight"]);
        let bert = of("BertForMaskedLM").unwrap();
        assert!(bert.default && !bert.always() && bert.sets.len() == 2, "weights and biases");
        assert!(of("BertModel").is_none());
    }
}
