//! Tensors as they are stored: element types.

mod dtype;

pub use dtype::{Dtype, DtypeExt};
