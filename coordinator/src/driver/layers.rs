//! The layer set of a merge, as far as it is.

use shardfuse_merge::plan::grid::{Layers, State, grid};
use shardfuse_merge::plan::task::Work;

use super::actor::Driver;
use crate::schedule::TaskId;

impl Driver {
    pub(super) fn layers(&self) -> Layers {
        let plan = &self.opened.plan;
        let mut states: Vec<Vec<State>> =
            plan.output.files.iter().map(|file| vec![State::Waiting; file.cut.parts.count() as usize]).collect();
        for (number, task) in (0u32..).zip(&self.opened.tasks) {
            let Work::Fill { file, .. } = task.work else { continue };
            let running = self.schedule.is_running(TaskId(number));
            for part in task.work.pieces() {
                states[file as usize][part as usize] = match self.pieces.contains_key(&(number, part)) {
                    true => State::Done,
                    false if running => State::Running,
                    false => State::Waiting,
                };
            }
        }
        grid(&plan.output.files, |file, part| states[file as usize][part as usize])
    }
}
