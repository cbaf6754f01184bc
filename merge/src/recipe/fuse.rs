//! A parameter that is computed: a start and steps.

use serde::{Deserialize, Serialize};

use super::step::Step;
use crate::base::scheme::stored::Start;

/// A parameter that is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fuse {
    /// The weight that the steps start from.
    pub start: Start,
    /// The adapter that brought the start, where it is a replacement.
    pub start_adapter: Option<u16>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// A copied tensor that only changes its dtype keeps its infinities (masks hold them).
    pub keep_non_finite: bool,
}
