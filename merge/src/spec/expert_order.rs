//! `--expert-order`.

use serde::{Deserialize, Serialize};

use super::named::named;

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
