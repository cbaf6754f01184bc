//! OFT: rotations of blocks of a layer's inputs, `W @ R^T`, of an embedding `W @ R` (Qiu et al. 2023, arXiv:2306.07280; PEFT's
//! `OFTLayer`). How R follows from the stored values stands in [`Cayley`].
//!
//! | part | key | shape |
//! |---|---|---|
//! | `oft_R` | `oft_R.weight` | [blocks, side * (side - 1) / 2], one block with `block_share`; a convolution's inputs are in * kernel |
//! | `oft_embedding_R` | `oft_embedding_R.weight` | the same |
//!
//! Files of PEFT 0.15 and older have `oft_r` and `oft_s`. PEFT does not read them any more, and they are refused.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::fields::{Fields, bad};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::{Applied, Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::made::{Cayley, MOST_TERMS, Skew};
use crate::recipe::{Along, Made, Mix, Op, Operand};

const R: &str = "oft_R";
const EMBEDDING: &str = "oft_embedding_R";
const OLD_R: &str = "oft_r";
const OLD_S: &str = "oft_s";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "OFT",
    name: "OFT",
    keys: &[
        "block_share",
        "coft",
        "eps",
        "init_weights",
        "module_dropout",
        "num_cayley_neumann_terms",
        "oft_block_size",
        "r",
        "runtime_config",
        "use_cayley_neumann",
    ],
    parts: &[
        Part { name: R, marker: R, end: End::Any },
        Part { name: EMBEDDING, marker: EMBEDDING, end: End::Any },
        Part { name: OLD_R, marker: OLD_R, end: End::Any },
        Part { name: OLD_S, marker: OLD_S, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Oft::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Oft {
    /// The terms of the series; `None` for the exact transform.
    terms: Option<u32>,
    /// How far a block may turn.
    limit: Option<f64>,
    /// One block for all.
    shared: bool,
}

impl Oft {
    fn parse(fields: Fields<'_>) -> Result<Oft> {
        let series = fields.get("use_cayley_neumann").is_none() || fields.flag("use_cayley_neumann")?;
        let terms = fields.count("num_cayley_neumann_terms")?.unwrap_or(5);
        let terms = u32::try_from(terms).ok().filter(|terms| *terms <= MOST_TERMS);
        let terms = terms.ok_or_else(|| bad(format!("num_cayley_neumann_terms is more than {MOST_TERMS}")))?;
        let eps = fields.number("eps")?.unwrap_or(6e-5);
        if !(eps.is_finite() && eps >= 0.0) {
            return Err(bad(format!("eps is {eps}, expected a number that is not below 0")));
        }
        Ok(Oft {
            terms: series.then_some(terms),
            limit: fields.flag("coft")?.then_some(eps),
            shared: fields.flag("block_share")?,
        })
    }

    /// The operation that a stored tensor makes.
    fn mix(&self, tensor: &Source, is_embedding: bool, inputs: u64) -> Result<Op> {
        let [blocks, triangle] = tensor.shape[..] else { return Err(no_triangles(tensor)) };
        let side = side(triangle).ok_or_else(|| no_triangles(tensor))?;
        if self.shared && blocks != 1 {
            let text = format!(
                "{} has {blocks} blocks (shape {:?}), adapter_config.json says block_share",
                tensor.name, tensor.shape
            );
            return Err(Error::new(Kind::ShapeMismatch, text));
        }
        if !self.shared && blocks.checked_mul(side) != Some(inputs) {
            let text = format!(
                "{} of shape {:?} turns {blocks} blocks of {side} inputs, the weight has {inputs}",
                tensor.name, tensor.shape
            );
            return Err(
                Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size")
            );
        }
        let blocks = Made::Cayley(Cayley {
            skew: Operand::matrix(tensor.clone()),
            stored: Skew::Upper,
            side,
            terms: self.terms,
            // Each block has its part of the whole freedom.
            limit: self.limit.map(|eps| eps / (blocks as f64).sqrt()),
            transposed: !is_embedding,
        });
        Ok(Op::Mix(Box::new(Mix { blocks, along: Along::Columns, shuffle: None })))
    }
}

/// The side of a square whose upper triangle, without the diagonal, has so many elements.
fn side(triangle: u64) -> Option<u64> {
    let side = (2.0 * triangle as f64).sqrt() as u64 + 1;
    (side.checked_mul(side - 1)? == 2 * triangle).then_some(side)
}

fn no_triangles(tensor: &Source) -> Error {
    let text = format!("{} has shape {:?}, expected [blocks, side * (side - 1) / 2]", tensor.name, tensor.shape);
    Error::new(Kind::ShapeMismatch, text)
}

impl AdapterKind for Oft {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        let series = self.terms.map(|terms| ("num_cayley_neumann_terms", terms.into()));
        let shared = self.shared.then_some(("block_share", true.into()));
        let limit = self.limit.map(|eps| ("eps", eps.into()));
        series.into_iter().chain(shared).chain(limit).collect()
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            if let Some(old) = module.parts.get(OLD_R).or(module.parts.get(OLD_S)) {
                let text = format!("{} is of the form that PEFT 0.15 and older wrote, which is not merged", old.name);
                return Err(Error::new(Kind::Unsupported, text)
                    .hint("merge this adapter with PEFT 0.15.2's merge_and_unload, or train a new one"));
            }
            module.expect_values()?;
            let (tensor, is_embedding) = match module.parts.get(EMBEDDING) {
                Some(tensor) => (tensor, true),
                None => (module.all_of([R])?[0], false),
            };
            let op = self.mix(tensor, is_embedding, module.matrix(base)?.1)?;
            let ops = vec![op];
            out.edits.push(module.edit(Change::Apply(Applied { ops, outputs: None, rank: None })));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_the_one_whose_triangle_it_is() {
        for n in [2u64, 3, 32, 4096, 1 << 20] {
            assert_eq!(side(n * (n - 1) / 2), Some(n));
            assert_eq!(side(n * (n + 1) / 2 - 1), None, "between two of them");
        }
        assert_eq!(side(0), Some(1), "a block of one input does not turn");
    }
}
