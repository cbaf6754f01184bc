//! The end of a merge: publication, or what is left of one that failed.

use std::collections::BTreeMap;

use shardfuse_merge::{Kind, Result};

use super::actor::Driver;
use super::findings::Lost;
use super::parts::Parts;
use super::setup::{Notice, Summary};
use crate::failure::of_begun;
use crate::journal::{Record, Writer};
use crate::publish::Publishing;
use crate::{clean, publish};

impl Driver {
    pub(super) async fn finish(mut self, outcome: Result<()>) -> Result<Summary> {
        let outcome = outcome.and_then(|()| self.expect_change());
        if outcome.is_ok() {
            self.show(true);
            (self.notify)(Notice::Publishing);
        }
        self.sessions.clear();
        // What workers reported before the end is journaled before the end is told.
        let flushed = self.persister.flush().await;
        let flushed = match (flushed, self.lost.take()) {
            (Ok(mut journal), Some(lost)) => note(&mut journal, lost).await.map(|()| journal),
            (flushed, _) => flushed,
        };
        let (e, journal, keep) = match (outcome, flushed) {
            (Ok(()), Ok(mut journal)) => {
                let how = Publishing {
                    made_by: format!("shardfuse {}", self.setup.version),
                    device_class: &self.setup.device_class,
                    notes: self.notes(),
                    survived: self.survival.figures(),
                    verified: self.setup.verify_parts > 0.0,
                };
                match publish::publish(&self.opened, &self.pieces, &mut journal, how).await {
                    Ok(manifest) => {
                        let counters = self.schedule.counters();
                        let Parts { new, kept } = self.parts;
                        let retries = counters.retries;
                        return Ok(Summary { manifest, parts_new: new, parts_kept: kept, retries });
                    }
                    // Every part is there: whatever was in the way, it is not the merge's work that failed.
                    Err(e) => (e, Some(journal), true),
                }
            }
            (Err(e), flushed) => {
                let keep = resumable(e.kind());
                (e, flushed.ok(), keep)
            }
            (Ok(()), Err(e)) => (e, None, true),
        };
        if let Some(busy) = clean::displaced(&self.opened).await {
            // Whatever failed, it failed because somebody else finished or removed what it needed.
            return Err(busy);
        }
        if keep {
            clean::leave(&self.opened, journal).await;
        } else {
            // A failure that will be the same next time leaves neither weights nor journal behind.
            clean::abandon(&self.opened).await?;
        }
        Err(of_begun(e))
    }

    /// What the manifest says beside the files. What was allowed comes first: the notes on factors may be many.
    fn notes(&self) -> Vec<String> {
        let allowed = self.changes().err().map(|idle| idle.message().to_owned());
        allowed.into_iter().chain(self.verified.clone()).chain(self.without_effect()).collect()
    }

    /// Deltas with a factor that is zero throughout.
    fn without_effect(&self) -> Vec<String> {
        let mut zero: BTreeMap<&str, bool> = BTreeMap::new();
        for piece in self.pieces.values() {
            piece.zero.iter().for_each(|f| _ = zero.entry(f).or_insert(true));
            piece.live.iter().for_each(|f| _ = zero.insert(f, false));
        }
        zero.into_iter().filter(|(_, z)| *z).map(|(f, _)| format!("{f} is all zero: its delta has no effect")).collect()
    }
}

/// Writes down which parts must be made again, and who gets none of them.
async fn note(journal: &mut Writer, lost: Lost) -> Result<()> {
    journal.append(Record::Odd { workers: lost.odd }).await?;
    journal.append(Record::Lost { pieces: lost.pieces }).await
}

/// Failures of the surroundings: what was done stays, and the same command goes on. An input that went away or changed
/// is one of them: it may come back, and until it does the next run names it and touches nothing. So is a merge that changes
/// nothing: `--allow-no-change` publishes what is there.
fn resumable(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Interrupted
            | Kind::NoSpace
            | Kind::Io
            | Kind::NoAccess
            | Kind::Internal
            | Kind::OutputBusy
            | Kind::PartsLost
            | Kind::Unverified
            | Kind::NoChange
            | Kind::MissingFile
            | Kind::InputChanged
    )
}
