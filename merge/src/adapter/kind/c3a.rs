//! C3A: blocks whose rows are one row, each turned by one place more, `W[i, j] += kernel[.., (j - i) mod side] / in` (Chen et al. 2024,
//! arXiv:2407.19342; PEFT's `C3ALayer`, which computes the same by Fourier transforms).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `c3a_kernel` | without `.weight` | [out / side, in / side, side] |

use std::sync::Arc;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::recipe::made::Whole;
use crate::recipe::{self, Circulant, Made, Operand};

const KERNEL: &str = "c3a_kernel";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "C3A",
    name: "C3A",
    keys: &["block_size", "block_size_pattern", "init_weights", "runtime_config"],
    parts: &[Part { name: KERNEL, marker: KERNEL, end: End::Any }],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |_| Ok(Arc::new(C3a)),
    tokens: |_| Ok(Tokens::None),
};

/// The kind; the tensors tell its settings.
#[derive(Debug)]
struct C3a;

impl AdapterKind for C3a {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [kernel] = module.all_of([KERNEL])?;
            module.expect_values()?;
            let [down, across, side] = kernel.shape[..] else {
                let text =
                    format!("{} has shape {:?}, expected [out / side, in / side, side]", kernel.name, kernel.shape);
                return Err(Error::new(Kind::ShapeMismatch, text));
            };
            let inputs = across.saturating_mul(side);
            let made = Made::Whole(Whole::one(Operand::matrix(kernel.clone())));
            let blocks = recipe::Delta::Circulant(Box::new(Circulant { kernel: made, side, scale: 1.0 }));
            let dims = [down.saturating_mul(side), inputs];
            let delta = Delta::plain(Factors::made(blocks), dims, side, 1.0 / inputs as f64);
            out.edits.push(module.edit(Change::delta(delta)));
        }
        Ok(())
    }
}
