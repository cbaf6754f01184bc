//! All output tensors on their way, and the places in them that edits change.

use std::ops::{Index, IndexMut};

use hashbrown::HashMap;

use super::slot::Slot;
use crate::adapter::edit::RowRange;
use crate::error::{Error, Kind, Result};

/// What an edit changes: a parameter, or a portion of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: usize,
    /// The portion's first row.
    portion: Option<u64>,
}

impl Place {
    /// A whole parameter.
    pub(super) fn whole(at: usize) -> Place {
        Place { at, portion: None }
    }
}

impl Index<Place> for Slots {
    type Output = Slot;

    fn index(&self, Place { at, portion }: Place) -> &Slot {
        portion.map_or(&self.all[at], |portion| &self.all[at].portions[&portion])
    }
}

impl IndexMut<Place> for Slots {
    fn index_mut(&mut self, Place { at, portion }: Place) -> &mut Slot {
        let slot = &mut self.all[at];
        match portion {
            None => slot,
            Some(portion) => slot.portions.get_mut(&portion).expect("a place names a portion that was made"),
        }
    }
}

/// All output tensors, in the base's order; new ones at the end.
#[derive(Debug)]
pub(super) struct Slots {
    /// The tensors.
    pub(super) all: Vec<Slot>,
    by_name: HashMap<String, usize>,
}

impl Slots {
    /// None yet, and room for so many.
    pub(super) fn with_room(count: usize) -> Slots {
        Slots { all: Vec::with_capacity(count), by_name: HashMap::with_capacity(count) }
    }

    /// Adds one.
    pub(super) fn push(&mut self, slot: Slot) {
        self.by_name.insert(slot.name.clone(), self.all.len());
        self.all.push(slot);
    }

    /// Whether there is one of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The place of one.
    ///
    /// # Errors
    /// `internal` if there is none: edits name what the base has.
    pub(super) fn at(&self, name: &str) -> Result<usize> {
        self.by_name.get(name).copied().ok_or_else(|| Error::new(Kind::Internal, format!("no slot for {name}")))
    }

    /// The place of what an edit changes. It is parted into portions where the edit is of some rows.
    ///
    /// # Errors
    /// As [`Slots::at`] and [`Slot::part`]; `unsupported` for a whole edit of what is parted.
    pub(super) fn place(&mut self, name: &str, rows: Option<RowRange>, replaces: bool) -> Result<Place> {
        let at = self.at(name)?;
        let slot = &mut self.all[at];
        match rows {
            Some(rows) => {
                slot.part(rows)?;
                Ok(Place { at, portion: Some(rows.first) })
            }
            None if slot.portions.is_empty() || replaces => Ok(Place::whole(at)),
            None => {
                let text = format!("{name} is changed by portions, and then as a whole");
                Err(Error::new(Kind::Unsupported, text).hint("merge the adapters one after another"))
            }
        }
    }

    /// The parameter of a place.
    pub(super) fn parameter(&self, place: Place) -> &Slot {
        &self.all[place.at]
    }

    /// The one of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Slot> {
        self.by_name.get(name).map(|at| &self.all[*at])
    }

    /// Makes the tensor `name` what `from` is; adds it if it is not there.
    ///
    /// # Errors
    /// `internal` if there is no `from`.
    pub(super) fn copy(&mut self, from: &str, name: &str) -> Result<()> {
        let from = self.all[self.at(from)?].clone();
        match self.by_name.get(name) {
            Some(at) => {
                let slot = &mut self.all[*at];
                let positions = std::mem::take(&mut slot.positions);
                *slot =
                    Slot { name: name.to_owned(), positions, before: slot.before.take(), coded: slot.coded, ..from };
            }
            None => self.push(Slot { name: name.to_owned(), positions: Vec::new(), before: None, coded: None, ..from }),
        }
        Ok(())
    }
}
