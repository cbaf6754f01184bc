//! Statistics by number.

use serde::{Deserialize, Serialize};

/// A statistic by its number in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatisticId(pub u32);
