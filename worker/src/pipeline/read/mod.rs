//! Reading: pinned ranges of an assignment's inputs, operands in fp32, and what is kept of them for the next part.

mod cache;
mod coalesce;
mod element;
mod inputs;
mod kept;
mod made;
mod memory;
mod operands;
mod reader;
mod scattered;
mod statistics;
mod values;
mod version;

pub use coalesce::{GAP, MOST, coalesce};
pub use inputs::Inputs;
pub use kept::{Derived, Factors, MadeMatrices, MadeValues, RightFactor, StoredTensors};
pub use made::kept;
pub use memory::{held, range_width};
pub use reader::Reader;
pub use values::Statistics;
