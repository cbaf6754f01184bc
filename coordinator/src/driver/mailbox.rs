//! A driver's mailbox: the half that others send to, and the half that the driver reads.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::input::Input;
use super::queue::{Limits, Overrun, Queue};

/// The sending half. Sending never waits.
#[derive(Debug, Clone)]
pub struct Mailbox(Arc<Shared>);

/// The driver's half. Once it is dropped, nothing is taken any more.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

/// Why a driver does not hear of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The driver has ended.
    Ended,
    /// More waits from this worker than may. The driver takes it as gone: its session must be closed, so that it comes back
    /// and reports again.
    Overrun,
}

#[derive(Debug)]
struct Shared {
    /// `None` once the driver has ended.
    queue: Mutex<Option<Queue>>,
    filled: Notify,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Option<Queue>> {
        // A queue is whole at every moment at which something could panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A mailbox, and its driver's half.
pub fn mailbox() -> (Mailbox, Inbox) {
    with_limits(Limits::OURS)
}

pub(super) fn with_limits(limits: Limits) -> (Mailbox, Inbox) {
    let shared = Arc::new(Shared { queue: Mutex::new(Some(Queue::new(limits))), filled: Notify::new() });
    (Mailbox(Arc::clone(&shared)), Inbox(shared))
}

impl Mailbox {
    /// Tells the driver something.
    ///
    /// # Errors
    /// If the driver has ended, or more waits from the input's worker than may.
    pub fn send(&self, input: Input) -> Result<(), Refused> {
        let pushed = self.0.queue().as_mut().ok_or(Refused::Ended)?.push(input);
        self.0.filled.notify_one();
        pushed.map_err(|Overrun| Refused::Overrun)
    }
}

impl Inbox {
    /// The next input, as soon as there is one. Nothing is lost if the caller stops waiting.
    pub async fn recv(&mut self) -> Input {
        loop {
            if let Some(input) = self.0.queue().as_mut().and_then(Queue::pop) {
                return input;
            }
            // A notice that comes before this wait begins is kept.
            self.0.filled.notified().await;
        }
    }

    /// The next input, if one waits.
    pub fn try_recv(&mut self) -> Option<Input> {
        self.0.queue().as_mut().and_then(Queue::pop)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // What waits is dropped outside of the lock: it may hold the senders of other queues.
        let waiting = self.0.queue().take();
        drop(waiting);
    }
}

#[cfg(test)]
mod tests;
