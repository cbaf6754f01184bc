//! What a kind of adapter tells about itself.

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;

use crate::adapter::config::fields::Fields;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::Resolved;
use crate::adapter::module::Module;
use crate::adapter::parameter::Targeted;
use crate::adapter::scale::Ranks;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::Result;

/// A row of the table of kinds: what is the same for all adapters of one PEFT type.
#[derive(Debug)]
pub struct Row {
    /// The value of `peft_type`.
    pub peft_type: &'static str,
    /// The name for people.
    pub name: &'static str,
    /// The keys of its configuration, beside those that all kinds have.
    pub keys: &'static [&'static str],
    /// The tensors that a module may have.
    pub parts: &'static [Part],
    /// Components of keys of tensors that all modules share.
    pub shared: &'static [&'static str],
    /// Whether its matrices may be empty, which then means something: training kept no rank of a module, or a weight is left out
    /// that follows from the others.
    pub may_be_empty: bool,
    /// Components of keys that are left out on purpose, with the reason.
    pub ignored: &'static [(&'static str, &'static str)],
    /// Reads its own settings.
    pub parse: fn(Fields<'_>) -> Result<Arc<dyn AdapterKind>>,
    /// Reads which token rows it carries.
    pub tokens: fn(Fields<'_>) -> Result<Tokens>,
}

/// A tensor that a module of an adapter may have.
#[derive(Debug)]
pub struct Part {
    /// What it is called here.
    pub name: &'static str,
    /// The component of the key that tells it. The name of the adapter may follow.
    pub marker: &'static str,
    /// How the key ends.
    pub end: End,
}

/// How the key of a part ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In whatever way.
    Any,
    /// With `bias`.
    Bias,
    /// With anything but `bias`.
    Weight,
}

impl Row {
    /// The part that a component of a key tells, with what follows it in the key.
    pub fn part(&self, component: &str, after: &[&str]) -> Option<&'static str> {
        let bias = after.last() == Some(&"bias");
        let fits = |part: &&Part| match part.end {
            End::Any => true,
            End::Bias => bias,
            End::Weight => !bias,
        };
        self.parts.iter().filter(|part| part.marker == component).find(fits).map(|part| part.name)
    }

    /// Whether a component of a key tells a part.
    pub fn has_part(&self, component: &str) -> bool {
        self.parts.iter().any(|part| part.marker == component)
    }

    /// The tensor that all modules share, by a component of its key.
    pub fn shared(&self, component: &str) -> Option<&'static str> {
        self.shared.iter().find(|marker| **marker == component).copied()
    }

    /// Why a component of a key is left out.
    pub fn ignores(&self, component: &str) -> Option<&'static str> {
        self.ignored.iter().find(|(marker, _)| *marker == component).map(|(_, why)| *why)
    }
}

/// One adapter's kind with its settings: what its tensors do to a base.
pub trait AdapterKind: Debug + Send + Sync {
    /// The row of its PEFT type.
    fn row(&self) -> &'static Row;

    /// What a plan calls it; `rescaled` tells whether it has DoRA's magnitudes.
    fn title(&self, rescaled: bool) -> &'static str {
        let _ = rescaled;
        self.row().name
    }

    /// The settings that `inspect` shows, by their keys in the configuration.
    fn settings(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// Its ranks and alphas, if it has such.
    fn ranks(&self) -> Option<&Ranks> {
        None
    }

    /// Whether it takes a module whose weight is stored in several pieces ([`Module::delta`]), or as one expert of a stacked tensor.
    fn takes_pieces(&self) -> bool {
        false
    }

    /// Parameters of modules that it targets by themselves: the last components of their names.
    fn parameters(&self) -> &[String] {
        &[]
    }

    /// Adds the edits of those parameters.
    ///
    /// # Errors
    /// As [`Self::edits`].
    fn parameter_edits(&self, targets: &[Targeted<'_>], effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        let _ = (targets, effort, out);
        Ok(())
    }

    /// Adds the edits that the tensors of its modules make.
    ///
    /// # Errors
    /// If a module's tensors are not complete, contradict the settings, or do not fit each other.
    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()>;
}
