//! Any tensor: bytes that may be copied and are never computed with, such as masks, counters and codes.

use super::claim::{Claim, Layout, Scheme, Tensors};

/// The scheme.
#[derive(Debug)]
pub struct Opaque;

impl Scheme for Opaque {
    fn name(&self) -> &'static str {
        "opaque"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let tensor = tensors.at(at);
        Some(Claim::new(tensor.name.clone(), tensor.shape.clone(), vec![at]))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        None
    }
}
