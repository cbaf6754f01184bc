//! The one interface to bytes at a URL.
//!
//! **Consistency.** A write is visible whole or not at all: [`Store::put`], [`Store::create`] and [`Store::complete`]
//! change what a path shows in one step, and until then an older object stays as it was. A read held to a [`Pin`]
//! returns that version's bytes or [`ErrorKind::Changed`].
//!
//! **Retry.** No operation retries by itself; the caller decides by [`ErrorKind`]. All of them may be
//! repeated: `put`, `delete` and `abort` end in the same state, a part put twice with the same bytes is that part,
//! `complete` recognises its own result, and only `create` answers differently the second time, which is its purpose.
//!
//! **Cancellation.** Dropping a future stops the waiting, not the work: a write in progress may still land, as if it
//! had been sent over a network. Everything written is therefore either atomic or a part with determined bytes.
//!
//! **Crash.** What `put`, `create`, `copy` and `complete` reported as done survives a loss of power. Parts of an upload
//! need not, see [`Store::boot_id`].

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::place::Place;

/// What a store knows of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Length in bytes.
    pub size: u64,
    /// The version that was seen.
    pub pin: Pin,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Path below the listed folder, with slashes; [`Location::join`] takes it.
    pub name: String,
    /// Length in bytes; 0 for what is not a file.
    pub size: u64,
    /// What stands under the name.
    pub kind: EntryKind,
}

impl Entry {
    /// A file.
    pub fn file(name: impl Into<String>, size: u64) -> Entry {
        Entry { name: name.into(), size, kind: EntryKind::File }
    }
}

/// What a listing found under a name. Object stores hold files only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A file that can be read.
    File,
    /// Something that cannot be read, such as a link whose target is gone; the text says why and follows the name.
    Unreadable(String),
    /// A link to a folder that the listing holds under this other name.
    Alias(String),
}

/// Where a part belongs: some stores go by the number, others by the offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartSlot {
    /// The part's number in its file, from 0.
    pub number: u32,
    /// Its first byte's offset in the file.
    pub offset: u64,
}

/// An upload that becomes an object.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// The upload.
    pub upload: &'a UploadId,
    /// All of its parts, in order of their numbers.
    pub parts: &'a [(u32, PartId)],
    /// The size of the object in bytes.
    pub size: u64,
}

/// What a store takes of one object that is written in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The smallest part in bytes; only the last may be smaller.
    pub min_part: u64,
    /// The largest part in bytes.
    pub max_part: u64,
    /// The most parts.
    pub max_parts: u64,
}

impl Limits {
    /// None but the numbers' own.
    pub const NONE: Limits = Limits { min_part: 0, max_part: u64::MAX, max_parts: u64::MAX };
}

/// A lock that is held until it is dropped, or the process ends.
pub struct Hold(#[allow(dead_code, reason = "it is only dropped")] Box<dyn Send + Sync>);

impl Hold {
    pub(crate) fn new(held: impl Send + Sync + 'static) -> Self {
        Self(Box::new(held))
    }
}

impl Debug for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hold")
    }
}

/// What came of locking a folder.
#[derive(Debug)]
pub enum Lock {
    /// This process has it.
    Held(Hold),
    /// Another process, or another part of this one, has it.
    Taken,
    /// The store has no locks.
    Unsupported,
}

/// The longest id that is taken. S3-compatible stores give out ids of a few hundred characters.
const LONGEST_ID: usize = 2048;

/// What every id is: some printable characters without spaces, and not endless.
pub(crate) fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_ID && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Bytes at a URL. The module's documentation says what holds for every operation.
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    /// The same place under a name that stays: where a store has names that move (a branch of the hub), what this one
    /// means now. A plan holds what this returns, so that everybody reads the same.
    ///
    /// Most stores have none, and return the location as it is. A decorator passes it on.
    async fn resolve(&self, at: &Location) -> Result<Location> {
        Ok(at.clone())
    }

    /// What may be written in parts at a place. A decorator passes it on.
    fn limits(&self, at: &Location) -> Limits {
        let _ = at;
        Limits::NONE
    }

    /// Where a location really is, so that two names of one place can be told to be one. It need not exist.
    ///
    /// Most stores go by the name. A decorator passes it on.
    async fn place(&self, at: &Location) -> Result<Place> {
        Ok(Place::named(at))
    }

    /// Size and version of an object; `NotFound` if there is none.
    async fn head(&self, at: &Location) -> Result<Meta>;

    /// Fills all of `buf` from `offset` on and returns it, so that a caller can use one buffer for many reads.
    ///
    /// `ShortRead` if the object ends before the buffer is full, `Changed` if the object is not the version of `pin`.
    /// The buffer is lost with an error.
    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>>;

    /// A whole small object of at most `limit` bytes, and the version it is.
    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        get(self, at, limit).await
    }

    /// Every object below a folder, at any depth, sorted by name. A folder that does not exist is empty.
    ///
    /// Neither uploads in progress nor half-written objects are listed. Everything else is, also what cannot be read
    /// ([`EntryKind`]).
    async fn list(&self, dir: &Location) -> Result<Vec<Entry>>;

    /// The links to folders below a folder, by name, at any depth. None of them is followed. Only a file system has any. A
    /// decorator passes the call on.
    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        let _ = dir;
        Ok(Vec::new())
    }

    /// The names of the files and folders beside a place, sorted, for a suggestion where nothing is at the place. Only a file
    /// system tells. A decorator passes the call on.
    async fn beside(&self, at: &Location) -> Result<Vec<String>> {
        let _ = at;
        Ok(Vec::new())
    }

    /// Locks a folder against other processes of this machine. The lock is advice: nothing else heeds it. A file system makes the
    /// folder if it is not there, and removes it with the lock if it is empty then.
    ///
    /// Only a disk of this machine has locks. A decorator passes the call on.
    async fn lock(&self, dir: &Location) -> Result<Lock> {
        let _ = dir;
        Ok(Lock::Unsupported)
    }

    /// Writes an object, replacing an older one in one step. Folders on the way are made.
    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()>;

    /// Writes an object where there is none; `AlreadyExists` otherwise. Of any number of concurrent calls, from any
    /// machines, one succeeds.
    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()>;

    /// Copies an object, replacing an older one in one step; `Changed` if it is not the version of `pin`.
    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()>;

    /// Removes an object. That there is none is fine.
    async fn delete(&self, at: &Location) -> Result<()>;

    /// Removes an object if it is still the version of `pin`; `Changed` if it is another one. That there is none is fine.
    ///
    /// `pin` must be that of content which nobody writes twice, since stores differ in what a pin tells apart: on S3
    /// equal bytes have equal pins. A process that is stopped within this call removes nothing that came later, on
    /// every store that honours the condition of a delete; on the others the look comes first and the delete at once.
    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()>;

    /// Removes a folder with all that it holds, uploads in progress included. That there is none is fine.
    async fn delete_tree(&self, dir: &Location) -> Result<()>;

    /// Removes a folder if it is empty. That it is not, or is not there, is fine.
    async fn remove_empty_dir(&self, dir: &Location) -> Result<()>;

    /// Removes what interrupted writes of other processes left directly in a folder. Only for the one who owns the
    /// folder, while nobody writes there.
    async fn sweep(&self, dir: &Location) -> Result<()>;

    /// Begins an upload of `size` bytes to `at`, under a new id; nothing is visible at the path until it completes.
    ///
    /// Space is reserved where a store can do that, so that a full disk (`NoSpace`) shows before the work. A store that
    /// keeps one upload a path drops the older one, so only the owner of the output begins.
    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId>;

    /// Whether the upload is still there to put parts to.
    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool>;

    /// Puts a part, from any process and in any order; a second put of the same bytes changes nothing.
    ///
    /// `NoSuchUpload` tells a stale writer that the upload was completed or dropped.
    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId>;

    /// What the store of `to` can copy from `from` into an upload by itself. It asks no server. [`Store::compose_part`] may say
    /// otherwise later, and has the last word.
    ///
    /// A decorator passes it on.
    async fn copies(&self, from: &Location, to: &Location) -> Result<Copies> {
        let _ = (from, to);
        Ok(Copies::none("its store has no such copies"))
    }

    /// Puts a part that is made of these pieces, in order. Otherwise it is [`Store::put_part`], and the id has the same form.
    ///
    /// `Unsupported` if the store cannot copy these pieces, or is not allowed to: then the caller reads the bytes and puts them.
    /// `Changed` if an object is not the version of its pin, `ShortRead` if it ends before the range does.
    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        let _ = (upload, part, chunks);
        Err(Error::new(ErrorKind::Unsupported, at, "its store puts no parts together"))
    }

    /// Fills `buf` from an upload in progress, for parts that must be checked after a restart of the machine.
    ///
    /// Where [`Store::boot_id`] is always `None` nobody needs it, and it may be `Unsupported`.
    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>>;

    /// Whether a text can be the id that this store gives a part of this length in this slot. Looks at its form alone, so that
    /// a report can be refused when it arrives; whether the part is there, only [`Store::complete`] finds out.
    ///
    /// A store knows more than this default does. A decorator passes it on.
    fn may_be_part(&self, part: PartSlot, length: u64, id: &PartId) -> bool {
        let _ = (part, length);
        is_plain(id.as_str())
    }

    /// Makes the upload the object at its path, in one step, from exactly these parts.
    ///
    /// Returns the version that this made, after a look that it is the one at the path now. `None` means that the upload
    /// is gone and an object of the length is there, perhaps from an earlier success: the caller compares its content.
    ///
    /// `NoSuchUpload` or `InvalidPart` if nothing was made of the parts, also where the store said that it was.
    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>>;

    /// Drops the upload and its parts. That it is gone already is fine.
    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()>;

    /// What parts put to `at` now depend on for survival: a part put under another value than today's may be lost in
    /// spite of its [`PartId`], and is checked with [`Store::read_part`] before it is trusted.
    ///
    /// `None` where a part is durable once it is put.
    async fn boot_id(&self, at: &Location) -> Result<Option<String>>;

    /// Bytes that can still be written at `at`, if the store knows a limit. The folder need not exist yet.
    async fn space(&self, at: &Location) -> Result<Option<u64>>;

    /// Refuses, by name, a place that cannot hold an output in progress (`Unsupported`).
    async fn check_output(&self, dir: &Location) -> Result<()>;

    /// Whether [`Store::create`] lets only one of many win here. Object stores are asked by a trial with a small object
    /// of a random name in `dir`, which is removed again: some ignore the condition without a word.
    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        let _ = dir;
        Ok(true)
    }
}

/// [`Store::get`] by a head and a read.
pub(crate) async fn get(store: &(impl Store + ?Sized), at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
    let mut tries = 0;
    loop {
        let meta = store.head(at).await?;
        if meta.size > limit {
            let message = format!("is {} bytes long, at most {limit} are read", meta.size);
            return Err(Error::new(ErrorKind::Permanent, at, message));
        }
        let length = usize::try_from(meta.size)
            .map_err(|e| Error::new(ErrorKind::Permanent, at, "does not fit into memory").with_source(e))?;
        match store.read(at, 0, vec![0; length], Some(&meta.pin)).await {
            Ok(bytes) => return Ok((bytes.into(), meta)),
            // Replaced between the two calls; either version will do, and nobody replaces one object forever.
            Err(e) if e.kind() == ErrorKind::Changed && tries < 3 => tries += 1,
            Err(e) => return Err(e),
        }
    }
}
