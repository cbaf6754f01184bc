//! The end of a merge: publication, or what is left of one that failed.

use std::collections::BTreeMap;

use shardfuse_merge::{Kind, Result};

use super::{Driver, Notice, Summary};
use crate::admit::discard;
use crate::failure::io;
use crate::publish;

impl Driver {
    pub(super) async fn finish(mut self, outcome: Result<()>) -> Result<Summary> {
        if outcome.is_ok() {
            self.show(true);
            (self.notify)(Notice::Publishing);
        }
        self.sessions.clear();
        // What workers reported before the end is journaled before the end is told.
        let flushed = self.persister.flush().await;
        let outcome = outcome.and(flushed);
        match outcome {
            Ok(()) => {
                let notes = self.without_effect();
                let manifest = publish::publish(&self.ready, &self.pieces, &self.setup.device_class, notes).await?;
                let counters = self.schedule.counters();
                let pieces_new = self.pieces.len() as u64 - self.kept;
                Ok(Summary { manifest, pieces_new, pieces_kept: self.kept, retries: counters.retries })
            }
            Err(e) if resumable(e.kind()) => Err(e),
            Err(e) => {
                self.clean_up().await?;
                Err(e)
            }
        }
    }

    /// Deltas of which a factor is zero throughout.
    fn without_effect(&self) -> Vec<String> {
        let mut zero: BTreeMap<&str, bool> = BTreeMap::new();
        for piece in self.pieces.values() {
            piece.zero.iter().for_each(|f| _ = zero.entry(f).or_insert(true));
            piece.live.iter().for_each(|f| _ = zero.insert(f, false));
        }
        zero.into_iter().filter(|(_, z)| *z).map(|(f, _)| format!("{f} is all zero: its delta has no effect")).collect()
    }

    /// A failure that will be the same next time leaves neither weights nor journal behind.
    async fn clean_up(&self) -> Result<()> {
        let store = self.ready.stores.open(&self.ready.output);
        self.ready.state.check_epoch(self.ready.epoch).await?;
        discard(&self.ready.state, &*store).await?;
        if self.ready.made_folder {
            store.remove_empty_dir(&self.ready.output).await.map_err(io)?;
        }
        Ok(())
    }
}

/// Failures of the surroundings: what was done stays, and the same command goes on.
fn resumable(kind: Kind) -> bool {
    matches!(kind, Kind::Interrupted | Kind::NoSpace | Kind::Io | Kind::Internal | Kind::OutputBusy)
}
