//! What happens to tasks and workers, for those that follow a merge from outside, such as the simulation's laws.
//!
//! Each is told as the field `event` of a log event. The message beside it is for people and may change.

use std::fmt;

/// Something that happened to a task or a worker of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeEvent {
    /// A worker got an attempt at a task.
    Assigned,
    /// An attempt was taken back.
    Revoked,
    /// A worker reported that its attempt failed.
    Failed,
    /// A worker's report of a piece counts: it is the first, and its attempt lives.
    Accepted,
    /// All pieces of a task are there.
    Done,
    /// A worker left.
    Left,
    /// A worker gave no sign for a whole lease.
    Lost,
}

impl MergeEvent {
    /// All of them.
    pub const ALL: [MergeEvent; 7] = [
        MergeEvent::Assigned,
        MergeEvent::Revoked,
        MergeEvent::Failed,
        MergeEvent::Accepted,
        MergeEvent::Done,
        MergeEvent::Left,
        MergeEvent::Lost,
    ];

    /// The value of the field `event`.
    pub fn name(self) -> &'static str {
        match self {
            MergeEvent::Assigned => "assigned",
            MergeEvent::Revoked => "revoked",
            MergeEvent::Failed => "failed",
            MergeEvent::Accepted => "accepted",
            MergeEvent::Done => "done",
            MergeEvent::Left => "left",
            MergeEvent::Lost => "lost",
        }
    }

    /// The event of a name.
    pub fn parse(name: &str) -> Option<MergeEvent> {
        MergeEvent::ALL.into_iter().find(|event| event.name() == name)
    }
}

impl fmt::Display for MergeEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_found_by_its_name() {
        for event in MergeEvent::ALL {
            assert_eq!(MergeEvent::parse(event.name()), Some(event));
        }
        assert_eq!(MergeEvent::parse("of another kind"), None);
    }
}
