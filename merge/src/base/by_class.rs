//! Tables of what is known of each class of transformers, which scripts in `tests/conformance` make.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What is known of each class. Many classes have the same.
#[derive(Debug, Deserialize)]
pub struct ByClass<T> {
    /// The number of what is known, by class.
    pub classes: BTreeMap<String, usize>,
    /// What is known, each once.
    pub lists: Vec<T>,
}

impl<T> ByClass<T> {
    /// What is known of a class.
    pub fn of(&self, class: &str) -> Option<&T> {
        self.lists.get(*self.classes.get(class)?)
    }

    /// What is known of the first class that a configuration names and the table has.
    pub fn of_config(&self, config: &Value) -> Option<&T> {
        let classes = config.get("architectures")?.as_array()?;
        classes.iter().filter_map(Value::as_str).find_map(|class| self.of(class))
    }

    /// Each class with what is known of it.
    #[cfg(test)]
    pub fn all(&self) -> impl Iterator<Item = (&str, &T)> {
        self.classes.iter().map(|(class, number)| (class.as_str(), &self.lists[*number]))
    }
}
