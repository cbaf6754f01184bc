//! Tasks: the units that are leased, and the self-contained assignments that a worker gets.

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::inventory::Object;
use crate::recipe::{Measure, MeasureId, Op, Placed, Recipe, Step, matrix};

/// Rows of one block of a measurement. The reduction's order is fixed by it (`crate::fuse::norm`).
pub const BLOCK_ROWS: u64 = crate::fuse::norm::BLOCK_ROWS as u64;
/// Parts that one task holds at the most.
const RUN: u32 = 4;
/// Bytes of weight that one measure task reads, about.
const MEASURE_BYTES: u64 = 256 << 20;

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
    /// Row blocks `first..end` of a measurement.
    Measure {
        /// The measurement.
        id: MeasureId,
        /// The first block.
        first: u32,
        /// One past the last.
        end: u32,
    },
}

impl Work {
    /// The pieces that are reported one by one: parts, or blocks.
    pub fn pieces(&self) -> std::ops::Range<u32> {
        match *self {
            Work::Fill { first, end, .. } | Work::Measure { first, end, .. } => first..end,
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

/// Cuts a plan into tasks: measurements first, then the files in order.
pub fn tasks(plan: &Plan) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut of_measure: Vec<Vec<u32>> = Vec::new();
    for (m, measure) in plan.measures.iter().enumerate() {
        let after: Vec<u32> = measure.needs.iter().flat_map(|id| of_measure[id.0 as usize].iter().copied()).collect();
        let (rows, cols) = matrix(&measure.start.shape);
        let blocks = rows.div_ceil(BLOCK_ROWS) as u32;
        let row_bytes = cols * measure.start.dtype.bitsize() as u64 / 8;
        let run = (MEASURE_BYTES / (row_bytes * BLOCK_ROWS).max(1)).clamp(1, u64::from(blocks)) as u32;
        let mut numbers = Vec::new();
        for first in (0..blocks).step_by(run as usize) {
            let end = (first + run).min(blocks);
            numbers.push(tasks.len() as u32);
            let bytes = u64::from(end - first) * row_bytes * BLOCK_ROWS;
            tasks.push(Task {
                work: Work::Measure { id: MeasureId(m as u32), first, end },
                after: after.clone(),
                affinity: 1 << 32 | m as u64,
                bytes,
            });
        }
        of_measure.push(numbers);
    }
    for (f, file) in plan.output.files.iter().enumerate() {
        let parts = file.parts(plan.spec.part_size);
        for first in (0..parts).step_by(RUN as usize) {
            let end = (first + RUN).min(parts);
            let range = u64::from(first) * plan.spec.part_size..(u64::from(end) * plan.spec.part_size).min(file.size);
            let mut after: Vec<u32> = overlapping(&file.tensors, &range)
                .flat_map(|t| t.recipe.needs())
                .flat_map(|id| of_measure[id.0 as usize].iter().copied())
                .collect();
            after.sort_unstable();
            after.dedup();
            tasks.push(Task {
                work: Work::Fill { file: f as u32, first, end },
                after,
                affinity: f as u64,
                bytes: range.end - range.start,
            });
        }
    }
    tasks
}

/// The tensors that a byte range of a file touches.
pub fn overlapping<'a>(tensors: &'a [Placed], range: &std::ops::Range<u64>) -> impl Iterator<Item = &'a Placed> {
    let range = range.clone();
    let first = tensors.partition_point(|t| t.offset + t.length <= range.start);
    tensors[first..].iter().take_while(move |t| t.offset < range.end).filter(|t| t.length > 0)
}

/// A measured fact: where the norms of a measurement lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The measurement.
    pub id: MeasureId,
    /// The object: one little-endian f64 a column, the sum of squares.
    pub url: String,
    /// BLAKE3 of the object, as hex.
    pub digest: String,
}

/// What a worker is told to fill.
#[derive(Debug, Clone, PartialEq)]
pub struct Fill {
    /// The file's URL.
    pub url: String,
    /// The upload that its parts go to.
    pub upload: String,
    /// The file's size in bytes.
    pub size: u64,
    /// The size of a part.
    pub part_size: u64,
    /// The parts that are missing.
    pub parts: Vec<u32>,
    /// Compute the parts and put nothing: those of another worker are checked.
    pub check: bool,
    /// Where the header's bytes lie, and how many they are; they begin the file.
    pub header: (String, u64),
    /// The tensors that these parts touch.
    pub tensors: Vec<Placed>,
    /// Measured facts that their recipes need.
    pub measured: Vec<Measured>,
}

/// What a worker is told to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// The measurement.
    pub measure: Measure,
    /// The blocks that are missing.
    pub blocks: Vec<u32>,
    /// Measured facts that its steps need.
    pub measured: Vec<Measured>,
}

/// The work of an assignment.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// Fill parts of a file.
    Fill(Fill),
    /// Measure blocks of a tensor.
    Gauge(Gauge),
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
    /// The input objects, by the [`super::inventory::ObjectId`] of the sources.
    pub objects: Vec<(u32, Object)>,
    /// What is done.
    pub job: Job,
}

/// The tensors of a file that `parts` touch, with row lists cut down to the rows in question.
pub fn tensors_of(plan: &Plan, file: u32, parts: &[u32]) -> Vec<Placed> {
    let size = plan.spec.part_size;
    let file = &plan.output.files[file as usize];
    let mut tensors: Vec<Placed> = Vec::new();
    for part in parts {
        let range = u64::from(*part) * size..(u64::from(*part) + 1) * size;
        for t in overlapping(&file.tensors, &range) {
            if tensors.last().is_none_or(|last| last.offset != t.offset) {
                tensors.push(t.clone());
            }
        }
    }
    tensors
}

/// The input objects that tensors or steps read.
pub fn objects_of<'a>(plan: &Plan, sources: impl Iterator<Item = &'a crate::inventory::Source>) -> Vec<(u32, Object)> {
    let mut ids: Vec<u32> = sources.map(|s| s.object.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(|id| (id, plan.objects[id as usize].clone())).collect()
}

/// Every source that a list of steps reads.
pub fn step_sources(steps: &[Step]) -> impl Iterator<Item = &crate::inventory::Source> {
    steps.iter().flat_map(|s: &Step| Op::sources(&s.op))
}

/// Every source that a list of tensors reads.
pub fn tensor_sources(tensors: &[Placed]) -> impl Iterator<Item = &crate::inventory::Source> {
    tensors.iter().flat_map(|t| Recipe::sources(&t.recipe))
}
