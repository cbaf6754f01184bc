//! Naming tensor and adapters in a failure.

use shardfuse_merge::recipe::{Fuse, Placed};
use shardfuse_merge::{Dtype, DtypeExt, Kind};

use crate::Failure;

/// What a failure of a tensor names.
#[derive(Debug, Clone)]
pub struct Blame {
    tensor: String,
    dtype: Dtype,
    adapters: String,
}

impl Blame {
    /// The tensor, and the adapters whose steps are applied to it.
    pub fn new(placed: &Placed, fuse: &Fuse) -> Self {
        let mut numbers: Vec<u16> =
            fuse.start_adapter.into_iter().chain(fuse.steps.iter().map(|s| s.adapter)).collect();
        numbers.dedup();
        let list: Vec<String> = numbers.iter().map(|n| format!("adapter {}", n + 1)).collect();
        let adapters = if list.is_empty() { String::new() } else { format!(" after {}", list.join(", ")) };
        Blame { tensor: placed.name.clone(), dtype: placed.dtype, adapters }
    }

    /// Puts them before a failure's message.
    pub fn name(&self, failure: Failure) -> Failure {
        failure.at(format_args!("tensor {}{}", self.tensor, self.adapters))
    }

    /// A value that is not finite, or that the output's dtype cannot hold.
    pub fn bad_value(&self, row: u64, col: u64, value: f32) -> Failure {
        let what = if value.is_finite() {
            format!("{value:e} overflows {}", self.dtype.name())
        } else {
            format!("the result is {value}")
        };
        let failure = Failure::permanent(
            Kind::NonFinite,
            format!("tensor {}, row {row}, column {col}{}: {what}", self.tensor, self.adapters),
        );
        if value.is_finite() {
            failure.hint("a wider output dtype holds it: --dtype bf16 or --dtype f32")
        } else {
            failure
        }
    }
}
