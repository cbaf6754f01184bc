//! How transformers holds a checkpoint: the names of its modules, and the tensors that it joins or splits.
//!
//! transformers 5 renames the tensors of many checkpoints when it loads them, and an adapter carries the names of modules. Where it
//! also stacks the experts of a layer, an adapter has one pair of factors for all of them; where it splits a tensor into query, key
//! and value, an adapter has a pair for each. The table says how, for each class;
//! `tests/conformance/names_table.py` makes it from transformers itself.

mod class;
mod holder;
mod rule;
mod run;
mod scope;
mod split;
mod stack;
mod table;

pub use class::ModelClass;
pub use holder::Holder;
pub use rule::Rule;
pub use run::Run;
pub use split::Split;
pub use stack::{Member, Stack};
