//! What a session asks of the pipeline: to do an assignment, to stop beginning parts, to count what it does.

use shardfuse_merge::plan::task::Assignment;
use shardfuse_proto::v1;
use tokio::sync::mpsc;

use crate::Failure;

mod gate;
mod meter;

pub use gate::Gate;
pub use meter::Meter;

/// A part, or a block of a statistic, that is finished and ready to be reported.
pub type Done = v1::PieceDone;

/// What a worker did and uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of parts put since the process began.
    pub bytes_put: u64,
    /// Bytes of inputs read since the process began.
    pub bytes_read: u64,
    /// Bytes of parts that the store copied since the process began.
    pub bytes_copied: u64,
    /// Bytes of the budget in use.
    pub memory_used: u64,
    /// Parts and blocks by the stage that they are in.
    pub stages: v1::Stages,
}

/// What does the work. The pipeline does; tests put a scripted one in its place.
pub(crate) trait Work: Clone + Send + Sync + 'static {
    /// The class whose bits its arithmetic has.
    fn device_class(&self) -> String;
    /// Waits until nothing can be done here any more.
    fn lost(&self) -> impl Future<Output = Failure> + Send {
        std::future::pending()
    }
    /// What heartbeats tell of it.
    fn usage(&self) -> Usage;
    /// Does an assignment. Sends each part or block as it is finished, begins none while the gate is closed, and counts
    /// what it does.
    fn run(
        &self,
        assignment: Assignment,
        done: mpsc::Sender<Done>,
        gate: Gate,
        meter: Meter,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
