//! The folder of a base or an adapter: which files it holds, by listing it or, where that cannot be done, by asking.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use shardfuse_merge::checkpoint::{pointer, sidecar};
use shardfuse_merge::plan::inventory::{Object, Sidecar};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{self as store, ErrorKind, Location, Meta, Store, Stores};

use super::{CONCURRENT, Objects};
use crate::failure::{io, join, location};

/// The largest configuration or index that is read, in bytes.
const MAX_CONFIG: u64 = 256 << 20;
/// A name that no model has: who has it too answers to anything.
const NOWHERE: &str = "shardfuse-asks-for-a-file-that-is-not-there";

/// A folder that is read: its store, place, and files.
#[derive(Debug)]
pub struct Folder {
    store: Arc<dyn Store>,
    /// As it was named.
    path: String,
    /// Resolved: the commit in place of the branch.
    at: Location,
    /// With what is known of them already.
    files: BTreeMap<String, Option<Meta>>,
}

impl Folder {
    /// Finds out what a folder holds.
    pub async fn open(stores: &Stores, path: &str) -> Result<Folder> {
        let at = location(path)?;
        let store = stores.open(&at);
        let at = store.resolve(&at).await.map_err(io)?;
        let files = match store.list(&at).await {
            Ok(entries) => entries.into_iter().map(|entry| (entry.name, None)).collect(),
            Err(e) if e.kind() == ErrorKind::Unsupported => ask(&*store, &at).await?,
            Err(e) => return Err(io(e)),
        };
        if files.is_empty() {
            return Err(Error::new(Kind::MissingFile, format!("{path} is not there, or holds no files"))
                .hint("name the folder that holds config.json or adapter_config.json"));
        }
        Ok(Folder { store, path: path.to_owned(), at, files })
    }

    /// The folder as it was named.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The folder's place, with the commit in place of a branch.
    pub fn at(&self) -> &Location {
        &self.at
    }

    /// The folder's store.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Whether it holds a file.
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// A whole small file and its object.
    pub async fn read(&self, name: &str) -> Result<(Vec<u8>, Object)> {
        let at = join(&self.at, name)?;
        let (bytes, meta) = self.store.get(&at, MAX_CONFIG).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(Kind::MissingFile, format!("{} has no {name}", self.at)),
            _ => io(e),
        })?;
        let seen = blake3::hash(&bytes).to_hex().to_string();
        Ok((bytes.to_vec(), object(&at, meta, seen)))
    }

    /// The files that are wanted, in order of their names.
    pub async fn sidecars(&self, objects: &mut Objects, wanted: impl Fn(&str) -> bool) -> Result<Vec<Sidecar>> {
        let wanted: Vec<_> = self.files.iter().filter(|(name, _)| wanted(name)).collect();
        let found: Vec<Sidecar> = futures::stream::iter(wanted)
            .map(|(name, known)| self.look_up(name, known.as_ref()))
            .buffered(CONCURRENT)
            .boxed()
            .map_ok(|(name, object)| Sidecar { name, object: objects.add(object) })
            .try_collect()
            .await?;
        Ok(found)
    }

    async fn look_up(&self, name: &str, known: Option<&Meta>) -> Result<(String, Object)> {
        let at = join(&self.at, name)?;
        let meta = match known {
            Some(meta) => meta.clone(),
            None => self.store.head(&at).await.map_err(io)?,
        };
        if sidecar::is_vocabulary(name) && meta.size <= pointer::MAX_POINTER {
            let start = self.store.read(&at, 0, vec![0; meta.size as usize], Some(&meta.pin)).await.map_err(io)?;
            if pointer::is_pointer(&start) {
                return Err(pointer::refusal(Kind::MissingFile, meta.size).at(at));
            }
        }
        Ok((name.to_owned(), object(&at, meta, String::new())))
    }
}

fn object(at: &Location, meta: Meta, seen: String) -> Object {
    Object { url: at.to_string(), size: meta.size, pin: meta.pin.as_str().to_owned(), seen }
}

/// Asks for every name that models commonly have.
async fn ask(store: &dyn Store, at: &Location) -> Result<BTreeMap<String, Option<Meta>>> {
    if let Ok(Some(_)) = is_there(store, &join(at, NOWHERE)?).await {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{at} answers to names that are not there, so what it holds cannot be told"),
        )
        .hint("serve the files as they are, with 404 for what is missing"));
    }
    let mut answers = futures::stream::iter(sidecar::well_known())
        .map(|name| async move { Ok::<_, Error>((name, is_there(store, &join(at, name)?).await)) })
        .buffer_unordered(CONCURRENT)
        .boxed();
    let (mut found, mut refused) = (BTreeMap::new(), None);
    while let Some((name, answer)) = answers.try_next().await? {
        match answer {
            Ok(Some(meta)) => drop(found.insert(name.to_owned(), Some(meta))),
            Ok(None) => {}
            // What a bucket without a right to list answers for a name that is not there.
            Err(e) if e.kind() == ErrorKind::Permission => refused = Some(e),
            Err(e) => return Err(io(e)),
        }
    }
    match refused {
        Some(e) if found.is_empty() => Err(io(e)),
        _ => Ok(found),
    }
}

async fn is_there(store: &dyn Store, at: &Location) -> store::Result<Option<Meta>> {
    match store.head(at).await {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
