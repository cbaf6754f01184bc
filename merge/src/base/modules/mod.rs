//! How transformers holds a checkpoint: the names of its modules, and the experts that it stacks.
//!
//! transformers 5 renames the tensors of many checkpoints when it loads them, and an adapter carries the names of modules. Where it
//! also stacks the experts of a layer, an adapter has one pair of factors for all of them. The table says how, for each class;
//! `tests/conformance/names_table.py` makes it from transformers itself.

mod holder;
mod rule;
mod scope;
mod stack;
mod table;

pub use holder::Holder;
pub use rule::Rule;
pub use stack::{Member, Stack};

use serde_json::Value;

/// What is known of the class of a model.
#[derive(Debug, Default)]
pub struct ModelClass {
    /// How stored names become those of modules, in order.
    pub rules: Vec<Rule>,
    /// Experts that are stored one by one.
    pub stacks: Vec<Stack>,
    /// Modules with stacked parameters.
    pub holders: Vec<Holder>,
}

impl ModelClass {
    /// The class that a configuration names. For one that is not known, there are only rules for every model.
    pub fn of(config: &Value) -> ModelClass {
        table::class(config)
    }

    /// What a stored tensor is in a stacked parameter of a module.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.stacks.iter().find_map(|stack| stack.member(name))
    }

    /// In how many parts a checkpoint stores the rows of one expert of a parameter; 1 if nothing is known.
    pub fn parts_of(&self, parameter: &str) -> u64 {
        self.stacks.iter().find_map(|stack| stack.parts_of(parameter)).unwrap_or(1) as u64
    }

    /// The stacked parameters of a module, in the order in which its class registers them; none if nothing is known.
    pub fn parameters_of(&self, path: &str) -> Vec<&str> {
        match self.holder(path) {
            Some(holder) => holder.parameters.iter().map(String::as_str).collect(),
            // Conversions are written in that order.
            None => self.stacks.iter().filter_map(|stack| stack.parameter_of(path)).collect(),
        }
    }

    /// The module of this path, if it holds stacked parameters.
    pub fn holder(&self, path: &str) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.is(path))
    }
}
