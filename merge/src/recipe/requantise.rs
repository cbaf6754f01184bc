//! A tensor of a parameter that is stored quantised, made anew from computed values.
//!
//! The recipe computes the parameter, as any other; its codes, or its scales, are what the parameter's scheme makes of the values
//! ([`crate::base::scheme::recode`]). Codes and scales are two output tensors with the same recipe. Each computes the blocks that it
//! needs by itself, so parts do not depend on each other.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::fuse::Fuse;
use crate::base::scheme::claim::Rule;
use crate::base::scheme::recode::Recoder;
use crate::inventory::Source;
use crate::statistic::id::StatisticId;

/// Codes or scales of a computed parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Requantise {
    /// How the values come about.
    pub fuse: Fuse,
    /// Which of the tensors that store the parameter is made: 0 for codes, 1 for scales.
    pub tensor: u8,
    /// The formula of the scheme.
    pub rule: Rule,
    /// The statistic of the largest value, where one scale serves all values.
    pub range: Option<StatisticId>,
}

impl Requantise {
    /// What encodes the values.
    ///
    /// # Errors
    /// If nothing does: the recipe was not checked.
    pub fn recoder(&self) -> Result<Recoder<'_>, String> {
        Recoder::of(&self.fuse.start, self.rule)
    }

    /// The place of the tensor among those that store the parameter.
    pub fn place(&self) -> usize {
        usize::from(self.tensor)
    }

    /// The stored tensor whose place it takes; `None` in a recipe that was not checked.
    pub fn source(&self) -> Option<&Source> {
        self.fuse.start.tensors().get(self.place())
    }

    /// The rows of which some bytes of the tensor are made, and how many bytes they make before those.
    ///
    /// # Errors
    /// As [`Self::recoder`].
    pub fn rows_for(&self, bytes: &Range<u64>) -> Result<(Range<u64>, u64), String> {
        let recoder = self.recoder()?;
        let rows = recoder.rows_for(self.place(), bytes);
        let skip = bytes.start.saturating_sub(recoder.bytes_of(self.place(), &rows).start);
        Ok((rows, skip))
    }
}
