//! Tasks: the units that are leased, and the self-contained assignments that a worker gets.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::inventory::Object;
use crate::inventory::Source;
use crate::output::{OutputFile, Parts};
use crate::recipe::{Placed, Recipe};
use crate::statistic::{Kind, Statistic, StatisticId};

/// Parts of the usual size that one task makes, at the most.
const RUN: u64 = 4;
/// Parts that one task has the store copy, at the most. A copy costs a worker nothing but the request.
const COPIES: usize = 64;
/// Bytes of weight that one task of a statistic reads, about.
const REDUCE_BYTES: u64 = 256 << 20;

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Parts `first..end` of an output file.
    Fill {
        /// The file's number in the plan.
        file: u32,
        /// The first part.
        first: u32,
        /// One past the last.
        end: u32,
    },
    /// Row blocks `first..end` of a statistic.
    Reduce {
        /// The statistic.
        id: StatisticId,
        /// The first block.
        first: u32,
        /// One past the last.
        end: u32,
    },
}

impl Work {
    /// What is reported one by one: parts, or blocks.
    pub fn pieces(&self) -> Range<u32> {
        match *self {
            Work::Fill { first, end, .. } | Work::Reduce { first, end, .. } => first..end,
        }
    }
}

/// A unit of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// What is done.
    pub work: Work,
    /// Tasks that must be finished first, by number.
    pub after: Vec<u32>,
    /// Tasks of one affinity read the same factors.
    pub affinity: u64,
    /// The bytes that it produces.
    pub bytes: u64,
}

/// Cuts a plan into tasks: statistics first, then the files in order.
pub fn tasks(plan: &Plan) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut of_statistic: Vec<Vec<u32>> = Vec::new();
    for (s, statistic) in plan.statistics.iter().enumerate() {
        let after: Vec<u32> =
            statistic.needs.iter().flat_map(|id| of_statistic[id.0 as usize].iter().copied()).collect();
        let (rows, _) = statistic.start.matrix();
        let (block_rows, blocks) = (statistic.block_rows(), statistic.blocks());
        // The first rows of a scheme may take all of its bytes.
        let block_bytes = match statistic.start.as_plain() {
            Some(_) => statistic.start.bytes_of(0..rows.min(1)).saturating_mul(block_rows),
            None => statistic.start.bytes_of(0..rows.min(block_rows)),
        };
        let run = (REDUCE_BYTES / block_bytes.max(1)).clamp(1, u64::from(blocks)) as u32;
        let mut numbers = Vec::new();
        for first in (0..blocks).step_by(run as usize) {
            let end = (first + run).min(blocks);
            numbers.push(tasks.len() as u32);
            let bytes = u64::from(end - first) * block_bytes;
            tasks.push(Task {
                work: Work::Reduce { id: StatisticId(s as u32), first, end },
                after: after.clone(),
                affinity: 1 << 32 | s as u64,
                bytes,
            });
        }
        of_statistic.push(numbers);
    }
    // Nothing is encoded before it is known how much of every delta survives.
    let survival = plan.statistics.iter().zip(&of_statistic);
    let survival = survival.filter(|(statistic, _)| matches!(statistic.kind, Kind::Survival { .. }));
    let survival: Vec<u32> = survival.flat_map(|(_, tasks)| tasks.iter().copied()).collect();
    for (f, file) in plan.output.files.iter().enumerate() {
        for parts in together(file, RUN * plan.spec.part_size) {
            let range = file.cut.parts.span(&parts);
            let mut after: Vec<u32> = overlapping(&file.tensors, &range)
                .flat_map(|t| t.recipe.statistics())
                .flat_map(|id| of_statistic[id.0 as usize].iter().copied())
                .collect();
            if overlapping(&file.tensors, &range).any(|t| matches!(t.recipe, Recipe::Requantise(_))) {
                after.extend(&survival);
            }
            after.sort_unstable();
            after.dedup();
            tasks.push(Task {
                work: Work::Fill { file: f as u32, first: parts.start, end: parts.end },
                after,
                affinity: f as u64,
                bytes: range.end - range.start,
            });
        }
    }
    tasks
}

/// The parts of a file, those of one task together: neighbours that do not change, or others of so many bytes.
fn together(file: &OutputFile, bytes: u64) -> Vec<Range<u32>> {
    let mut tasks: Vec<(Range<u32>, bool)> = Vec::new();
    for ((number, part), copied) in (0u32..).zip(file.cut.parts.iter()).zip(file.copies()) {
        let copied = copied.is_some();
        match tasks.last_mut() {
            Some((parts, like))
                if *like == copied
                    && match copied {
                        true => parts.len() < COPIES,
                        false => part.end - file.cut.parts.span(parts).start <= bytes,
                    } =>
            {
                parts.end = number + 1
            }
            _ => tasks.push((number..number + 1, copied)),
        }
    }
    tasks.into_iter().map(|(parts, _)| parts).collect()
}

/// The tensors that a byte range of a file touches.
pub fn overlapping<'a>(tensors: &'a [Placed], range: &Range<u64>) -> impl Iterator<Item = &'a Placed> {
    let range = range.clone();
    let first = tensors.partition_point(|t| t.offset + t.length <= range.start);
    tensors[first..].iter().take_while(move |t| t.offset < range.end).filter(|t| t.length > 0)
}

/// Where the value of a statistic lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticValue {
    /// The statistic.
    pub id: StatisticId,
    /// The object.
    pub url: String,
    /// BLAKE3 of the object, as hex.
    pub digest: String,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its number in the file.
    pub number: u32,
    /// Its bytes in the file.
    pub bytes: Range<u64>,
    /// Whether its digest is wanted if the store copies it: then it is read, too.
    pub digest: bool,
}

impl Part {
    /// All parts of a file, without digests of what the store copies.
    pub fn all(parts: &Parts) -> Vec<Part> {
        (0..).zip(parts.iter()).map(|(number, bytes)| Part { number, bytes, digest: false }).collect()
    }
}

/// Parts of a file to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// The file's URL.
    pub url: String,
    /// The upload that its parts go to.
    pub upload: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The parts that are missing.
    pub parts: Vec<Part>,
    /// Whether the store is asked to copy parts that do not change.
    pub copied: bool,
    /// Compute the parts and put nothing: those of another worker are checked.
    pub check: bool,
    /// Where the header's bytes lie, and how many they are; they begin the file.
    pub header: (String, u64),
    /// The tensors that these parts touch.
    pub tensors: Vec<Placed>,
    /// The statistics that their recipes need.
    pub statistics: Vec<StatisticValue>,
}

/// Blocks of a statistic to reduce.
#[derive(Debug, Clone, PartialEq)]
pub struct Reduce {
    /// The statistic.
    pub statistic: Statistic,
    /// The blocks that are missing.
    pub blocks: Vec<u32>,
    /// The statistics that its steps need.
    pub statistics: Vec<StatisticValue>,
}

/// The work of an assignment.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Fill parts of a file.
    Fill(Fill),
    /// Reduce blocks of a statistic.
    Reduce(Reduce),
}

impl Job {
    /// The values of statistics that it brings.
    pub fn statistics(&self) -> &[StatisticValue] {
        match self {
            Job::Fill(fill) => &fill.statistics,
            Job::Reduce(reduce) => &reduce.statistics,
        }
    }
}

/// A self-contained assignment: a worker needs no plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The merge that the task belongs to.
    pub merge: String,
    /// The task.
    pub task: u32,
    /// The attempt.
    pub epoch: u32,
    /// Milliseconds until the lease ends, from receipt.
    pub lease_ms: u64,
    /// The input objects, by the [`crate::inventory::ObjectId`] of the sources.
    pub objects: Vec<(u32, Object)>,
    /// What is done.
    pub job: Job,
}

/// The tensors of a file that `parts` touch, in their order.
pub fn tensors_of(file: &OutputFile, parts: &[Part]) -> Vec<Placed> {
    let mut tensors: Vec<Placed> = Vec::new();
    for part in parts {
        for t in overlapping(&file.tensors, &part.bytes) {
            if tensors.last().is_none_or(|last| last.offset != t.offset) {
                tensors.push(t.clone());
            }
        }
    }
    tensors
}

/// The input objects that stored tensors lie in.
pub fn objects_of<'a>(plan: &Plan, sources: impl Iterator<Item = &'a Source>) -> Vec<(u32, Object)> {
    let mut ids: Vec<u32> = sources.map(|s| s.object.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| (id, plan.objects[id as usize].clone())).collect()
}

/// Every source that a list of tensors reads.
pub fn tensor_sources(tensors: &[Placed]) -> impl Iterator<Item = &Source> {
    tensors.iter().flat_map(|t| Recipe::sources(&t.recipe))
}
