//! BEFT: what is added to the biases of layers (PEFT's `BeftLayer`). A layer without a bias has nothing that it could be merged into.
//!
//! | part | key | shape |
//! |---|---|---|
//! | `beft_bias` | without `.weight` | [1, out] |

use std::sync::Arc;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use super::bias;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::Resolved;
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

const BIAS: &str = "beft_bias";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "BEFT",
    name: "BEFT",
    keys: &["init_weights"],
    parts: &[Part { name: BIAS, marker: BIAS, end: End::Any }],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |_| Ok(Arc::new(Beft)),
    tokens: |_| Ok(Tokens::None),
};

/// The kind; it has no settings.
#[derive(Debug)]
struct Beft;

impl AdapterKind for Beft {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [added] = module.all_of([BIAS])?;
            module.expect_values()?;
            let [1, outputs] = added.shape[..] else {
                let text = format!("{} has shape {:?}, expected [1, outputs]", added.name, added.shape);
                return Err(Error::new(Kind::ShapeMismatch, text));
            };
            let vector = Source { shape: vec![outputs], ..added.clone() };
            out.edits.push(bias::edit(module, vector, 1.0, base)?);
        }
        Ok(())
    }
}
