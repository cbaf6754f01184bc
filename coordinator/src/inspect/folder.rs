//! The folder of a base or an adapter: which files it holds, by listing it or, where that cannot be done, by asking.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use shardfuse_merge::checkpoint::files::{Found, What};
use shardfuse_merge::checkpoint::meant::{self, Wanted};
use shardfuse_merge::checkpoint::{pointer, sidecar};
use shardfuse_merge::inventory::{Object, Sidecar};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{self as store, EntryKind, ErrorKind, Location, Meta, Store, Stores};

use super::objects::{CONCURRENT, Objects};
use crate::failure::{io, join, location};

/// A name that no model has: a server that has it too answers to anything.
const NOWHERE: &str = "shardfuse-asks-for-a-file-that-is-not-there";

/// A folder that is read: its store, place, and files.
#[derive(Debug)]
pub struct Folder {
    store: Arc<dyn Store>,
    /// As it was named.
    path: String,
    /// Resolved: the commit in place of the branch.
    at: Location,
    files: BTreeMap<String, Known>,
    listed: bool,
}

/// What is known of a file.
#[derive(Debug)]
struct Known {
    what: What,
    size: u64,
    /// Where the file was asked for.
    meta: Option<Meta>,
}

impl Folder {
    /// Finds out what a folder holds. Where it cannot be listed, files are asked for by their names: those that models
    /// commonly have, and `more`.
    pub async fn open(stores: &Stores, path: &str, wanted: Wanted, more: &[String]) -> Result<Folder> {
        let at = location(path)?;
        let store = stores.open(&at);
        let at = store.resolve(&at).await.map_err(io)?;
        let (files, listed) = match store.list(&at).await {
            Ok(entries) => (entries.into_iter().map(known).collect(), true),
            Err(e) if e.kind() == ErrorKind::Unsupported => (ask(&*store, &at, more).await?, false),
            Err(e) => return Err(not_listed(&*store, &at, wanted, path, e).await),
        };
        let folder = Folder { store, path: path.to_owned(), at, files, listed };
        if folder.files.is_empty() {
            // Only for the hint: a folder that cannot be listed has no names to suggest.
            let beside = folder.store.beside(&folder.at).await.unwrap_or_default();
            return Err(Error::new(Kind::MissingFile, format!("{path} is not there, or holds no files"))
                .hint(meant::by_name(wanted, path, &beside)));
        }
        Ok(folder)
    }

    /// Refuses a folder without the configuration that is wanted.
    ///
    /// # Errors
    /// `missing_file`, with what may have been meant.
    pub fn expect(&self, wanted: Wanted) -> Result<()> {
        if self.has(wanted.config()) {
            return Ok(());
        }
        let names: Vec<&str> = self.files.keys().map(String::as_str).collect();
        Err(Error::new(Kind::MissingFile, format!("{} has no {}", self.path, wanted.config()))
            .hint(meant::by_content(wanted, &self.path, &names)))
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

    /// Whether its store told all files that it holds.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether it holds a file of this name, or something in its place that cannot be read.
    pub fn has(&self, name: &str) -> bool {
        self.files.get(name).is_some_and(|known| !matches!(known.what, What::Alias(_)))
    }

    /// All that it holds, in order of names.
    pub fn found(&self) -> Vec<Found> {
        let found = |(name, known): (&String, &Known)| Found {
            name: name.clone(),
            size: Some(known.size),
            what: known.what.clone(),
        };
        self.files.iter().map(found).collect()
    }

    /// A whole small file and its object.
    ///
    /// # Errors
    /// `missing_file` if it is not there or cannot be read, `bad_config` (an index: `bad_index`) if it is longer than
    /// `limit` bytes or a Git LFS pointer stands in its place.
    pub async fn read(&self, name: &str, limit: u64) -> Result<(Vec<u8>, Object)> {
        let at = join(&self.at, name)?;
        let kind = if name.ends_with(".index.json") { Kind::BadIndex } else { Kind::BadConfig };
        if let Some(known) = self.files.get(name) {
            if let What::Unreadable(why) = &known.what {
                return Err(Error::new(Kind::MissingFile, format!("{at} {why}"))
                    .hint("a download or a copy is not complete: fetch the folder again"));
            }
            if known.size > limit {
                return Err(Error::new(kind, format!("{at} has {} bytes, at most {limit} are read", known.size)));
            }
        }
        let (bytes, meta) = self.store.get(&at, limit).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Error::new(Kind::MissingFile, format!("{} has no {name}", self.at)),
            _ => io(e),
        })?;
        pointer::refuse(kind, meta.size, &bytes).map_err(|e| e.at(&at))?;
        let seen = blake3::hash(&bytes).to_hex().to_string();
        Ok((bytes.to_vec(), object(&at, meta, seen)))
    }

    /// Files that are copied as they are. A text that only stands for a file is refused.
    pub async fn sidecars(&self, objects: &mut Objects, names: Vec<String>) -> Result<Vec<Sidecar>> {
        let found: Vec<Sidecar> = futures::stream::iter(names)
            .map(|name| async move { self.look_up(&name).await.map(|object| (name, object)) })
            .buffered(CONCURRENT)
            .boxed()
            .map_ok(|(name, object)| Sidecar { name, object: objects.add(object) })
            .try_collect()
            .await?;
        Ok(found)
    }

    async fn look_up(&self, name: &str) -> Result<Object> {
        let at = join(&self.at, name)?;
        let meta = match self.files.get(name).and_then(|known| known.meta.clone()) {
            Some(meta) => meta,
            None => self.store.head(&at).await.map_err(io)?,
        };
        if meta.size <= pointer::MAX_POINTER {
            let start = self.store.read(&at, 0, vec![0; meta.size as usize], Some(&meta.pin)).await.map_err(io)?;
            pointer::refuse(Kind::MissingFile, meta.size, &start).map_err(|e| e.at(&at))?;
        }
        Ok(object(&at, meta, String::new()))
    }
}

/// Why a folder cannot be listed: it may be a file.
async fn not_listed(store: &dyn Store, at: &Location, wanted: Wanted, path: &str, error: store::Error) -> Error {
    match store.head(at).await {
        Ok(_) => Error::new(Kind::MissingFile, format!("{path} is a file, expected a folder"))
            .hint(meant::file(wanted, path)),
        Err(_) => io(error),
    }
}

fn known(entry: store::Entry) -> (String, Known) {
    let what = match entry.kind {
        EntryKind::File => What::File,
        EntryKind::Unreadable(why) => What::Unreadable(why),
        EntryKind::Alias(other) => What::Alias(other),
    };
    (entry.name, Known { what, size: entry.size, meta: None })
}

fn object(at: &Location, meta: Meta, seen: String) -> Object {
    Object { url: at.to_string(), size: meta.size, pin: meta.pin.as_str().to_owned(), seen }
}

/// Asks for every name that models commonly have, and for more.
async fn ask(store: &dyn Store, at: &Location, more: &[String]) -> Result<BTreeMap<String, Known>> {
    if let Ok(Some(_)) = is_there(store, &join(at, NOWHERE)?).await {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{at} answers to names that are not there, so what it holds cannot be told"),
        )
        .hint("serve the files as they are, with 404 for what is missing"));
    }
    let mut names: Vec<String> = sidecar::well_known().map(str::to_owned).chain(files_of(more)).collect();
    names.sort_unstable();
    names.dedup();
    let mut answers = futures::stream::iter(names)
        .map(|name| async move {
            let answer = is_there(store, &join(at, &name)?).await;
            Ok::<_, Error>((name, answer))
        })
        .buffer_unordered(CONCURRENT)
        .boxed();
    let (mut found, mut refused) = (BTreeMap::new(), None);
    while let Some((name, answer)) = answers.try_next().await? {
        match answer {
            Ok(Some(meta)) => {
                found.insert(name, Known { what: What::File, size: meta.size, meta: Some(meta) });
            }
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

/// The names that are those of files, not of folders.
fn files_of(names: &[String]) -> impl Iterator<Item = String> {
    names.iter().filter(|name| !name.ends_with('/')).cloned()
}

async fn is_there(store: &dyn Store, at: &Location) -> store::Result<Option<Meta>> {
    match store.head(at).await {
        Ok(meta) => Ok(Some(meta)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
