//! `--expert-order`.

use serde::{Deserialize, Serialize};

use super::MergeSpec;
use super::named::named;
use crate::error::{Error, Kind, Result};

/// How the columns of one `lora_B` for all experts are ordered. Its shape does not tell: it is [rows, rank * experts] either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExpertOrder {
    /// The number of the expert changes fastest: the columns of one rank lie together. PEFT writes it so.
    #[default]
    Fastest,
    /// The number of the expert changes slowest: the columns of one expert lie together.
    Slowest,
}

named!(ExpertOrder { Fastest = "fastest", Slowest = "slowest" });

impl MergeSpec {
    /// The order of the adapter at this place of the spec.
    pub fn expert_order_of(&self, adapter: usize) -> ExpertOrder {
        match self.expert_order.as_slice() {
            [all] => *all,
            each => each.get(adapter).copied().unwrap_or_default(),
        }
    }
}

/// There is one order for all adapters, or one for each.
pub(super) fn check(spec: &MergeSpec) -> Result<()> {
    match spec.expert_order.len() {
        0 | 1 => Ok(()),
        given if given == spec.lora.len() => Ok(()),
        given => Err(Error::new(
            Kind::Usage,
            format!("--expert-order is given {given} times, and there are {} adapters", spec.lora.len()),
        )
        .hint("give it once for all adapters, or once for each in the order of --lora")),
    }
}
