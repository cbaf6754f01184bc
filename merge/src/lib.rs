//! The pure domain of shardfuse.
//!
//! Everything here is a synchronous function over plain data: formats, matching of adapter keys to base tensors, the
//! plan, and the reference arithmetic. There is no I/O, no clock, no thread and no environment, so the whole of it can
//! be tested by the million and gives the same answer on every machine.

pub mod adapter;
pub mod base;
pub mod bounded;
pub mod checkpoint;
pub mod device_class;
pub mod effort;
pub mod error;

pub mod inventory;
pub mod json;
pub mod limits;
pub mod output;
pub mod plan;
pub mod recipe;
pub mod spec;
pub mod statistic;
pub mod tensor;
pub mod units;

pub use device_class::DeviceClass;
pub use error::{Error, Kind, Result};
pub use tensor::{Dtype, DtypeExt};
