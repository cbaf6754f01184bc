//! From a location to the store that holds it.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::counted::Counted;
use crate::error::{Error, ErrorKind, Result};
use crate::http::{self, Web};
use crate::hub::Hub;
use crate::id::Pin;
use crate::local::Local;
use crate::location::{Location, Scheme};
use crate::object::{self, Connections, Environment, Patience};
use crate::refused::Refused;
use crate::retry::Retrying;
use crate::store::Store;
use crate::throttle::{Rate, Throttled};

/// The stores of one process. Cheap to clone; clones share open files, connections and limits.
#[derive(Clone, Debug)]
pub struct Stores {
    files: Arc<dyn Store>,
    objects: Objects,
    web: Arc<dyn Store>,
    hub: Arc<dyn Store>,
    rate: Option<Arc<Rate>>,
}

#[derive(Clone, Debug)]
enum Objects {
    /// One store for all, in tests.
    One(Arc<dyn Store>),
    /// One for each bucket, made when it is first asked for.
    Buckets(Arc<Buckets>),
}

#[derive(Debug)]
struct Buckets {
    config: Config,
    environment: Environment,
    connections: Result<Connections>,
    open: Mutex<HashMap<Key, Arc<dyn Store>>>,
}

/// Scheme and bucket, and the prefix whose settings it has.
type Key = (Scheme, String, Option<Location>);

impl Stores {
    /// Every store that this version knows, without limits, with endpoints and credentials from the environment.
    pub fn new() -> Self {
        Self::from_config(Config::default())
    }

    /// The same with the settings of a `--stores` file, and the environment where that says nothing.
    pub fn from_config(config: Config) -> Self {
        let connections = Connections::new(Patience::default())
            .map_err(|e| Error::new(ErrorKind::Permanent, "object storage", "cannot set up TLS").with_source(e));
        let environment = Environment::of_process();
        let web: Arc<dyn Store> = match http::tokens(&config, |name| environment.get(name).map(str::to_owned)) {
            Ok(tokens) => tried(Web::new(tokens)),
            Err(e) => Arc::new(Refused::new(e.kind(), e.chain())),
        };
        let buckets = Buckets { config, environment, connections, open: Mutex::default() };
        Self {
            files: Arc::new(Counted::new(Arc::new(Local::new()))),
            objects: Objects::Buckets(Arc::new(buckets)),
            web,
            hub: tried(Hub::from_env()),
            rate: None,
        }
    }

    /// One store for every location, for tests that put a [`Faulty`](crate::fault::Faulty) one in its place.
    pub fn all(store: Arc<dyn Store>) -> Self {
        let objects = Objects::One(store.clone());
        Self { files: store.clone(), objects, web: store.clone(), hub: store, rate: None }
    }

    /// The same stores, which together take at most so many bytes of parts a second.
    #[must_use]
    pub fn with_write_limit(self, bytes_per_second: NonZeroU64) -> Self {
        Self { rate: Some(Arc::new(Rate::new(bytes_per_second))), ..self }
    }

    /// The store that holds a location. Never fails: what is wrong with a store shows when it is used.
    pub fn open(&self, at: &Location) -> Arc<dyn Store> {
        self.limited(self.holder(at))
    }

    fn holder(&self, at: &Location) -> Arc<dyn Store> {
        match at.scheme() {
            Scheme::File => self.files.clone(),
            Scheme::S3 | Scheme::Gs | Scheme::Azure => match &self.objects {
                Objects::One(store) => store.clone(),
                Objects::Buckets(buckets) => buckets.open(at),
            },
            Scheme::Http | Scheme::Https => self.web.clone(),
            Scheme::Hub => self.hub.clone(),
        }
    }

    fn limited(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        match &self.rate {
            Some(rate) => Arc::new(Throttled::sharing(store, rate.clone())),
            None => store,
        }
    }

    /// Copies an object from any store to any other, replacing an older one in one step; `Changed` if it is not the
    /// version of `pin`.
    pub async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        let (source, target) = (self.holder(from), self.holder(to));
        if Arc::ptr_eq(&source, &target) {
            return self.limited(target).copy(from, to, pin).await;
        }
        let target = self.limited(target);
        crate::copy::copy((&*source, from), (&*target, to), pin).await
    }
}

/// A store over a network: what may pass is tried again, and each try is counted.
fn tried(store: impl Store) -> Arc<dyn Store> {
    Arc::new(Retrying::new(Arc::new(Counted::new(Arc::new(store)))))
}

impl Buckets {
    fn open(&self, at: &Location) -> Arc<dyn Store> {
        let found = self.config.find(at);
        let key = (at.scheme(), at.authority().to_owned(), found.map(|(prefix, _)| prefix.clone()));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connect = || -> Arc<dyn Store> {
            let made = match &self.connections {
                Ok(connections) => object::connect(at, found.map(|(_, entry)| entry), &self.environment, connections),
                Err(e) => return Arc::new(Refused::new(e.kind(), e.chain())),
            };
            match made {
                Ok(bucket) => tried(bucket),
                Err(e) => Arc::new(Refused::new(e.kind(), e.message())),
            }
        };
        open.entry(key).or_insert_with(connect).clone()
    }
}

impl Default for Stores {
    fn default() -> Self {
        Self::new()
    }
}
