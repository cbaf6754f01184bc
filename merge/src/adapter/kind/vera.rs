//! VERA: a low-rank delta of two random matrices that all modules share, `diag(b) @ B @ diag(d) @ A` (Kopiczko et al. 2023,
//! arXiv:2310.11454; PEFT's `VeraLayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `vera_A`, `vera_B` | `base_model.vera_A`, `base_model.vera_B` | [r, widest in], [widest out, r]; a module takes the first columns and rows |
//! | `vera_lambda_b`, `vera_lambda_d` | without `.weight` | `[out]`, `[r]` |
//!
//! A file without `vera_A` and `vera_B` (`save_projection: false`) is refused: PEFT draws them from torch's generator.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::{Module, expect_values};
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::Operand;
use crate::tensor::View;

const A: &str = "vera_A";
const B: &str = "vera_B";
const LAMBDA_B: &str = "vera_lambda_b";
const LAMBDA_D: &str = "vera_lambda_d";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "VERA",
    name: "VeRA",
    keys: &[
        "d_initial",
        "init_weights",
        "projection_prng_key",
        "r",
        "runtime_config",
        "save_projection",
        "vera_dropout",
    ],
    parts: &[
        Part { name: LAMBDA_B, marker: LAMBDA_B, end: End::Any },
        Part { name: LAMBDA_D, marker: LAMBDA_D, end: End::Any },
    ],
    shared: &[A, B],
    rank_0: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Vera { r: fields.count("r")?.unwrap_or(256) })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Vera {
    r: u64,
}

impl AdapterKind for Vera {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [lambda_b, lambda_d] = module.all_of([LAMBDA_B, LAMBDA_D])?;
            module.expect_values()?;
            let (a, b) = projections(module)?;
            let outputs = lambda_b.elements();
            let inputs = match base.shape(&module.tensor) {
                // The second is refused when it is laid on, where the layer is known to be stored so.
                Some([out, inputs]) | Some([inputs, out]) if *out == outputs => *inputs,
                _ => return Err(misfit(module, base, [lambda_b, lambda_d, a, b])),
            };
            let (rank, widest, tallest) = self.sizes(a, b)?;
            if lambda_d.elements() != rank || inputs > widest || outputs > tallest {
                return Err(misfit(module, base, [lambda_b, lambda_d, a, b]));
            }
            let operand = |source: &Source, view: View, gains: &Source| Operand {
                source: source.clone(),
                view,
                row_gains: Some(gains.clone()),
            };
            let factors = Factors::Gained {
                a: operand(a, View::of(&a.shape).columns(0..inputs), lambda_d),
                b: operand(b, View::of(&b.shape).rows(0..outputs), lambda_b),
            };
            let dims = vec![outputs, inputs];
            let delta = Delta { factors, dims, embedding: false, rank, scale: 1.0, magnitude: None };
            out.edits.push(module.edit(Change::Delta(delta)));
        }
        Ok(())
    }
}

impl Vera {
    /// The rank, A's columns and B's rows.
    fn sizes(&self, a: &Source, b: &Source) -> Result<(u64, u64, u64)> {
        match (&a.shape[..], &b.shape[..]) {
            ([rank, widest], [tallest, other]) if rank == other && *rank == self.r => Ok((*rank, *widest, *tallest)),
            (x, y) => Err(Error::new(
                Kind::RankMismatch,
                format!("vera_A has the shape {x:?} and vera_B {y:?}, adapter_config.json says r = {}", self.r),
            )),
        }
    }
}

fn misfit(module: &Module<'_>, base: &Names<'_>, tensors: [&Source; 4]) -> Error {
    let parts: Vec<String> = tensors.iter().map(|t| format!("{} of shape {:?}", t.name, t.shape)).collect();
    let shape = base.shape(&module.tensor).unwrap_or_default();
    let text = format!("{} do not fit {} of shape {shape:?}", parts.join(", "), module.tensor);
    Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size")
}

/// The two matrices that all modules share.
fn projections<'a>(module: &Module<'a>) -> Result<(&'a Source, &'a Source)> {
    let (Some(a), Some(b)) = (module.shared.get(A), module.shared.get(B)) else {
        let text = "the file holds no vera_A and vera_B, the random matrices that PEFT draws from torch's generator";
        return Err(Error::new(Kind::MissingTensor, text)
            .hint("save the adapter again with save_projection=True, or merge it with PEFT's merge_and_unload"));
    };
    [a, b].into_iter().try_for_each(expect_values)?;
    Ok((a, b))
}
