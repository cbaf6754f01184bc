//! Heads: the class that a model type has for a task, and the parameters of each class outside its base model.
//! `tests/conformance/heads_table.py` makes the table from transformers itself.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;

use super::by_class::ByClass;

const TABLE: &str = include_str!("table.json");

#[derive(Deserialize)]
struct HeadsTable {
    /// For a task type of PEFT, the class by model type.
    tasks: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(flatten)]
    heads: ByClass<ClassHead>,
}

/// The head of a class.
#[derive(Debug, Deserialize)]
pub struct ClassHead {
    /// Its parameters.
    pub names: Vec<String>,
    /// The parameter whose rows are the labels; `None` if it has none.
    #[serde(default)]
    pub labels: Option<String>,
}

fn table() -> &'static HeadsTable {
    static PARSED: OnceLock<HeadsTable> = OnceLock::new();
    PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test"))
}

/// The class of a model for a task type of PEFT; `None` for a task without a head of its own, or a model type that has none.
pub fn class_for(task: &str, config: &Value) -> Option<&'static str> {
    let model_type = config.get("model_type").and_then(Value::as_str)?;
    table().tasks.get(task)?.get(model_type).map(String::as_str)
}

/// The head of a class; `None` if the class is not known.
pub fn of(class: &str) -> Option<&'static ClassHead> {
    table().heads.of(class)
}

/// The head of the class that a configuration names.
pub fn of_config(config: &Value) -> Option<&'static ClassHead> {
    table().heads.of_config(config)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_head_of_the_table_has_names_and_its_labels_are_one_of_them() {
        let table = table();
        assert!(table.tasks["SEQ_CLS"].len() > 100 && table.heads.classes.len() > 400);
        for (class, head) in table.heads.all() {
            assert!(!head.names.is_empty(), "{class}");
            assert!(head.labels.as_ref().is_none_or(|labels| head.names.contains(labels)), "{class}");
        }
    }

    #[test]
    fn a_task_and_a_model_type_give_the_class_and_its_head() {
        let class = |task: &str, model_type: &str| class_for(task, &json!({"model_type": model_type}));
        assert_eq!(class("SEQ_CLS", "llama"), Some("LlamaForSequenceClassification"));
        assert_eq!(class("TOKEN_CLS", "bert"), Some("BertForTokenClassification"));
        assert_eq!((class("CAUSAL_LM", "llama"), class("SEQ_CLS", "unheard_of")), (None, None));
        assert_eq!(of("LlamaForSequenceClassification").unwrap().names, ["score.weight"]);
        let roberta = of("RobertaForSequenceClassification").unwrap();
        assert_eq!((roberta.names.len(), roberta.labels.as_deref()), (4, Some("classifier.out_proj.weight")));
    }
}
