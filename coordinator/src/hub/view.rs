//! Merges and workers as they are shown.

use std::sync::Arc;
use std::time::Duration;

use shardfuse_merge::spec::{MergeSpec, OPTIONS, SpecOption};
use shardfuse_merge::{DeviceClass, Error};
use shardfuse_proto::v1;

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
///
/// A merge that a coordinator was killed over, twice in a row while it planned it, is `held` when the next one starts, until
/// somebody lets it try again.
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
    /// It is not begun until somebody says so.
    Held,
}

impl Stage {
    /// All of them, in the order of a merge's life.
    pub const ALL: [Stage; 8] = [
        Stage::Queued,
        Stage::Planning,
        Stage::Running,
        Stage::Publishing,
        Stage::Done,
        Stage::Failed,
        Stage::Cancelled,
        Stage::Held,
    ];

    /// Whether nothing more will happen by itself.
    pub fn has_ended(self) -> bool {
        matches!(self, Stage::Done | Stage::Failed | Stage::Cancelled | Stage::Held)
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
            Stage::Held => "held",
        }
    }
}

/// A merge as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its id.
    pub id: MergeId,
    /// What is merged.
    pub spec: Arc<MergeSpec>,
    /// Where it stands.
    pub stage: Stage,
    /// How far it is.
    pub progress: Progress,
    /// The plan's digest, once there is one.
    pub plan: Option<String>,
    /// The device class, once it is fixed.
    pub device_class: Option<DeviceClass>,
    /// Higher goes first.
    pub priority: i32,
    /// When it was asked for, in milliseconds since 1970.
    pub submitted: u64,
    /// When it was begun first, likewise. It may have waited for its turn before.
    pub began: Option<u64>,
    /// When it ended, likewise.
    pub ended: Option<u64>,
    /// Why it failed, or is held.
    pub failure: Option<Error>,
    /// What the submitter should know.
    pub remarks: Vec<String>,
    /// The worker that it waits for, in words. Waiting is no fault: the merge goes on when one comes.
    pub waiting: Option<String>,
    /// The trace that it belongs to, as 32 hex digits, where one is kept.
    pub trace: Option<String>,
}

impl View {
    /// About how many bytes it has as a message.
    pub(super) fn bytes(&self) -> usize {
        /// Numbers, times, tags and lengths.
        const FIXED: usize = 256;
        /// Of an adapter or an option, beside its texts.
        const EACH: usize = 16;
        let spec = &self.spec;
        let places: usize = spec.places().map(|(_, url)| url.len() + EACH).sum();
        let values = |option: &SpecOption| {
            option.get(spec).iter().map(|value| option.field.len() + value.len() + EACH).sum::<usize>()
        };
        let options: usize = OPTIONS.iter().map(values).sum();
        let failure = self.failure.as_ref().map_or(0, |e| e.message().len() + e.advice().map_or(0, str::len));
        let remarks: usize = self.remarks.iter().map(|text| text.len() + EACH).sum();
        FIXED + places + options + failure + remarks
    }
}

/// Merges of a list, the newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// The merges.
    pub merges: Vec<View>,
    /// After which merge the next page begins; `None` if this is the last one.
    pub next: Option<Cursor>,
}

/// A place in the list of merges, which is sorted by the time of submission. It stays right while merges come and go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When the merge before this place was asked for, in milliseconds since 1970.
    pub submitted: u64,
    /// That merge.
    pub id: MergeId,
}

impl Cursor {
    /// From the text of [`Display`](std::fmt::Display); `None` for anything else.
    pub fn parse(text: &str) -> Option<Cursor> {
        let (submitted, id) = text.split_once('-')?;
        Some(Cursor { submitted: submitted.parse().ok()?, id: MergeId::parse(id)? })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.submitted, self.id)
    }
}

/// A worker as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerView {
    /// Its number.
    pub id: WorkerId,
    /// Where it runs, for people.
    pub name: String,
    /// Its device class.
    pub device_class: DeviceClass,
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
    /// Whether it has told what it counts since it connected.
    pub told: bool,
    /// Bytes of parts that it put since it began.
    pub bytes_put: u64,
    /// Bytes of inputs that it read since it began.
    pub bytes_read: u64,
    /// Bytes of its memory budget in use.
    pub memory_used: u64,
    /// Parts and blocks by the stage that they were in when it was last heard of.
    pub stages: v1::Stages,
    /// How long nothing was heard of it.
    pub silent: Duration,
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
