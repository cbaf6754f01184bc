//! AWQ: 4-bit integers packed along the outputs, a scale and a zero point for each group.
//!
//! `X.qweight` is I32 [in, out / 8], `X.qzeros` I32 [groups, out / 8] and `X.scales` [groups, out].

use super::companions::beside;
use crate::base::scheme::claim::{Claim, Layout, Scheme, Tensors};
use crate::tensor::Dtype;

/// The scheme.
#[derive(Debug)]
pub struct Awq;

impl Scheme for Awq {
    fn name(&self) -> &'static str {
        "awq"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".qweight").filter(|_| codes.dtype == Dtype::I32)?;
        let places = beside(at, module, tensors, &[".qzeros", ".scales"], &[])?;
        let inputs = codes.shape.first().copied()?;
        let outputs = tensors.at(places[2]).shape.last().copied()?;
        Some(Claim::new(format!("{module}.weight"), vec![outputs, inputs], places))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        None
    }
}
