//! Whether an attempt may begin further pieces.

use std::sync::Arc;

use tokio::sync::watch;

/// Held or open. Clones are the same gate.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// An open gate.
    pub fn open() -> Self {
        Gate(Arc::new(watch::Sender::new(true)))
    }

    /// Opens or closes it.
    pub fn set(&self, open: bool) {
        self.0.send_replace(open);
    }

    /// Whether it is open now.
    pub fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is open.
    pub async fn passed(&self) {
        // The sender lives as long as the gate, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}
