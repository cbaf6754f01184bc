//! GPTQ: integers packed along the inputs, a scale and a zero point for each group.
//!
//! `X.qweight` is I32 [in x bits / 32, out], `X.qzeros` I32 [groups, out x bits / 32], `X.scales` [groups, out] and `X.g_idx` I32 [in].
//! AWQ has the same names and no `g_idx`.

use super::companions::beside;
use crate::base::scheme::claim::{Claim, Layout, Scheme, Tensors};
use crate::tensor::Dtype;

/// The scheme.
#[derive(Debug)]
pub struct Gptq;

impl Scheme for Gptq {
    fn name(&self) -> &'static str {
        "gptq"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".qweight").filter(|_| codes.dtype == Dtype::I32)?;
        let places = beside(at, module, tensors, &[".qzeros", ".scales", ".g_idx"], &[])?;
        let outputs = codes.shape.last().copied()?;
        let inputs = tensors.at(places[3]).elements();
        Some(Claim::new(format!("{module}.weight"), vec![outputs, inputs], places))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        None
    }
}
