//! IA3: a vector that multiplies the outputs of a layer, or the inputs of a feed-forward layer (Liu et al. 2022,
//! arXiv:2205.05638; PEFT's `IA3Layer`).
//!
//! | part | key | shape |
//! |---|---|---|
//! | `ia3_l` | without `.weight` | [out, 1], feed-forward [1, in] |
//!
//! Where it multiplies outputs, it multiplies the layer's bias as well.

use std::collections::HashSet;
use std::sync::Arc;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use crate::adapter::config::fields::Fields;
use crate::adapter::config::modules::Modules;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::{Change, Dimension, Edit, Resolved};
use crate::adapter::module::Module;
use crate::adapter::pattern::Patterns;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::Result;

const L: &str = "ia3_l";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "IA3",
    name: "IA3",
    keys: &["feedforward_modules", "init_ia3_weights", "runtime_config"],
    parts: &[Part { name: L, marker: L, end: End::Any }],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| Ok(Arc::new(Ia3::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Ia3 {
    feedforward: Modules,
}

impl Ia3 {
    fn parse(fields: Fields<'_>) -> Result<Ia3> {
        Ok(Ia3 { feedforward: fields.modules("feedforward_modules")? })
    }

    /// The places in the list of the modules that are feed-forward. PEFT matches a text as a whole regular expression, and a
    /// list by the bare end of the name, without a dot before it.
    fn feedforward(&self, names: &[&str], effort: &mut Effort) -> Result<HashSet<usize>> {
        let places = |is: &mut dyn FnMut(usize, &str) -> bool| {
            names.iter().enumerate().filter(|(i, name)| is(*i, name)).map(|(i, _)| i).collect()
        };
        Ok(match &self.feedforward {
            Modules::None => HashSet::new(),
            Modules::List(list) => places(&mut |_, name| list.iter().any(|end| name.ends_with(end.as_str()))),
            Modules::Regex(regex) => {
                // Nothing may stand before it, so that it matches the whole path.
                let table = [(format!(r"(?<![\s\S])(?:{regex})"), 1.0)];
                let patterns = Patterns::new("feedforward_modules", &table)?;
                let matches = patterns.matches(names, effort)?;
                places(&mut |i, _| !matches[i].is_empty())
            }
        })
    }
}

impl AdapterKind for Ia3 {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        let names: Vec<&str> = modules.iter().map(|m| m.name).collect();
        let feedforward = self.feedforward(&names, effort)?;
        for (i, module) in modules.iter().enumerate() {
            effort.check()?;
            let [gains] = module.all_of([L])?;
            let of = if feedforward.contains(&i) { Dimension::Inputs } else { Dimension::Outputs };
            let weight = module.edit(Change::Multiply { gains: gains.clone(), of });
            if of == Dimension::Outputs
                && let Some((tensor, rows)) = module.bias(base)?
            {
                out.edits.push(Edit { tensor, rows, ..weight.clone() });
            }
            out.edits.push(weight);
        }
        Ok(())
    }
}
