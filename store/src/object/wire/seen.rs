//! What the client saw, handed up past `object_store` to whoever made the call.

use std::sync::{Arc, Mutex, PoisonError};

use super::answer::Answer;
use super::broken::Broken;

tokio::task_local! {
    static SEEN: Seen;
}

/// The last failure of a call: empty while all went well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Option<Outcome>>>);

/// A failure.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// The store answered, and said no.
    Answer(Answer),
    /// There was no answer, or not all of it.
    Broken(Broken),
}

impl Seen {
    /// Runs a call; what its requests see is in `self` afterwards.
    pub(crate) async fn watch<T>(&self, call: impl Future<Output = T>) -> T {
        SEEN.scope(self.clone(), call).await
    }

    /// The one of the call that is running, or one that nobody reads.
    pub(super) fn current() -> Self {
        SEEN.try_with(Self::clone).unwrap_or_default()
    }

    pub(super) fn set(&self, outcome: Outcome) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }

    /// The failure that was seen.
    pub(crate) fn take(&self) -> Option<Outcome> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
