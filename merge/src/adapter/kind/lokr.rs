//! LOKR: a Kronecker product, `alpha / r * w1 ⊗ w2` (Yeh et al. 2023, arXiv:2309.14859; PEFT's `LoKrLayer`). The weight is
//! [a * b, c * d * kernel].
//!
//! | part | key, without `.weight` | shape |
//! |---|---|---|
//! | w1 | `lokr_w1`, or `lokr_w1_a` @ `lokr_w1_b` | [a, c], or [a, r] and [r, c] |
//! | w2 | `lokr_w2`, or `lokr_w2_a` @ `lokr_w2_b` | [b, d, *kernel], or [b, r] and [r, d * kernel] |
//! | w2 in Tucker's form | `lokr_t2`, `lokr_w2_a`, `lokr_w2_b` | [r, r, *kernel], [r, b] and [r, d] |
//!
//! The scale is `alpha / r` also where w1 and w2 are whole and no tensor has the rank.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::adapter::scale::Ranks;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::made::{Product, Size, Tucker, Whole};
use crate::recipe::{self, Kronecker, Made, Operand};

const W1: &str = "lokr_w1";
const W1_A: &str = "lokr_w1_a";
const W1_B: &str = "lokr_w1_b";
const W2: &str = "lokr_w2";
const W2_A: &str = "lokr_w2_a";
const W2_B: &str = "lokr_w2_b";
const T2: &str = "lokr_t2";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "LOKR",
    name: "LoKr",
    keys: &[
        "alpha",
        "alpha_pattern",
        "decompose_both",
        "decompose_factor",
        "init_weights",
        "module_dropout",
        "r",
        "rank_dropout",
        "rank_dropout_scale",
        "rank_pattern",
        "runtime_config",
        "use_effective_conv2d",
    ],
    parts: &[
        Part { name: W1, marker: W1, end: End::Any },
        Part { name: W1_A, marker: W1_A, end: End::Any },
        Part { name: W1_B, marker: W1_B, end: End::Any },
        Part { name: W2, marker: W2, end: End::Any },
        Part { name: W2_A, marker: W2_A, end: End::Any },
        Part { name: W2_B, marker: W2_B, end: End::Any },
        Part { name: T2, marker: T2, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(LoKr { ranks: Ranks::read(fields, "alpha")? })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct LoKr {
    ranks: Ranks,
}

impl AdapterKind for LoKr {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.ranks.r.into()), ("alpha", self.ranks.alpha.into())]
    }

    fn ranks(&self) -> Option<&Ranks> {
        Some(&self.ranks)
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        let scales = self.ranks.scales(modules.iter().map(|m| m.name), effort)?;
        for (number, module) in modules.iter().enumerate() {
            effort.check()?;
            module.expect_values()?;
            let (outer, of_outer) = first(module)?;
            let (inner, of_inner) = second(module)?;
            let sizes = [size(&outer)?, size(&inner)?];
            let held = of_outer.or(of_inner);
            let (rank, scale) = scales.of_held(number, module.name, held, out)?;
            let outputs = sizes[0].rows.saturating_mul(sizes[1].rows);
            let inputs = sizes[0].cols.saturating_mul(sizes[1].cols);
            let product = recipe::Delta::Kronecker(Box::new(Kronecker { outer: Some(outer), inner, scale: 1.0 }));
            let delta = Delta::plain(Factors::made(product), [outputs, inputs], rank, scale);
            out.edits.push(module.edit(Change::delta(delta)));
        }
        Ok(())
    }
}

/// A rank and the tensor that has it.
type Held<'a> = Option<(u64, &'a Source)>;

/// w1.
fn first<'a>(module: &Module<'a>) -> Result<(Made, Held<'a>)> {
    if let Some(whole) = module.parts.get(W1) {
        refuse_both(module, whole, [W1_A, W1_B])?;
        return Ok((Made::Whole(Whole::one(Operand::matrix(whole.clone()))), None));
    }
    let [a, b] = module.all_of([W1_A, W1_B])?;
    Ok((product(a, b), rows(b)))
}

/// w2.
fn second<'a>(module: &Module<'a>) -> Result<(Made, Held<'a>)> {
    if let Some(whole) = module.parts.get(W2) {
        refuse_both(module, whole, [W2_A, W2_B])?;
        if whole.shape.len() == 3 {
            let text = format!(
                "{} of shape {:?} belongs to a convolution over one dimension, which is not merged",
                whole.name, whole.shape
            );
            return Err(Error::new(Kind::Unsupported, text).hint("merge this adapter with PEFT's merge_and_unload"));
        }
        return Ok((Made::Whole(Whole::one(Operand::matrix(whole.clone()))), None));
    }
    let [a, b] = module.all_of([W2_A, W2_B])?;
    let Some(core) = module.parts.get(T2) else { return Ok((product(a, b), rows(b))) };
    let operand = |tensor: &Source| Operand::matrix(tensor.clone());
    let made = Made::Tucker(Tucker { core: operand(core), outputs: operand(a), inputs: operand(b) });
    Ok((made, rows(b)))
}

fn product(a: &Source, b: &Source) -> Made {
    Made::Product(Product { left: Operand::matrix(a.clone()), right: Operand::matrix(b.clone()) })
}

fn rows(tensor: &Source) -> Held<'_> {
    tensor.shape.first().map(|rank| (*rank, tensor))
}

/// A module has a matrix whole, or its factors.
fn refuse_both(module: &Module<'_>, whole: &Source, factors: [&'static str; 2]) -> Result<()> {
    match factors.iter().find_map(|part| module.parts.get(part)) {
        None => Ok(()),
        Some(factor) => {
            let text = format!("{} and {} play the same part for {}", whole.name, factor.name, module.name);
            Err(Error::new(Kind::Conflict, text))
        }
    }
}

fn size(made: &Made) -> Result<Size> {
    made.size().map_err(|text| Error::new(Kind::RankMismatch, text))
}
