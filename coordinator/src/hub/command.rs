//! What is asked of the hub.

use shardfuse_merge::plan::grid::Layers;
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_proto::v1::from_worker;
use tokio::sync::{mpsc, oneshot, watch};

use super::census::Census;
use super::enrol::Enrolment;
use super::stream::Stretch;
use super::view::{Cursor, Page, View, WorkerView};
use crate::device::Device;
use crate::driver::Summary;
use crate::happening::Happenings;
use crate::outbound::ToWorker;
use crate::registry::MergeId;
use crate::schedule::WorkerId;

/// A merge that somebody asks for.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What is merged.
    pub spec: MergeSpec,
    /// Discard what is in the output.
    pub restart: bool,
    /// Replace what is in the output.
    pub force: bool,
    /// Publish also a merge in which an adapter changes nothing.
    pub allow_no_change: bool,
    /// Higher goes first.
    pub priority: i32,
    /// The device; `None` is the coordinator's default.
    pub device: Option<Device>,
    /// The share of the parts that other workers compute again before publication; `None` is the coordinator's default.
    pub verify_parts: Option<f64>,
}

/// A merge that its submitter follows to the end, in the same process.
#[derive(Debug)]
pub struct Followed {
    /// Its id.
    pub id: MergeId,
    /// How it goes.
    pub views: watch::Receiver<View>,
    /// What planning found. Closed without it if the merge ends before that.
    pub planned: oneshot::Receiver<Box<Report>>,
    /// How it ended; `None` if the output was this very merge already. Closed without it if the hub breaks off.
    pub ended: oneshot::Receiver<Result<Option<Box<Summary>>>>,
}

/// The caller that follows a merge to its end.
pub(super) struct Follower {
    pub(super) planned: Option<oneshot::Sender<Box<Report>>>,
    pub(super) ended: oneshot::Sender<Result<Option<Box<Summary>>>>,
}

/// What the workers are told when a hub stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Farewell {
    /// Nothing: they come back to the coordinator that follows.
    ComeBack,
    /// To leave, with the reason.
    Leave(String),
}

/// A worker's open session.
#[derive(Debug)]
pub struct Session {
    /// Its number.
    pub number: u64,
    /// Ends (with an error) when the hub closes the session.
    pub closed: watch::Receiver<()>,
}

/// What is asked of the hub.
pub(super) enum Command {
    Submit(Box<Submission>, Option<Follower>, oneshot::Sender<Result<(View, bool)>>),
    Named(String, oneshot::Sender<Result<Option<MergeId>>>),
    Get(MergeId, oneshot::Sender<Option<watch::Receiver<View>>>),
    List(Option<Cursor>, usize, oneshot::Sender<Page>),
    Workers(oneshot::Sender<Vec<WorkerView>>),
    Census(oneshot::Sender<Census>),
    Happenings(Option<MergeId>, oneshot::Sender<Option<Happenings>>),
    Stream(MergeId, u64, oneshot::Sender<Vec<Stretch>>),
    Layers(MergeId, oneshot::Sender<Option<Layers>>),
    Cancel(MergeId, bool, oneshot::Sender<Result<Option<View>>>),
    Retry(MergeId, oneshot::Sender<Result<Option<View>>>),
    Join(Enrolment, mpsc::Sender<ToWorker>, oneshot::Sender<Result<Session>>),
    Said(WorkerId, u64, from_worker::Message),
    Left(WorkerId, u64),
    Broken(WorkerId, u64),
    Stop(Farewell, oneshot::Sender<()>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

pub(super) fn stopped() -> Error {
    Error::new(Kind::Interrupted, "the coordinator is stopping").hint("ask again in a moment")
}
