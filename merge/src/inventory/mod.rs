//! What was read before planning: headers, configurations, sizes and pins. Of tensor data, only the small tensors that carry
//! layout.

mod adapter;
mod base;
mod comparison;
mod equal;
mod grain;
mod inputs;
mod source;

pub use adapter::{AdapterInventory, ExtraFile};
pub use base::{BaseInventory, Shard, Sidecar, SmallTensors};
pub use comparison::Comparison;
pub use equal::Equal;
pub use grain::Grain;
pub use inputs::{Inventory, TokenizerInventory};
pub use source::{Object, ObjectId, Source};
