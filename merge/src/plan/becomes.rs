//! What becomes of each tensor, as a grid.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Plan;
use super::grid::{Fold, Layers, layers};
use super::report::Report;
use crate::recipe::{Op, Recipe};

/// What becomes of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Becomes {
    /// Its bytes are copied.
    Copied,
    /// Its values stay, in another dtype or out of codes.
    Converted,
    /// One step changes it.
    Changed,
    /// Several steps change it, one after another.
    Several,
    /// An adapter brings it whole.
    Replaced,
    /// It is changed and encoded again.
    Encoded,
    /// Tensors of one cell that differ in this.
    Mixed,
}

impl Becomes {
    /// All of them, in the order in which a legend has them.
    pub const ALL: [Becomes; 7] = [
        Becomes::Copied,
        Becomes::Converted,
        Becomes::Changed,
        Becomes::Several,
        Becomes::Replaced,
        Becomes::Encoded,
        Becomes::Mixed,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Becomes::Copied => "copied",
            Becomes::Converted => "other dtype",
            Becomes::Changed => "changed by one step",
            Becomes::Several => "changed by several steps",
            Becomes::Replaced => "replaced",
            Becomes::Encoded => "changed and encoded again",
            Becomes::Mixed => "differs within the cell",
        }
    }
}

impl Fold for Becomes {
    fn fold(self, other: Becomes) -> Becomes {
        if self == other { self } else { Becomes::Mixed }
    }
}

/// The layer set of a plan.
pub fn grid(plan: &Plan, report: &Report) -> Layers<Becomes> {
    let replaced: BTreeSet<&str> = report.replaced.iter().map(|(name, ..)| name.as_str()).collect();
    let tensors = plan.output.files.iter().flat_map(|file| &file.tensors);
    layers(
        tensors.map(|tensor| (tensor.name.as_str(), becomes(&tensor.recipe, replaced.contains(tensor.name.as_str())))),
    )
}

fn becomes(recipe: &Recipe, replaced: bool) -> Becomes {
    let fuse = match recipe {
        Recipe::Copy(_) if replaced => return Becomes::Replaced,
        Recipe::Copy(_) => return Becomes::Copied,
        Recipe::Requantise(_) => return Becomes::Encoded,
        Recipe::Fuse(fuse) => fuse,
    };
    // Rounding between two adapters changes nothing by itself.
    match (fuse.steps.iter().filter(|step| !matches!(step.op, Op::Round(_))).count(), replaced) {
        (0, true) => Becomes::Replaced,
        (0, false) => Becomes::Converted,
        (1, _) => Becomes::Changed,
        _ => Becomes::Several,
    }
}
