//! The numbers by which tasks, workers, attempts and pieces are known.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($number:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A task, by its place in the list that the schedule was made from.
    TaskId(u32)
}

id! {
    /// A worker. A process that starts again may come back under the same number.
    WorkerId(u64)
}

id! {
    /// An attempt at a task. Epochs of one task count up and are never used again by any worker.
    Epoch(u32)
}

id! {
    /// A piece of a task's work that is reported by itself: a part number of the task's output file, or a block number of a
    /// measurement.
    Piece(u32)
}

/// A worker's report names the attempt by both: an epoch alone does not prove whose it is.
pub(super) type Reporter = (WorkerId, Epoch);
