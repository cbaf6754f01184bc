//! Self-contained assignments: a worker needs no plan.

use std::time::Duration;

use shardfuse_merge::plan::task::{
    Assignment, Fill, Job, Part, Reduce, StatisticValue, Work, objects_of, tensor_sources, tensors_of,
};
use shardfuse_merge::recipe::{Recipe, sources};
use shardfuse_merge::spec::Digests;
use shardfuse_merge::statistic::StatisticId;
use shardfuse_merge::{Error, Kind, Result};

use super::actor::Driver;
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
        let plan = &self.opened.plan;
        let pieces: Vec<u32> = pieces.iter().map(|p| p.0).collect();
        let (objects, job) = match self.opened.tasks[task.0 as usize].work {
            Work::Fill { file, .. } => {
                let out = &plan.output.files[file as usize];
                let parts = self.parts(file, &pieces)?;
                let tensors = tensors_of(out, &parts);
                let needs = tensors.iter().flat_map(|t| Recipe::statistics(&t.recipe)).collect();
                let statistics = self.statistics(task, needs)?;
                let fill = Fill {
                    url: join(&self.opened.output, &out.name)?.to_string(),
                    upload: self.opened.uploads[file as usize].as_str().to_owned(),
                    size: out.size,
                    parts,
                    copied: out.cut.copied,
                    check: false,
                    header: (self.opened.state.place(&format!("header/{file}"))?.to_string(), out.header_length()),
                    statistics,
                    tensors,
                };
                (objects_of(plan, tensor_sources(&fill.tensors)), Job::Fill(fill))
            }
            Work::Reduce { id, .. } => {
                let statistic = plan.statistics[id.0 as usize].clone();
                let statistics = self.statistics(task, statistic.needs.clone())?;
                let read = statistic.start.tensors().iter().chain(sources(&statistic.steps));
                (
                    objects_of(plan, read),
                    Job::Reduce(Reduce { blocks: pieces, statistics, statistic: statistic.clone() }),
                )
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

    /// Parts of a file. The digest of one that the store copies is wanted if all are and no index has it.
    fn parts(&self, file: u32, numbers: &[u32]) -> Result<Vec<Part>> {
        let (plan, copies) = (&self.opened.plan, &self.opened.copies[file as usize]);
        let complete = plan.spec.digests == Digests::Complete;
        let part = |number: &u32| {
            let bytes = plan.output.files[file as usize].cut.parts.get(*number);
            let bytes = bytes.ok_or_else(|| Error::new(Kind::Internal, format!("file {file} has no part {number}")))?;
            let known = self.opened.known.contains_key(&(file, *number));
            Ok(Part { number: *number, bytes, digest: complete && copies[*number as usize] && !known })
        };
        numbers.iter().map(part).collect()
    }

    /// Where the statistics lie that a task needs.
    fn statistics(&self, task: TaskId, mut needs: Vec<StatisticId>) -> Result<Vec<StatisticValue>> {
        needs.sort_unstable();
        needs.dedup();
        let missing = |id: StatisticId| {
            Error::new(Kind::Internal, format!("task {task} needs statistic {} before it is there", id.0))
        };
        needs.into_iter().map(|id| self.measured.get(&id.0).cloned().ok_or_else(|| missing(id))).collect()
    }
}
