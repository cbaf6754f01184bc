//! Merges and workers as they are shown.

use shardfuse_merge::Error;
use shardfuse_merge::plan::spec::MergeSpec;

use crate::driver::Progress;
use crate::registry::MergeId;
use crate::schedule::WorkerId;

/// Where a merge stands.
///
/// ```text
/// queued --> planning --> running --> publishing --> done
///    ^           |           |            |
///    |           '-----------+------------+--------> failed, cancelled
///    '----------- submitted again ------------------------'
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Known, and not begun.
    Queued,
    /// Headers are read, the output is opened.
    Planning,
    /// Workers fill the output.
    Running,
    /// The output becomes visible.
    Publishing,
    /// The output is published.
    Done,
    /// It ended with a failure.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl Stage {
    /// All of them, in the order of a merge's life.
    pub const ALL: [Stage; 7] = [
        Stage::Queued,
        Stage::Planning,
        Stage::Running,
        Stage::Publishing,
        Stage::Done,
        Stage::Failed,
        Stage::Cancelled,
    ];

    /// Whether nothing more will happen by itself.
    pub fn has_ended(self) -> bool {
        matches!(self, Stage::Done | Stage::Failed | Stage::Cancelled)
    }

    /// The name, as metrics and pages show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Queued => "queued",
            Stage::Planning => "planning",
            Stage::Running => "running",
            Stage::Publishing => "publishing",
            Stage::Done => "done",
            Stage::Failed => "failed",
            Stage::Cancelled => "cancelled",
        }
    }
}

/// A merge as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its id.
    pub id: MergeId,
    /// What is merged.
    pub spec: MergeSpec,
    /// Where it stands.
    pub stage: Stage,
    /// How far it is.
    pub progress: Progress,
    /// The plan's digest, once there is one.
    pub plan: Option<String>,
    /// The device class, once it is fixed.
    pub device_class: Option<String>,
    /// Higher goes first.
    pub priority: i32,
    /// When it was asked for, in milliseconds since 1970.
    pub submitted: u64,
    /// When it ended, likewise.
    pub ended: Option<u64>,
    /// Why it failed.
    pub failure: Option<Error>,
    /// What the submitter should know.
    pub remarks: Vec<String>,
}

/// A worker as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its number.
    pub id: WorkerId,
    /// Where it runs, for people.
    pub name: String,
    /// Its device class.
    pub device_class: String,
    /// Tasks that it takes at a time.
    pub slots: u32,
    /// Its memory budget in bytes.
    pub memory: u64,
    /// Whether its session is open and it was heard of lately.
    pub present: bool,
    /// Whether it takes nothing new.
    pub draining: bool,
    /// Attempts that it said it runs.
    pub running: u32,
    /// Bytes of parts that it put since it began.
    pub bytes_put: u64,
    /// Bytes of inputs that it read since it began.
    pub bytes_read: u64,
    /// Bytes of its memory budget in use.
    pub memory_used: u64,
}

impl WorkerView {
    /// What [`Self::state`] may say.
    pub const STATES: [&'static str; 4] = ["ready", "busy", "draining", "lost"];

    /// What it is at, as metrics and pages show it.
    pub fn state(&self) -> &'static str {
        match (self.present, self.draining, self.running) {
            (false, ..) => "lost",
            (true, true, _) => "draining",
            (true, false, 0) => "ready",
            (true, false, _) => "busy",
        }
    }
}
