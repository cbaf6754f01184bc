//! From a location to the store that holds it.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::allow::Allow;
use crate::config::{Config, Entry};
use crate::counted::Counted;
use crate::error::{Error, ErrorKind, Result};
use crate::http::reach::Reach;
use crate::http::{self, Web};
use crate::hub::Hub;
use crate::id::Pin;
use crate::local::{Fence, Local};
use crate::location::{Location, Scheme};
use crate::object::{self, Connections, Environment, Timeouts};
use crate::place::Place;
use crate::read_only::ReadOnly;
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
    /// Made when a bucket is first opened: that reads the machine's certificates.
    connections: OnceLock<Result<Connections>>,
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
        let environment = Environment::of_process();
        let buckets = Buckets { config, environment, connections: OnceLock::new(), open: Mutex::default() };
        let web = buckets.web(Reach::Everywhere);
        Self {
            files: Arc::new(Counted::new(Arc::new(Local::new()))),
            objects: Objects::Buckets(Arc::new(buckets)),
            web,
            hub: tried(ReadOnly(Hub::from_env())),
            rate: None,
        }
    }

    /// One store for every location, for tests that put a [`Faulty`](crate::fault::Faulty) one in its place.
    pub fn all(store: Arc<dyn Store>) -> Self {
        let objects = Objects::One(store.clone());
        Self { files: store.clone(), objects, web: store.clone(), hub: store, rate: None }
    }

    /// The same stores, for a process that acts on behalf of others. A file must lie below an allowed prefix where it
    /// really is. Web servers and the hub are asked at origins that `allow`, the settings or `HF_ENDPOINT` name, and at
    /// public addresses by https. Stores of [`Stores::all`] stay as they are.
    #[must_use]
    pub fn only(self, allow: &Allow) -> Self {
        let (Objects::Buckets(buckets), Some(prefixes)) = (&self.objects, allow.limits()) else { return self };
        let reach = buckets.reach(prefixes);
        let fence = Fence::new(prefixes).closing(allow.closed());
        Self {
            files: Arc::new(Counted::new(Arc::new(Local::within(fence)))),
            web: buckets.web(reach.clone()),
            hub: tried(ReadOnly(Hub::from_env().within(reach))),
            ..self
        }
    }

    /// Where a location really is. It need not exist.
    pub async fn place(&self, at: &Location) -> Result<Place> {
        match (&self.objects, at.scheme()) {
            (Objects::Buckets(buckets), Scheme::Azure) => Ok(Place::azure(at, buckets.account(at))),
            _ => self.holder(at).place(at).await,
        }
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
    /// The store of web servers, with the tokens that the settings name.
    fn web(&self, reach: Reach) -> Arc<dyn Store> {
        match http::tokens(&self.config, |name| self.environment.get(name).map(str::to_owned)) {
            Ok(tokens) => tried(ReadOnly(Web::new(tokens).within(reach))),
            Err(e) => Arc::new(Refused::new(e.kind(), e.chain())),
        }
    }

    /// The origins that the operator named: in the allowed prefixes, in the settings, and as the hub.
    fn reach(&self, prefixes: &[Location]) -> Reach {
        let allowed = prefixes.iter().filter(|at| matches!(at.scheme(), Scheme::Http | Scheme::Https));
        let urls: Vec<String> = allowed.chain(self.config.web().map(|(at, _)| at)).map(Location::to_url).collect();
        let endpoints = self.config.endpoints().chain(self.environment.get("HF_ENDPOINT"));
        Reach::named(urls.iter().map(String::as_str).chain(endpoints))
    }

    /// The Azure account of a place whose URL names only the container.
    fn account(&self, at: &Location) -> Option<&str> {
        let entry = self.config.find(at).map(|(_, entry)| entry);
        let of_environment = || self.environment.get("AZURE_STORAGE_ACCOUNT_NAME");
        match entry {
            Some(Entry { account: Some(account), .. }) => Some(account),
            Some(Entry { credentials: Some(_), .. }) => None,
            _ => of_environment(),
        }
    }

    fn open(&self, at: &Location) -> Arc<dyn Store> {
        let found = self.config.find(at);
        let key = (at.scheme(), at.authority().to_owned(), found.map(|(prefix, _)| prefix.clone()));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let connect = || -> Arc<dyn Store> {
            let connections = self.connections.get_or_init(|| {
                Connections::new(Timeouts::default())
                    .map_err(|e| Error::new(ErrorKind::Permanent, "object storage", "cannot set up TLS").with_source(e))
            });
            let made = match connections {
                Ok(connections) => object::connect(at, &self.config, &self.environment, connections),
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
