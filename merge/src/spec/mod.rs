//! What the user asked for: URLs and choices that decide the output's bytes. No endpoint, no secret, no memory size.

mod check;
mod combine;
mod dora_norm;
mod dtype;
mod merge_spec;
mod named;
mod names;
mod option;
mod places;
mod quantised;
mod size;
#[cfg(test)]
mod tests;
mod tokenizer;

pub use combine::Combine;
pub use dtype::OutputDtype;
pub use merge_spec::{DEFAULT_PART_SIZE, LoraSpec, MAX_PARTS, MergeSpec};
pub use option::{OPTIONS, SpecOption, Takes};
pub use places::Purpose;
pub use quantised::Quantised;
pub use size::Size;
pub use tokenizer::Tokenizer;
