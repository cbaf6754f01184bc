//! MISS: one block of rows that is added to every block of inputs (Kang and Yin 2024, arXiv:2409.15371; PEFT's `MissLayer`).
//!
//! | `init_weights` | `miss_block`, without `.weight` | merge, for input i and output o |
//! |---|---|---|
//! | true or false | [r, out] | `W[o, i] += block[i % r, o]` |
//! | `mini` | [r, mini_r] | `W[o, i] += block[i % r, o % mini_r]` |
//! | `bat` | [out / r, r, r] | each r x r block of W in block row h: `W += W @ block[h] + block[h]` |

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::fields::{Fields, bad, unsupported};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Applied, Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::json::{self, show};
use crate::recipe::made::Whole;
use crate::recipe::{self, Add, Along, Kronecker, Made, Mix, Op, Operand};
use crate::tensor::View;

const BLOCK: &str = "miss_block";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "MISS",
    name: "MiSS",
    keys: &["init_weights", "mini_r", "miss_dropout", "r", "runtime_config"],
    parts: &[Part { name: BLOCK, marker: BLOCK, end: End::Any }],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Miss::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// How the block acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Mini,
    Bat,
}

/// The settings of one adapter.
#[derive(Debug)]
struct Miss {
    r: u64,
    form: Form,
}

impl Miss {
    fn parse(fields: Fields<'_>) -> Result<Miss> {
        let form = match fields.get("init_weights") {
            None | Some(Value::Bool(_)) => Form::Plain,
            Some(value) => match json::text(value) {
                Some("mini") => Form::Mini,
                Some("bat") => Form::Bat,
                Some(other) => return Err(unsupported(format!("init_weights {other} is not known of MiSS"))),
                None => return Err(bad(format!("init_weights is {}, expected a boolean or a name", show(value)))),
            },
        };
        Ok(Miss { r: fields.count("r")?.unwrap_or(64), form })
    }

    /// What the block of one module does to a weight of this size.
    fn change(&self, block: &Source, (outputs, inputs): (u64, u64)) -> Result<Change> {
        match (self.form, &block.shape[..]) {
            (Form::Plain, [r, wide]) if *r == self.r && *wide == outputs => Ok(self.copies(block, (outputs, inputs))),
            (Form::Mini, [r, wide]) if *r == self.r && *wide > 0 && outputs.is_multiple_of(*wide) => {
                Ok(self.copies(block, (outputs, inputs)))
            }
            (Form::Bat, [count, r, other])
                if *r == self.r
                    && r == other
                    && count.checked_mul(*r) == Some(outputs)
                    && inputs.is_multiple_of(*r) =>
            {
                Ok(bat(block, *count, *r, outputs))
            }
            (form, shape) => {
                let text = format!(
                    "{} has shape {shape:?}, which does not fit a weight of {outputs} x {inputs} with r = {} ({form:?})",
                    block.name, self.r
                );
                Err(Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size"))
            }
        }
    }

    /// The block, turned, side by side and below each other.
    fn copies(&self, block: &Source, (outputs, inputs): (u64, u64)) -> Change {
        let inner = Made::Whole(Whole::one(Operand::transposed(block.clone())));
        let copies = recipe::Delta::Kronecker(Box::new(Kronecker { outer: None, inner, scale: 1.0 }));
        Change::delta(Delta::plain(Factors::made(copies), [outputs, inputs], self.r, 1.0))
    }
}

/// `W += W @ block[h] + block[h]`: the product first, of the weight that stands.
fn bat(block: &Source, count: u64, r: u64, outputs: u64) -> Change {
    let view = View { rows: outputs, cols: r, row_stride: r, col_stride: 1, offset: 0 };
    let operand = Operand { source: block.clone(), view, row_gains: None };
    let blocks = Made::Whole(Whole { operand: operand.clone(), count });
    let added = Kronecker { outer: None, inner: Made::Whole(Whole::one(operand)), scale: 1.0 };
    let mixed = Op::Mix(Box::new(Mix { blocks, along: Along::Rows, shuffle: None }));
    let ops = vec![mixed, Op::Add(Add(recipe::Delta::Kronecker(Box::new(added))))];
    Change::Apply(Applied { ops, outputs: Some(outputs), rank: Some(r) })
}

impl AdapterKind for Miss {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [block] = module.all_of([BLOCK])?;
            module.expect_values()?;
            let change = self.change(block, module.matrix(base)?)?;
            out.edits.push(module.edit(change));
        }
        Ok(())
    }
}
