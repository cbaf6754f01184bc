//! NVFP4: groups of 16 values with an FP8 scale, and one scale for the tensor.
//!
//! ModelOpt writes `X.weight` U8 [out, in / 2], `X.weight_scale` F8_E4M3 [out, in / 16] and `X.weight_scale_2` F32; compressed-tensors
//! writes `X.weight_packed`, `X.weight_scale` and `X.weight_global_scale`.

use super::companions::{beside, widened};
use crate::base::scheme::claim::{Claim, Layout, Scheme, Tensors};
use crate::tensor::Dtype;

/// The scheme.
#[derive(Debug)]
pub struct Nvfp4;

impl Scheme for Nvfp4 {
    fn name(&self) -> &'static str {
        "nvfp4"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let form = FORMS.iter().find(|form| codes.name.ends_with(form.0) && codes.dtype == Dtype::U8)?;
        let module = codes.name.strip_suffix(form.0)?;
        let also = [".input_scale", ".input_global_scale", ".pre_quant_scale"];
        let places = beside(at, module, tensors, &[".weight_scale", form.1], &also)?;
        let scaled = tensors.at(places[1]).dtype == Dtype::F8_E4M3;
        let (name, dims) = (format!("{module}.weight"), widened(&codes.shape, 2));
        scaled.then_some(Claim::new(name, dims, places))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        None
    }
}

/// The codes, and the scale of the tensor.
const FORMS: [(&str, &str); 2] = [(".weight", ".weight_scale_2"), (".weight_packed", ".weight_global_scale")];
