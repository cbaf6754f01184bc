//! Self-contained assignments: a worker needs no plan.

use std::time::Duration;

use shardfuse_merge::plan::task::{
    Assignment, Fill, Gauge, Job, Measured, Work, objects_of, step_sources, tensor_sources, tensors_of,
};
use shardfuse_merge::recipe::{MeasureId, Recipe};
use shardfuse_merge::{Error, Kind, Result};

use super::Driver;
use crate::failure::join;
use crate::schedule::{Epoch, Piece, TaskId};

impl Driver {
    pub(super) fn assignment(
        &self,
        task: TaskId,
        epoch: Epoch,
        pieces: &[Piece],
        lease: Duration,
    ) -> Result<Assignment> {
        let plan = &self.ready.plan;
        let pieces: Vec<u32> = pieces.iter().map(|p| p.0).collect();
        let (objects, job) = match self.ready.tasks[task.0 as usize].work {
            Work::Fill { file, .. } => {
                let tensors = tensors_of(plan, file, &pieces);
                let out = &plan.output.files[file as usize];
                let measured = self.facts(task, tensors.iter().flat_map(|t| Recipe::needs(&t.recipe)).collect())?;
                let fill = Fill {
                    url: join(&self.ready.output, &out.name)?.to_string(),
                    upload: self.ready.uploads[file as usize].as_str().to_owned(),
                    size: out.size,
                    part_size: plan.spec.part_size,
                    parts: pieces,
                    check: false,
                    header: (self.ready.state.place(&format!("header/{file}"))?.to_string(), out.header_length()),
                    measured,
                    tensors,
                };
                (objects_of(plan, tensor_sources(&fill.tensors)), Job::Fill(fill))
            }
            Work::Measure { id, .. } => {
                let measure = plan.measures[id.0 as usize].clone();
                let measured = self.facts(task, measure.needs.clone())?;
                let sources = std::iter::once(&measure.start).chain(step_sources(&measure.steps));
                (objects_of(plan, sources), Job::Gauge(Gauge { blocks: pieces, measured, measure: measure.clone() }))
            }
        };
        Ok(Assignment {
            merge: self.setup.label.clone(),
            task: task.0,
            epoch: epoch.0,
            lease_ms: lease.as_millis() as u64,
            objects,
            job,
        })
    }

    /// Where the measurements lie that a task needs.
    fn facts(&self, task: TaskId, mut needs: Vec<MeasureId>) -> Result<Vec<Measured>> {
        needs.sort_unstable();
        needs.dedup();
        let missing = |id: MeasureId| {
            Error::new(Kind::Internal, format!("task {task} needs measurement {} before it is there", id.0))
        };
        needs.into_iter().map(|id| self.measured.get(&id.0).cloned().ok_or_else(|| missing(id))).collect()
    }
}
