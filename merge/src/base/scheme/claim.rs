//! What a scheme answers.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;

use crate::inventory::Source;

/// A way to store parameters.
pub trait Scheme: Debug + Sync {
    /// The name for people.
    fn name(&self) -> &'static str;

    /// The parameter of which the tensor at this place is the first, if it is one of this scheme.
    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim>;

    /// The bytes that hold rows of the parameter, for each of its tensors, from the tensor's first byte on. `None` if it
    /// holds no values.
    fn rows(&self, tensors: &[Source], rows: Range<u64>) -> Option<Vec<Range<u64>>>;

    /// Turns the bytes of [`Self::rows`] into fp32. False if it holds no values; `out` is as it was then.
    fn decode(&self, tensors: &[Source], bytes: &[&[u8]], out: &mut [f32]) -> bool;

    /// Whether values can be computed with.
    fn has_values(&self) -> bool;
}

/// The stored tensors of a checkpoint, in the order of its files.
#[derive(Debug)]
pub struct Tensors<'a> {
    pub(super) all: Vec<&'a Source>,
    pub(super) by_name: HashMap<&'a str, usize>,
}

impl<'a> Tensors<'a> {
    /// The tensor at a place.
    pub fn at(&self, at: usize) -> &'a Source {
        self.all[at]
    }

    /// The place of a tensor.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// A parameter that a scheme found.
#[derive(Debug)]
pub struct Claim {
    /// The parameter's name.
    pub name: String,
    /// Its shape.
    pub dims: Vec<u64>,
    /// The places of its tensors, in the scheme's order.
    pub tensors: Vec<usize>,
}
