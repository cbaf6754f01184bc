//! LOHA: two low-rank products, multiplied element by element, `alpha / r * (w1_a @ w1_b) ∘ (w2_a @ w2_b)` (Hyeon-Woo et al.
//! 2021, arXiv:2108.06098; PEFT's `LoHaLayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `hada_w1_a`, `hada_w2_a` | without `.weight` | [out, r] |
//! | `hada_w1_b`, `hada_w2_b` | without `.weight` | [r, in], convolution [r, in * kernel] |
//!
//! The form with `hada_t1` and `hada_t2` (`use_effective_conv2d`) is not merged yet.

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

const W1_A: &str = "hada_w1_a";
const W1_B: &str = "hada_w1_b";
const W2_A: &str = "hada_w2_a";
const W2_B: &str = "hada_w2_b";
const T1: &str = "hada_t1";
const T2: &str = "hada_t2";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "LOHA",
    name: "LoHa",
    keys: &[
        "alpha",
        "alpha_pattern",
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
        Part { name: W1_A, marker: W1_A, end: End::Any },
        Part { name: W1_B, marker: W1_B, end: End::Any },
        Part { name: W2_A, marker: W2_A, end: End::Any },
        Part { name: W2_B, marker: W2_B, end: End::Any },
        Part { name: T1, marker: T1, end: End::Any },
        Part { name: T2, marker: T2, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(LoHa { ranks: Ranks::read(fields, "alpha")? })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct LoHa {
    ranks: Ranks,
}

impl AdapterKind for LoHa {
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
            if let Some(t) = module.parts.get(T1).or(module.parts.get(T2)) {
                let text = format!("{} belongs to LoHa's form for convolutions, which is not merged yet", t.name);
                return Err(Error::new(Kind::Unsupported, text).hint("merge this adapter with PEFT's merge_and_unload"));
            }
            let [w1_a, w1_b, w2_a, w2_b] = module.all_of([W1_A, W1_B, W2_A, W2_B])?;
            module.expect_values()?;
            let (one, two) = (product(w1_a, w1_b)?, product(w2_a, w2_b)?);
            if one != two {
                return Err(Error::new(
                    Kind::ShapeMismatch,
                    format!("{} and its neighbours give {one:?}, {} and its neighbours {two:?}", w1_a.name, w2_a.name),
                ));
            }
            let rank = w1_b.shape[0];
            let scale = scales.of(number, module.name, (rank, w1_b), out)?;
            let factors =
                Factors::Hadamard { first: (w1_a.clone(), w1_b.clone()), second: (w2_a.clone(), w2_b.clone()) };
            out.edits.push(module.edit(Change::delta(Delta::plain(factors, one, rank, scale))));
        }
        Ok(())
    }
}

/// The shape of the product of two factors.
fn product(left: &Source, right: &Source) -> Result<[u64; 2]> {
    match (&left.shape[..], &right.shape[..]) {
        ([rows, inner], [rank, cols]) if inner == rank => Ok([*rows, *cols]),
        (l, r) => {
            let text =
                format!("{} of shape {l:?} and {} of shape {r:?} are no factors of a product", left.name, right.name);
            Err(Error::new(Kind::RankMismatch, text))
        }
    }
}
