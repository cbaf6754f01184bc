//! `--dtype`.

use serde::{Deserialize, Serialize};

use super::named::named;
use crate::tensor::Dtype;

/// The output's element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputDtype {
    /// Each tensor keeps the base's.
    #[default]
    Keep,
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
    /// float32.
    F32,
}

named!(OutputDtype {
    Keep = "keep",
    Bf16 = "bf16" or "bfloat16",
    F16 = "f16" or "fp16" "float16" "half",
    F32 = "f32" or "fp32" "float32" "float",
});

impl OutputDtype {
    /// The dtype that the base's main float dtype becomes.
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            OutputDtype::Keep => None,
            OutputDtype::Bf16 => Some(Dtype::BF16),
            OutputDtype::F16 => Some(Dtype::F16),
            OutputDtype::F32 => Some(Dtype::F32),
        }
    }
}
