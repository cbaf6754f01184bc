//! Tensors as they are stored: element types, shapes as matrices, readings of them, and the way to fp32 and back.

mod dtype;
pub mod float;
pub mod number;
mod shape;
mod view;

pub use dtype::{Dtype, DtypeExt};
pub use shape::matrix;
pub use view::{Order, View};
