//! What was read before planning: headers, configurations, sizes and pins. No tensor data.

mod adapter;
mod base;
mod comparison;
mod equal;
mod inputs;
mod source;

pub use adapter::{AdapterInventory, ExtraFile};
pub use base::{BaseInventory, Shard, Sidecar};
pub use comparison::Comparison;
pub use equal::Equal;
pub use inputs::{Inventory, TokenizerInventory};
pub use source::{Object, ObjectId, Source};
