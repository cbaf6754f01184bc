//! What replaces one tensor of the base.

use std::borrow::Cow;
use std::collections::HashSet;

use super::edit::{Change, Edit, Origin, RowRange};
use super::suffix::suffixes;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// What is replaced: a tensor of the base, or rows of one.
pub(super) type Target = (String, Option<RowRange>);

/// The tensors of an adapter that replace one tensor of the base.
#[derive(Default)]
pub(super) struct Replaced<'a> {
    module: String,
    /// A parameter under its own name.
    pub(super) plain: Option<Cow<'a, Source>>,
    /// One of `modules_to_save`.
    pub(super) saved: Option<Cow<'a, Source>>,
    /// One of a `base_layer`.
    pub(super) base_layer: Option<Cow<'a, Source>>,
    /// A tensor of a file beside the adapter's own, where that one has none.
    pub(super) extra: Option<&'a Source>,
}

impl<'a> Replaced<'a> {
    /// Nothing yet replaces a tensor of this module of the base.
    pub(super) fn of(module: String) -> Self {
        Replaced { module, ..Replaced::default() }
    }

    /// The tensor that replaces it so far.
    pub(super) fn standing(&self) -> Option<&Source> {
        let own = self.saved.as_deref().or(self.plain.as_deref()).or(self.base_layer.as_deref());
        own.or(self.extra)
    }

    pub(super) fn edit(self, (tensor, rows): Target, modules_to_save: &HashSet<&str>) -> Result<Edit> {
        // PEFT saves a module of modules_to_save under its own name, as it does an embedding that was only resized.
        let trained = suffixes(&self.module).any(|name| modules_to_save.contains(name));
        let origin = if trained { Origin::Trained } else { Origin::Resized };
        let (source, origin, twin) = match (self.saved, self.plain, self.base_layer) {
            (Some(saved), twin, None) => (saved, Origin::Trained, twin),
            (None, Some(one), None) | (None, None, Some(one)) => (one, origin, None),
            (Some(one), _, Some(other)) | (None, Some(one), Some(other)) => {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("tensors {} and {} both replace {tensor}", one.name, other.name),
                ));
            }
            // Trained in place: where two sides of the model are one tensor, they stay one.
            (None, None, None) => match self.extra {
                Some(extra) => (Cow::Borrowed(extra), Origin::Resized, None),
                None => return Err(Error::new(Kind::Internal, format!("nothing replaces {tensor}"))),
            },
        };
        let change = Change::Replace { source: source.into_owned(), origin, twin: twin.map(Cow::into_owned) };
        Ok(Edit { tensor, rows, module: self.module, change })
    }
}
