//! Element types, as safetensors names them.

pub use safetensors::Dtype;

use crate::error::{Error, Kind, Result};

/// What shardfuse asks of an element type.
pub trait DtypeExt: Sized {
    /// Bytes an element, or `None` for the sub-byte formats.
    fn bytes(self) -> Option<u64>;
    /// The safetensors name: `BF16`.
    fn name(self) -> String;
    /// Back from the safetensors name.
    fn parse(name: &str) -> Result<Self>;
    /// The name in a model's `config.json` (`bfloat16`), for the dtypes a model can be written in.
    fn config_name(self) -> Option<&'static str>;
    /// Whether it counts towards a checkpoint's main float dtype.
    fn floating(self) -> bool;
}

impl DtypeExt for Dtype {
    fn bytes(self) -> Option<u64> {
        let bits = self.bitsize() as u64;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    fn name(self) -> String {
        self.to_string()
    }

    fn parse(name: &str) -> Result<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned()))
            .map_err(|_| Error::new(Kind::Unsupported, format!("dtype {name} is not known")))
    }

    fn config_name(self) -> Option<&'static str> {
        match self {
            Dtype::F64 => Some("float64"),
            Dtype::F32 => Some("float32"),
            Dtype::F16 => Some("float16"),
            Dtype::BF16 => Some("bfloat16"),
            _ => None,
        }
    }

    fn floating(self) -> bool {
        matches!(self, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }
}
