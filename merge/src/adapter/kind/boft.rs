//! BOFT: rotations of a layer's inputs as a product of sparse ones, and a gain for each output, `s ∘ (W @ R^T)` (Liu et al. 2023,
//! arXiv:2311.06243; PEFT's `BOFTLayer`). How each rotation follows from the stored values stands in [`Cayley`].
//!
//! | part | key, without `.weight` | shape |
//! |---|---|---|
//! | `boft_R` | `boft_R` | [factors, blocks, side, side]; a convolution's inputs are in * kernel |
//! | `boft_s` | `boft_s` | [out, 1], convolution [1, out] |
//!
//! Factor `i` of several turns blocks of columns that are not neighbours ([`Shuffle`]); the first turns neighbours.

use std::sync::Arc;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::{Applied, Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::made::{Cayley, Skew};
use crate::recipe::{Along, Made, Mix, Op, Operand, Scale, Shuffle};
use crate::tensor::View;

const R: &str = "boft_R";
const S: &str = "boft_s";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "BOFT",
    name: "BOFT",
    keys: &[
        "boft_block_num",
        "boft_block_size",
        "boft_dropout",
        "boft_n_butterfly_factor",
        "init_weights",
        "runtime_config",
    ],
    parts: &[Part { name: R, marker: R, end: End::Any }, Part { name: S, marker: S, end: End::Any }],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |_| Ok(Arc::new(Boft)),
    tokens: |_| Ok(Tokens::None),
};

/// The kind; the tensors tell its settings.
#[derive(Debug)]
struct Boft;

impl AdapterKind for Boft {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [r, s] = module.all_of([R, S])?;
            module.expect_values()?;
            let mut ops = turns(r, module.matrix(base)?.1)?;
            ops.push(Op::Scale(Scale { gains: Operand::vector(s.clone()), along: Along::Rows }));
            let outputs = Some(s.elements());
            out.edits.push(module.edit(Change::Apply(Applied { ops, outputs, rank: None })));
        }
        Ok(())
    }
}

/// One operation for each factor.
fn turns(r: &Source, inputs: u64) -> Result<Vec<Op>> {
    let misfit = |what: &str| Error::new(Kind::ShapeMismatch, format!("{} has shape {:?}, {what}", r.name, r.shape));
    let [factors, blocks, side, other] = r.shape[..] else {
        return Err(misfit("expected [factors, blocks, side, side]"));
    };
    if side != other || factors > 32 || (factors > 1 && !side.is_multiple_of(2)) {
        return Err(misfit("expected [factors, blocks, side, side]; the side is even where there are several factors"));
    }
    if blocks.checked_mul(side) != Some(inputs) {
        return Err(misfit(&format!("the weight has {inputs} inputs"))
            .hint("the adapter was trained on a model of another size"));
    }
    let rows = blocks * side;
    let factor = |i: u64| {
        let view = View { rows, cols: side, row_stride: side, col_stride: 1, offset: i * rows * side };
        let blocks = Made::Cayley(Cayley {
            skew: Operand { source: r.clone(), view, row_gains: None },
            stored: Skew::Square,
            side,
            terms: None,
            limit: None,
            transposed: true,
        });
        let shuffle = (i > 0).then(|| Shuffle { chunk: side / 2, ways: 2 << i });
        Op::Mix(Box::new(Mix { blocks, along: Along::Columns, shuffle }))
    };
    Ok((0..factors).map(factor).collect())
}
