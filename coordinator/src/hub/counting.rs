//! Counts the merges.

use super::actor::Hub;
use super::census::Census;
use super::merges::{Merge, Phase};
use super::view::Stage;
use crate::driver::Progress;

impl Hub {
    pub(super) fn census(&self) -> Census {
        let mut stages: Vec<(Stage, u32)> = Stage::ALL.map(|stage| (stage, 0)).into();
        let (mut active, mut without_class) = (Vec::new(), 0);
        for (id, merge) in &self.merges {
            let stage = merge.stage();
            if let Some((_, count)) = stages.iter_mut().find(|(s, _)| *s == stage) {
                *count += 1;
            }
            if let Some(progress) = progress_of(merge) {
                active.push((id.clone(), progress));
            }
            if matches!(merge.phase, Phase::Queued) && self.first_class(id).is_none() {
                without_class += 1;
            }
        }
        Census { stages, active, without_class }
    }
}

fn progress_of(merge: &Merge) -> Option<Progress> {
    let Phase::Active(active) = &merge.phase else { return None };
    active.running.as_ref().map(|running| running.progress.borrow().clone())
}
