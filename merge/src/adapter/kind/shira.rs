//! SHIRA: single values of a weight that are added to it (Bhardwaj et al. 2024, arXiv:2406.13175; PEFT's `ShiraLayer`).
//!
//! | part | key, without `.weight` | shape |
//! |---|---|---|
//! | `shira_weight` | `shira_weight` | `[n]`, n = r * (out + in) |
//! | `shira_indices` | `shira_indices` | [2, n] integers: rows, then columns; fp32 if PEFT saved them on Windows |

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
use crate::recipe::made::Entries;
use crate::recipe::{self, Made, Operand, Sparse};

const WEIGHT: &str = "shira_weight";
const INDICES: &str = "shira_indices";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "SHIRA",
    name: "SHiRA",
    keys: &["init_weights", "mask_type", "r", "random_seed", "runtime_config"],
    parts: &[
        Part { name: WEIGHT, marker: WEIGHT, end: End::Any },
        Part { name: INDICES, marker: INDICES, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Shira { r: fields.count("r")?.unwrap_or(32) })),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Shira {
    r: u64,
}

impl AdapterKind for Shira {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [values, places] = module.all_of([WEIGHT, INDICES])?;
            expect_values(values)?;
            expect_places(places)?;
            let (rows, cols) = module.matrix(base)?;
            let count = values.elements();
            if self.r.checked_mul(rows.saturating_add(cols)) != Some(count) {
                let text = format!(
                    "{} has {count} values, r = {} of adapter_config.json gives {} for a weight of {rows} x {cols}",
                    values.name,
                    self.r,
                    self.r.saturating_mul(rows.saturating_add(cols))
                );
                return Err(
                    Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size")
                );
            }
            let entries = Made::Entries(Entries {
                places: Operand::matrix(places.clone()),
                values: Operand::vector(values.clone()),
                rows,
                cols,
            });
            entries.size().map_err(|text| Error::new(Kind::ShapeMismatch, text))?;
            let factors = Factors::made(recipe::Delta::Sparse(Box::new(Sparse { entries, scale: 1.0 })));
            out.edits.push(module.edit(Change::delta(Delta::plain(factors, [rows, cols], self.r, 1.0))));
        }
        Ok(())
    }
}
