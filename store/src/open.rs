//! From a location to the store that holds it.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::error::{ErrorKind, Result};
use crate::id::Pin;
use crate::local::Local;
use crate::location::{Location, Scheme};
use crate::refused::Refused;
use crate::store::Store;
use crate::throttle::Throttled;

/// The stores of one process. Cheap to clone; clones share open files, connections and limits.
#[derive(Clone, Debug)]
pub struct Stores {
    files: Arc<dyn Store>,
    objects: Arc<dyn Store>,
    web: Arc<dyn Store>,
    hub: Arc<dyn Store>,
}

impl Stores {
    /// Every store that this version knows, without limits.
    pub fn new() -> Self {
        let unreached = |what: &str| -> Arc<dyn Store> {
            Arc::new(Refused::new(ErrorKind::Unsupported, format!("{what} cannot be reached by this version")))
        };
        Self {
            files: Arc::new(Local::new()),
            objects: unreached("object storage"),
            web: unreached("a web server"),
            hub: unreached("the hub"),
        }
    }

    /// One store for every location, for tests that put a [`Faulty`](crate::fault::Faulty) one in its place.
    pub fn all(store: Arc<dyn Store>) -> Self {
        Self { files: store.clone(), objects: store.clone(), web: store.clone(), hub: store }
    }

    /// The same stores, which together take at most so many bytes of parts a second.
    #[must_use]
    pub fn with_write_limit(self, bytes_per_second: NonZeroU64) -> Self {
        Self { files: Arc::new(Throttled::new(self.files, bytes_per_second)), ..self }
    }

    /// The store that holds a location. Never fails: what is wrong with a store shows when it is used.
    pub fn open(&self, at: &Location) -> Arc<dyn Store> {
        match at.scheme() {
            Scheme::File => self.files.clone(),
            Scheme::S3 | Scheme::Gs | Scheme::Azure => self.objects.clone(),
            Scheme::Http | Scheme::Https => self.web.clone(),
            Scheme::Hub => self.hub.clone(),
        }
    }

    /// Copies an object from any store to any other, replacing an older one in one step; `Changed` if it is not the
    /// version of `pin`.
    pub async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        let (source, target) = (self.open(from), self.open(to));
        if (from.scheme(), from.authority()) == (to.scheme(), to.authority()) {
            return target.copy(from, to, pin).await;
        }
        crate::copy::copy((&*source, from), (&*target, to), pin).await
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new()
    }
}
