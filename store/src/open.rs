//! From a location to the store that holds it.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::local::Local;
use crate::location::{Location, Scheme};
use crate::store::Store;
use crate::throttle::Throttled;

/// The stores of one process. Cheap to clone; clones share open files, connections and limits.
#[derive(Clone, Debug)]
pub struct Stores {
    local: Arc<dyn Store>,
}

impl Stores {
    /// Every store that this version knows, without limits.
    pub fn new() -> Self {
        Self::all(Arc::new(Local::new()))
    }

    /// One store for every location, for tests that put a [`Faulty`](crate::fault::Faulty) one in its place.
    pub fn all(store: Arc<dyn Store>) -> Self {
        Self { local: store }
    }

    /// The same stores, which together take at most so many bytes of parts a second.
    #[must_use]
    pub fn with_write_limit(self, bytes_per_second: NonZeroU64) -> Self {
        Self { local: Arc::new(Throttled::new(self.local, bytes_per_second)) }
    }

    /// The store that holds a location.
    pub fn open(&self, at: &Location) -> Arc<dyn Store> {
        match at.scheme() {
            Scheme::File => self.local.clone(),
            // The local store refuses by name what is no file.
            _ => self.local.clone(),
        }
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new()
    }
}
