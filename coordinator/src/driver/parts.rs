//! How many parts of the output are journaled. The blocks of statistics are pieces too, but no parts.

use std::collections::BTreeMap;

use shardfuse_merge::plan::task::{Task, Work};

use crate::journal::PieceRecord;

/// Parts, by who put them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// By this run.
    pub new: u64,
    /// By earlier runs.
    pub kept: u64,
}

impl Parts {
    /// At the start of a run, which finds these pieces.
    pub fn found(tasks: &[Task], pieces: &BTreeMap<(u32, u32), PieceRecord>) -> Parts {
        let kept = pieces.keys().filter(|(task, _)| is_part(tasks, *task)).count() as u64;
        Parts { new: 0, kept }
    }
}

/// Whether the pieces of a task are parts.
pub(super) fn is_part(tasks: &[Task], task: u32) -> bool {
    matches!(tasks.get(task as usize).map(|t| t.work), Some(Work::Fill { .. }))
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::statistic::StatisticId;

    use super::*;

    #[test]
    fn blocks_of_statistics_are_no_parts() {
        let task = |work| Task { work, bytes: 1, after: Vec::new(), affinity: 0 };
        let statistic = Work::Reduce { id: StatisticId(0), first: 0, end: 3 };
        let tasks = [task(statistic), task(Work::Fill { file: 0, first: 0, end: 2 })];
        let pieces = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)].map(|(t, p)| ((t, p), PieceRecord::of_one_byte(t, p)));
        assert_eq!(Parts::found(&tasks, &pieces.into()), Parts { new: 0, kept: 2 });
    }
}
