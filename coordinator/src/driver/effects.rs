//! What each adapter did to the output, put together from what workers said of the parts. An adapter that did nothing is an error
//! before anything is published.

use shardfuse_merge::Result;
use shardfuse_merge::plan::usage::{Done, Usage, expect_change};
use tracing::warn;

use super::actor::Driver;
use crate::journal::{Effect, PieceRecord};

impl Driver {
    /// Refuses a merge in which an adapter changes nothing, unless the user allowed it.
    ///
    /// # Errors
    /// `no_change`.
    pub(super) fn expect_change(&self) -> Result<()> {
        if self.setup.allow_no_change { Ok(()) } else { self.changes() }
    }

    /// Fails if an adapter changes nothing.
    pub(super) fn changes(&self) -> Result<()> {
        let parts = self.pieces.values().filter(|piece| self.is_part(piece.task));
        match done(&self.opened.plan.uses, parts) {
            Some(done) => expect_change(&self.opened.plan.uses, &done),
            None => {
                warn!("a worker of an earlier version did not say whether its parts change: that is not checked");
                Ok(())
            }
        }
    }
}

/// What each use did in all parts; `None` if a part does not tell.
fn done<'a>(uses: &[Usage], parts: impl Iterator<Item = &'a PieceRecord>) -> Option<Vec<Done>> {
    let mut all = vec![Done { moved: false, zero: true, largest: Some(0.0) }; uses.len()];
    for part in parts {
        for Effect { adapter, moved, zero, largest } in part.effects.as_ref()? {
            let Some(done) = all.get_mut(usize::from(*adapter)) else { continue };
            done.moved |= moved;
            done.zero &= zero;
            done.largest = done.largest.zip(largest.map(f32::from_bits)).map(|(one, other)| one.max(other));
        }
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_that_changes_is_enough_and_one_that_does_not_tell_leaves_it_open() {
        let usage = || Usage { path: String::new(), tensors: 1, replaces: false };
        let of = |effects: Option<Vec<(u16, bool, f32)>>| PieceRecord {
            effects: effects.map(|all| {
                let effect = |(adapter, moved, most): (u16, bool, f32)| Effect {
                    adapter,
                    moved,
                    zero: !moved,
                    largest: Some(most.to_bits()),
                };
                all.into_iter().map(effect).collect()
            }),
            ..PieceRecord::of_one_byte(0, 0)
        };
        let parts = [of(Some(vec![(0, false, 1e-9), (1, false, 0.0)])), of(Some(vec![(1, true, 0.0), (9, true, 0.0)]))];
        let told = done(&[usage(), usage()], parts.iter()).unwrap();
        let told: Vec<_> = told.iter().map(|done| (done.moved, done.zero, done.largest)).collect();
        assert_eq!(told, [(false, true, Some(1e-9)), (true, false, Some(0.0))]);
        assert_eq!(done(&[usage()], parts.iter().chain([&of(None)])), None);
    }
}
