//! LN_TUNING: norms that were trained whole (Zhao et al. 2023, arXiv:2312.11420; PEFT's `LNTuningLayer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `ln_tuning_layers.weight`, `.bias` | `ln_tuning_layers.weight`, `.bias` | the norm's own |

use std::sync::Arc;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::{Change, Edit, Origin, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};

const MARKER: &str = "ln_tuning_layers";
const WEIGHT: &str = "ln_tuning_layers.weight";
const BIAS: &str = "ln_tuning_layers.bias";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "LN_TUNING",
    name: "LN tuning",
    keys: &[],
    parts: &[
        Part { name: WEIGHT, marker: MARKER, end: End::Weight },
        Part { name: BIAS, marker: MARKER, end: End::Bias },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |_| Ok(Arc::new(LnTuning)),
    tokens: |_| Ok(Tokens::None),
};

/// The kind; it has no settings.
#[derive(Debug)]
struct LnTuning;

impl AdapterKind for LnTuning {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [weight] = module.all_of([WEIGHT])?;
            let replace = |tensor| Change::Replace { source: tensor, origin: Origin::Trained, twin: None };
            out.edits.push(module.edit(replace(weight.clone())));
            let Some(bias) = module.parts.get(BIAS) else { continue };
            let target = module.tensor.strip_suffix("weight").map(|stem| format!("{stem}bias"));
            let Some(tensor) = target.filter(|name| base.has(name)) else {
                let text = format!("{} replaces a bias, and the base has no {}.bias", bias.name, module.base);
                return Err(Error::new(Kind::MissingTensor, text));
            };
            out.edits.push(Edit { tensor, ..module.edit(replace(bias.clone())) });
        }
        Ok(())
    }
}
