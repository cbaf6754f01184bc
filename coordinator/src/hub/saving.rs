//! Which state of a merge's record is written, and who waits for it.

use shardfuse_merge::Result;
use tokio::sync::oneshot;

use super::view::View;

/// Which state of a record is written.
#[derive(Default)]
pub(super) struct Saving {
    /// Counts changes.
    pub(super) wanted: u64,
    /// The change up to which all is written.
    pub(super) written: u64,
    pub(super) busy: bool,
    pub(super) waiters: Vec<(u64, Waiter)>,
}

/// The caller that is answered once a change is written.
pub(super) enum Waiter {
    Submitted {
        known: bool,
        reply: oneshot::Sender<Result<(View, bool)>>,
    },
    /// Somebody cancelled the merge, or had it begun again.
    Changed(oneshot::Sender<Result<Option<View>>>),
    /// The merge's own task, which goes no further before the change is written, however long the store is away.
    Noted(oneshot::Sender<()>),
}

impl Saving {
    /// A record that was read is written.
    pub(super) fn read() -> Saving {
        Saving { wanted: 1, written: 1, ..Saving::default() }
    }

    pub(super) fn is_written(&self) -> bool {
        self.written == self.wanted
    }
}

impl Waiter {
    pub(super) fn answer(self, result: Result<()>, view: View) {
        // The caller may have stopped waiting.
        match self {
            Waiter::Submitted { known, reply } => _ = reply.send(result.map(|()| (view, known))),
            Waiter::Changed(reply) => _ = reply.send(result.map(|()| Some(view))),
            Waiter::Noted(reply) => _ = reply.send(()),
        }
    }
}
