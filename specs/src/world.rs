//! The store: the files of the output, uploads, and the state of the merge that is in progress.

use std::collections::{BTreeMap, BTreeSet};

/// A coordinator's number.
pub type Coordinator = u8;

/// A file of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// The manifest.
    Manifest,
    /// `config.json`: a loader takes the folder if this is one.
    Config,
    /// The weights, which every model has.
    Weights,
    /// A second weight file, which plan P does not have.
    Extra,
}

/// What was, is or shall be in the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Plan {
    /// The model that was there first.
    Older,
    /// One merge.
    P,
    /// Another one.
    Q,
}

/// The bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bytes {
    /// The same in every plan.
    Shared,
    /// Those of one plan.
    Of(Plan),
    /// A coordinator's tombstone.
    Tombstone(Coordinator),
}

impl Plan {
    /// The bytes of a file, if the plan has it.
    pub fn bytes(self, name: Name) -> Option<Bytes> {
        match name {
            Name::Manifest | Name::Weights => Some(Bytes::Of(self)),
            Name::Config => Some(Bytes::Shared),
            Name::Extra => (self != Plan::P).then_some(Bytes::Shared),
        }
    }
}

/// Why an upload is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upload {
    /// Weights of a state, which its coordinators share.
    Parts(u8, Name),
    /// A tombstone that a coordinator announces.
    Tombstone(Coordinator, Name),
    /// A small file that a coordinator announces.
    Final(Coordinator, Name),
}

/// An epoch: who took it. A seal is nobody's.
pub type Taken = Option<Coordinator>;

/// A merge in progress.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Of which plan.
    pub plan: Plan,
    /// Tells one state from the next.
    pub number: u8,
    /// Whether its plan is there: without it nobody goes on with it but those who have begun.
    pub is_found: bool,
    /// The epochs, in their order.
    pub epochs: Vec<Taken>,
    /// What the journals announce, by coordinator.
    pub announced: BTreeSet<(Coordinator, Upload)>,
}

impl State {
    /// Whether a coordinator's claim holds.
    pub fn is_held_by(&self, who: Coordinator) -> bool {
        self.epochs.last() == Some(&Some(who))
    }

    /// Whether it is being removed.
    pub fn is_sealed(&self) -> bool {
        self.epochs.contains(&None)
    }
}

/// All that the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The output.
    pub files: BTreeMap<Name, Bytes>,
    /// Uploads that are neither completed nor dropped.
    pub uploads: BTreeSet<Upload>,
    /// The state, if a merge is in progress.
    pub state: Option<State>,
    /// How many states there were.
    pub states: u8,
    /// The plan that was published and sealed last, and that nobody replaces yet.
    pub published: Option<Plan>,
}

impl World {
    /// An older model, and nothing else.
    pub fn new() -> Self {
        let names = [Name::Manifest, Name::Config, Name::Weights, Name::Extra];
        World {
            files: names.into_iter().filter_map(|n| Some((n, Plan::Older.bytes(n)?))).collect(),
            uploads: BTreeSet::new(),
            state: None,
            states: 0,
            published: None,
        }
    }

    /// The bytes of a file.
    pub fn get(&self, name: Name) -> Option<Bytes> {
        self.files.get(&name).copied()
    }

    /// Whether all that a plan has is there but the manifest, and nothing else that a loader takes.
    pub fn is(&self, plan: Plan) -> bool {
        [Name::Config, Name::Weights, Name::Extra].into_iter().all(|name| self.get(name) == plan.bytes(name))
    }

    /// Puts a file in place.
    pub fn put(&mut self, name: Name, bytes: Bytes) {
        self.files.insert(name, bytes);
    }
}

impl Default for World {
    fn default() -> Self {
        World::new()
    }
}
