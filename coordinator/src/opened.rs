//! An output that is open: what admission hands over, and publication, clean-up and driver work on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use shardfuse_merge::Result;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::task::Task;
use shardfuse_store::digest::Digest;
use shardfuse_store::{Location, Stores, UploadId};

use crate::journal::{PieceRecord, Writer};
use crate::measured::Measured;
use crate::state::{Claim, OutputState};

/// A merge that may run.
#[derive(Debug)]
pub struct ReadyMerge {
    /// Where it writes.
    pub opened: Opened,
    /// What earlier runs finished.
    pub resumed: Resumed,
    /// Its journal.
    pub journal: Writer,
}

/// The open output of a merge.
#[derive(Debug)]
pub struct Opened {
    /// The stores.
    pub stores: Arc<Stores>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Its digest.
    pub digest: String,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// The output's folder.
    pub output: Location,
    /// The state below it.
    pub state: OutputState,
    /// The upload of each file.
    pub uploads: Vec<UploadId>,
    /// This coordinator's place.
    pub claim: Claim,
    /// For each file and part whether the store is asked to copy it.
    pub copies: Vec<Vec<bool>>,
    /// Digests of such parts that are known without reading them, by file and part.
    pub known: BTreeMap<(u32, u32), Digest>,
    /// Whether an older output is replaced.
    pub replaces: bool,
    /// Whether the output's folder was made by this merge.
    pub made_folder: bool,
}

/// What earlier runs of a merge finished.
#[derive(Debug)]
pub struct Resumed {
    /// Finished pieces.
    pub pieces: HashMap<(u32, u32), PieceRecord>,
    /// Workers that computed other bytes than two others.
    pub odd: BTreeSet<u64>,
    /// Measurements that are whole.
    pub measured: Vec<Measured>,
}

impl Opened {
    /// Fails with `output_busy` if another coordinator has taken over, finished or discarded the merge.
    pub async fn hold(&self) -> Result<()> {
        self.state.check(&self.claim).await
    }
}
