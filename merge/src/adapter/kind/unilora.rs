//! UNILORA: a low-rank delta whose factors are picked from one vector that all modules share (Li et al. 2025, arXiv:2506.00799; PEFT's
//! `UniLoraLayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `unilora_theta_d` | `base_model.unilora_theta_d` | [length] |
//! | `unilora_indices_A`, `unilora_indices_B` | without `.weight` | [r, in], [out, r] integers |
//! | `unilora_scales_A`, `unilora_scales_B` | without `.weight` | the same, one for each |
//!
//! There is no other scale. A file without indices and scales (`save_indices: false`) is refused: PEFT draws them from torch's generator.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::{Module, expect_places, expect_values};
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::made::Gathered;
use crate::recipe::{self, Grid, Made, Operand};

const THETA: &str = "unilora_theta_d";
const INDICES_A: &str = "unilora_indices_A";
const INDICES_B: &str = "unilora_indices_B";
const SCALES_A: &str = "unilora_scales_A";
const SCALES_B: &str = "unilora_scales_B";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "UNILORA",
    name: "Uni-LoRA",
    keys: &[
        "init_theta_d_bound",
        "init_weights",
        "proj_seed",
        "r",
        "runtime_config",
        "save_indices",
        "theta_d_length",
        "unilora_dropout",
    ],
    parts: &[
        Part { name: INDICES_A, marker: INDICES_A, end: End::Any },
        Part { name: INDICES_B, marker: INDICES_B, end: End::Any },
        Part { name: SCALES_A, marker: SCALES_A, end: End::Any },
        Part { name: SCALES_B, marker: SCALES_B, end: End::Any },
    ],
    shared: &[THETA],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(UniLora { r: fields.count("r")?.unwrap_or(4) })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct UniLora {
    r: u64,
}

impl UniLora {
    /// The delta of a module.
    fn delta(&self, module: &Module<'_>) -> Result<Delta> {
        let [a, b, scales_a, scales_b] = module.all_of([INDICES_A, INDICES_B, SCALES_A, SCALES_B])?;
        let Some(theta) = module.shared.get(THETA) else {
            let text = format!("the file holds no {THETA}, from which {} is picked", module.name);
            return Err(Error::new(Kind::MissingTensor, text));
        };
        [a, b].into_iter().try_for_each(expect_places)?;
        [theta, scales_a, scales_b].into_iter().try_for_each(expect_values)?;
        let ([rank, inputs], [outputs, other]) = (&a.shape[..], &b.shape[..]) else {
            let text = format!("{} has shape {:?} and {} {:?}, expected matrices", a.name, a.shape, b.name, b.shape);
            return Err(Error::new(Kind::ShapeMismatch, text));
        };
        if *rank != self.r || *other != self.r {
            let text = format!(
                "{} has the shape {:?} and {} {:?}, adapter_config.json says r = {}",
                a.name, a.shape, b.name, b.shape, self.r
            );
            return Err(Error::new(Kind::RankMismatch, text));
        }
        let made = |places: &Source, scales: &Source, form: fn(Source) -> Operand| {
            let vector = Operand::vector(theta.clone());
            let made = Made::Gathered(Gathered { vector, places: form(places.clone()), scales: form(scales.clone()) });
            made.size().map(|_| made).map_err(|text| Error::new(Kind::ShapeMismatch, text))
        };
        let product = |left, right| recipe::Delta::Grid(Box::new(Grid::product(left, right)));
        let straight = product(made(b, scales_b, Operand::matrix)?, made(a, scales_a, Operand::matrix)?);
        let turned = product(made(a, scales_a, Operand::transposed)?, made(b, scales_b, Operand::transposed)?);
        Ok(Delta::plain(Factors::made_both(straight, turned), [*outputs, *inputs], self.r, 1.0))
    }
}

impl AdapterKind for UniLora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        if modules.is_empty() {
            let text =
                format!("the file holds no {INDICES_A}, the random places that PEFT draws from torch's generator");
            return Err(Error::new(Kind::MissingTensor, text)
                .hint("save the adapter again with save_indices=True, or merge it with PEFT's merge_and_unload"));
        }
        for module in modules {
            effort.check()?;
            out.edits.push(module.edit(Change::delta(self.delta(module)?)));
        }
        Ok(())
    }
}
