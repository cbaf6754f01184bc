//! What is known while adapters are laid onto the base.

use super::slots::Slots;
use super::token_rows::TokenRows;
use crate::adapter::orientation::Orientation;
use crate::base::conv1d::Conv1d;
use crate::base::modules::ModelClass;
use crate::base::tied::Ties;
use crate::inventory::{Equal, Inventory};
use crate::output::Architecture;
use crate::plan::lineage::Lineage;
use crate::plan::report::Report;
use crate::spec::MergeSpec;
use crate::statistic::Statistic;
use crate::tensor::Dtype;

/// The merge as far as it is laid out.
pub(super) struct Builder<'a> {
    pub(super) spec: &'a MergeSpec,
    pub(super) inventory: &'a Inventory,
    pub(super) conv1d: Conv1d,
    /// What is known of the model's class.
    pub(super) class: ModelClass,
    pub(super) slots: Slots,
    pub(super) ties: Ties,
    pub(super) lineage: Vec<Lineage>,
    pub(super) statistics: Vec<Statistic>,
    pub(super) equals: Vec<Equal>,
    /// The class of the output, where an adapter brings a head that the base lacks.
    pub(super) architecture: Option<Architecture>,
    /// Whether an order of experts that was asked for has been used.
    pub(super) ordered: bool,
    pub(super) token_rows: TokenRows,
    pub(super) main_dtype: Option<Dtype>,
    /// Whether the base is quantised, in whole or in part.
    pub(super) quantised: bool,
    /// Whether it holds codes of which nothing is known.
    pub(super) unknown_codes: bool,
    pub(super) report: Report,
}

/// The adapter that is laid on.
pub(super) struct Laid<'a> {
    pub(super) number: u16,
    pub(super) weight: f64,
    /// How its weights are stored in the base.
    pub(super) orientation: &'a Orientation,
}
