//! What the user asked for: URLs and choices that decide the output's bytes. No endpoint, no secret, no memory size.

mod base_as;
mod base_index;
mod card;
mod check;
mod combine;
mod digests;
mod dora_norm;
mod dtype;
mod expert_order;
mod merge_spec;
mod named;
mod names;
mod option;
mod places;
mod quantised;
mod rounding;
mod size;
mod store_copies;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use base_as::BaseAs;
pub use base_index::BaseIndex;
pub use card::Card;
pub use combine::Combine;
pub use digests::Digests;
pub use dtype::OutputDtype;
pub use expert_order::ExpertOrder;
pub use merge_spec::{DEFAULT_PART_SIZE, LoraSpec, MAX_PARTS, MergeSpec};
pub use option::{Group, Meaning, OPTIONS, SpecOption, Takes};
pub use places::Purpose;
pub use quantised::Quantised;
pub use rounding::Rounding;
pub use size::Size;
pub use store_copies::StoreCopies;
pub use tokenizer::Tokenizer;
