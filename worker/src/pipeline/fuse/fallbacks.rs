//! Why tensors were computed on the host although there is a GPU. Each reason is logged once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tracing::info;

/// The reasons that were logged.
#[derive(Debug, Default)]
pub struct Fallbacks(Mutex<HashSet<String>>);

impl Fallbacks {
    /// Logs why a tensor has no path on the GPU, unless it was logged of another one.
    pub fn log(&self, tensor: &str, why: &str) {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(why.to_owned()) {
            info!(%tensor, %why, "fused on the CPU, as all tensors like it: the GPU has no path for this");
        }
    }
}
