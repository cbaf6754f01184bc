//! The names that transformers gives the modules of a checkpoint.
//!
//! transformers 5 renames the tensors of many checkpoints when it loads them, and an adapter carries the names of modules. The
//! table says how, for each class; `tests/conformance/names_table.py` makes it from transformers itself.

mod rule;
mod table;

pub use rule::Rule;
pub use table::rules;
