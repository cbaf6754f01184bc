//! bitsandbytes: NF4 and FP4 in blocks, and LLM.int8 with a scale for each row.
//!
//! Four bits: `X.weight` is U8 [n / 2, 1] with `X.weight.absmax`, `X.weight.quant_map` and `X.weight.quant_state.bitsandbytes__nf4`, whose JSON
//! has the shape; nested scales have `nested_absmax` and `nested_quant_map`. Eight bits: `X.weight` is I8 [out, in] with `X.SCB` [out].

use super::companions::beside;
use crate::base::scheme::claim::{Claim, Layout, Scheme, Tensors};
use crate::tensor::Dtype;

/// The scheme.
#[derive(Debug)]
pub struct BitsAndBytes;

impl Scheme for BitsAndBytes {
    fn name(&self) -> &'static str {
        "bitsandbytes"
    }

    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim> {
        let codes = tensors.at(at);
        let module = codes.name.strip_suffix(".weight")?;
        let places = match codes.dtype {
            Dtype::U8 => {
                let also = [
                    ".nested_absmax",
                    ".nested_quant_map",
                    ".quant_state.bitsandbytes__nf4",
                    ".quant_state.bitsandbytes__fp4",
                ];
                beside(at, &codes.name, tensors, &[".absmax", ".quant_map"], &also)?
            }
            Dtype::I8 => beside(at, module, tensors, &[".SCB"], &[".weight_format"])?,
            _ => return None,
        };
        Some(Claim::new(codes.name.clone(), codes.shape.clone(), places))
    }

    fn layout(&self) -> Option<&'static dyn Layout> {
        None
    }
}
