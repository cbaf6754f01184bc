//! What a coordinator takes up when it starts, and what it does not begin by itself.

use std::time::Duration;

use tracing::{info, warn};

use super::actor::Hub;
use super::clock::clock;
use super::merges::{Merge, Phase};
use super::report::{Report, What};
use super::saving::Saving;
use crate::happening::Happening;
use crate::registry::{MergeId, Record};

/// Between two attempts to read a record that the store did not give.
const READ_AGAIN: Duration = Duration::from_secs(30);

impl Hub {
    /// Goes on with a merge of an earlier coordinator, or holds it.
    pub(super) fn take_up(&mut self, id: MergeId, mut record: Record) {
        let changed = record.note_start();
        let arrival = self.next();
        let mut merge = Merge::new(&id, record, arrival);
        merge.saving = Saving::read();
        let what = match &merge.phase {
            Phase::Ended(_) => None,
            Phase::Held => Some("held: the coordinator was killed over it; shardfuse retry begins it again"),
            _ => Some("the coordinator was started again; the merge goes on from its journal"),
        };
        what.into_iter().for_each(|what| merge.happenings.add(Happening::step(clock(), what)));
        match &merge.phase {
            Phase::Ended(_) => {}
            Phase::Held => {
                let reason = merge.record.held.as_deref().unwrap_or_default();
                warn!(merge = %id, reason, "the merge is held; shardfuse retry begins it again");
            }
            _ if merge.is_suspect() => {
                warn!(merge = %id, "the coordinator before was killed while it planned this merge; it is tried once more");
            }
            _ => info!(merge = %id, output = merge.record.spec.output, "going on with a merge"),
        }
        self.merges.insert(id.clone(), merge);
        if changed {
            // Before the merge is begun again, so that one death counts once.
            self.save(&id, None);
        }
    }

    /// Asks again for records that the store did not give when the coordinator started.
    pub(super) fn read_again(&mut self, mut ids: Vec<MergeId>) {
        let (Some(registry), reports) = (self.registry.clone(), self.reports.clone()) else { return };
        if ids.is_empty() {
            return;
        }
        self.tasks.spawn(async move {
            while !ids.is_empty() {
                tokio::time::sleep(READ_AGAIN).await;
                let mut later = Vec::new();
                for id in ids {
                    match registry.again(&id).await {
                        Ok(Some(record)) => {
                            let what = What::Found(Box::new(record));
                            let _ = reports.send(Report { merge: id, run: 0, what });
                        }
                        Ok(None) => {}
                        Err(e) => {
                            warn!(merge = %id, error = %e, "a record still cannot be read");
                            later.push(id);
                        }
                    }
                }
                ids = later;
            }
        });
    }

    /// A record that was read late. One that was asked for again meanwhile is known.
    pub(super) fn found_late(&mut self, id: MergeId, record: Record) {
        if !self.merges.contains_key(&id) {
            self.take_up(id, record);
            self.start_queued();
        }
    }
}
