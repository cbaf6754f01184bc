//! Merges in numbers, as metrics show them.

use super::view::Stage;
use crate::driver::Progress;
use crate::registry::MergeId;

/// Merges in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// How many there are of each stage, every stage named. Ended ones count as long as they are remembered.
    pub stages: Vec<(Stage, u32)>,
    /// Those that run or are published, and how far they are: about as many as may be active at a time.
    pub active: Vec<(MergeId, Progress)>,
    /// Queued ones that cannot be planned before the first worker of their device joins.
    pub without_class: u32,
}

impl Census {
    /// Tasks that nobody works on.
    pub fn pending(&self) -> u64 {
        let waiting = |p: &Progress| p.tasks_total.saturating_sub(p.tasks_done).saturating_sub(p.tasks_running);
        self.active.iter().map(|(_, p)| u64::from(waiting(p))).sum::<u64>() + u64::from(self.without_class)
    }

    /// Tasks that run or could: how many slots would be of use now. A merge that waits for the first worker of its device
    /// counts as one, since without a worker its tasks cannot be known.
    pub fn runnable(&self) -> u64 {
        self.active.iter().map(|(_, p)| u64::from(p.demand)).sum::<u64>() + u64::from(self.without_class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_first_worker_asks_for_one() {
        let id = |text: &str| MergeId::parse(text).unwrap();
        let progress = |tasks_done, tasks_running, demand| Progress {
            tasks_done,
            tasks_running,
            tasks_total: 10,
            demand,
            ..Progress::default()
        };
        let active = vec![(id("0000000000000001"), progress(3, 2, 4)), (id("0000000000000002"), progress(10, 0, 0))];
        let mut census = Census { stages: Vec::new(), active, without_class: 0 };
        // Of five waiting tasks, three wait for others.
        assert_eq!((census.pending(), census.runnable()), (5, 4));
        census.active.clear();
        assert_eq!((census.pending(), census.runnable()), (0, 0));
        census.without_class = 2;
        assert_eq!((census.pending(), census.runnable()), (2, 2));
    }
}
