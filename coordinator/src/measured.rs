//! A statistic whose value is there.

use shardfuse_merge::plan::task::StatisticValue;
use shardfuse_merge::statistic::survival::Sums;

/// Where its value lies, and what of it the coordinator judges by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Where the value lies.
    pub value: StatisticValue,
    /// How much of a delta survives, if that is what it says.
    pub survival: Option<Sums>,
}
