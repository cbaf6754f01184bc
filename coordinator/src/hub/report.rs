//! What an active merge's task tells the hub, and what the hub tells it.

use shardfuse_merge::plan::report::Report as PlanReport;
use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::{Mailbox, Notice, Progress, Summary};
use crate::registry::{MergeId, Record};

/// Why an active merge is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Halt {
    /// Somebody wants it to stop.
    Cancel { discard: bool },
    /// The coordinator stops; its successor goes on.
    Pause,
}

/// What is told to the hub.
pub(super) struct Report {
    pub(super) merge: MergeId,
    pub(super) run: u64,
    pub(super) what: What,
}

pub(super) enum What {
    /// There is a plan.
    Planned { plan: String, remarks: Vec<String>, report: Box<PlanReport> },
    /// The output is opened: what the submitter allowed is done, and must not be done again. Nothing is planned any more.
    Admitted { noted: oneshot::Sender<()> },
    /// Tasks can be given out.
    Running {
        label: String,
        class: DeviceClass,
        mailbox: Mailbox,
        progress: watch::Receiver<Progress>,
        trace: Option<String>,
    },
    /// The driver says something.
    Notice(Notice),
    /// It is over.
    Ended(End),
    /// Its record was written, or not.
    Saved { version: u64, result: Result<()> },
    /// Its record was read late.
    Found(Box<Record>),
}

/// How it went.
pub(super) enum End {
    /// The output is published; without a summary it was so before.
    Done(Option<Box<Summary>>),
    Failed(Error),
    Cancelled(Error),
    Paused(Error),
}

/// Tells the hub. Says that the merge failed if it goes away without having said how it ended.
pub(super) struct Tell {
    pub(super) merge: MergeId,
    pub(super) run: u64,
    pub(super) to: mpsc::UnboundedSender<Report>,
    pub(super) ended: bool,
}

impl Tell {
    pub(super) fn say(&self, what: What) {
        // A hub that is gone listens to nobody.
        let _ = self.to.send(Report { merge: self.merge.clone(), run: self.run, what });
    }
}

impl Drop for Tell {
    fn drop(&mut self) {
        if !self.ended {
            let error = Error::new(Kind::Internal, "the merge's task broke off; the log says where");
            self.say(What::Ended(End::Failed(error)));
        }
    }
}

/// How a merge ends that somebody stopped.
pub(super) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "stopped before the end").hint("start the same merge again to go on where it stopped")
}
