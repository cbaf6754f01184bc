//! A store that fails on demand. For tests only: of this crate, and of those that must survive a failing store.
//!
//! Faults hit the n-th call of an operation, so a test says exactly where a merge is interrupted, and the counts say how
//! often a store was asked. Everything else passes as it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::place::Place;
use crate::store::{Entry, Limits, Meta, PartSlot, Store};

/// The operations of a [`Store`]. [`Store::get`] counts as the head and the read that it consists of.
#[allow(missing_docs, reason = "each is the method of its name")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Resolve,
    Head,
    Read,
    List,
    Put,
    Create,
    Copy,
    Delete,
    DeleteIf,
    DeleteTree,
    RemoveEmptyDir,
    Sweep,
    Begin,
    Probe,
    PutPart,
    ReadPart,
    Complete,
    Abort,
    BootId,
    Space,
    CheckOutput,
    ConditionalPuts,
}

/// What goes wrong with a call. A short read is `Before(ErrorKind::ShortRead)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done, and this kind of error returned.
    Before(ErrorKind),
    /// All is done, but the reply is lost: this kind of error is returned in its place.
    After(ErrorKind),
}

/// A store that fails on demand. Keep the `Arc` to plan faults and read counts while others use the store.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn Store>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: HashMap<Operation, u64>,
    /// First and last call, counted from 1 over the store's life, and what happens to those.
    faults: Vec<(Operation, u64, u64, Fault)>,
}

impl Faulty {
    /// A store without faults yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Plans a fault for one call: the `nth` of this operation from now on, the next one being the first.
    pub fn plan(&self, operation: Operation, nth: u64, fault: Fault) {
        self.plan_run(operation, nth, 1, fault);
    }

    /// Plans a fault for `count` calls in a row, from the `nth` from now on; `u64::MAX` for all that follow.
    pub fn plan_run(&self, operation: Operation, nth: u64, count: u64, fault: Fault) {
        let mut state = self.state();
        let first = state.calls.get(&operation).copied().unwrap_or(0).saturating_add(nth);
        let last = first.saturating_add(count.saturating_sub(1));
        state.faults.push((operation, first, last, fault));
    }

    /// How often an operation was called, failed calls included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state().calls.get(&operation).copied().unwrap_or(0)
    }

    async fn call<T>(&self, operation: Operation, at: &Location, inner: impl Future<Output = Result<T>>) -> Result<T> {
        let (call, fault) = {
            let mut state = self.state();
            let calls = state.calls.entry(operation).or_default();
            *calls += 1;
            let call = *calls;
            let hit = |f: &&(Operation, u64, u64, Fault)| f.0 == operation && (f.1..=f.2).contains(&call);
            (call, state.faults.iter().find(hit).map(|f| f.3))
        };
        let error = |kind| Err(Error::new(kind, at, format!("planned fault in call {call} of {operation:?}")));
        match fault {
            None => inner.await,
            Some(Fault::Before(kind)) => error(kind),
            Some(Fault::After(kind)) => inner.await.and_then(|_| error(kind)),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Faulty {
    fn limits(&self, at: &Location) -> Limits {
        self.inner.limits(at)
    }

    async fn resolve(&self, at: &Location) -> Result<Location> {
        self.call(Operation::Resolve, at, self.inner.resolve(at)).await
    }

    async fn place(&self, at: &Location) -> Result<Place> {
        self.inner.place(at).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        self.call(Operation::Head, at, self.inner.head(at)).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        self.call(Operation::Read, at, self.inner.read(at, offset, buf, pin)).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        self.call(Operation::List, dir, self.inner.list(dir)).await
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        self.inner.links(dir).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.call(Operation::Put, at, self.inner.put(at, bytes)).await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.call(Operation::Create, at, self.inner.create(at, bytes)).await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        self.call(Operation::Copy, to, self.inner.copy(from, to, pin)).await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.call(Operation::Delete, at, self.inner.delete(at)).await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        self.call(Operation::DeleteIf, at, self.inner.delete_if(at, pin)).await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        self.call(Operation::DeleteTree, dir, self.inner.delete_tree(dir)).await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        self.call(Operation::RemoveEmptyDir, dir, self.inner.remove_empty_dir(dir)).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        self.call(Operation::Sweep, dir, self.inner.sweep(dir)).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        self.call(Operation::Begin, at, self.inner.begin(at, size)).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        self.call(Operation::Probe, at, self.inner.probe(at, upload)).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        self.call(Operation::PutPart, at, self.inner.put_part(at, upload, part, bytes)).await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        self.call(Operation::ReadPart, at, self.inner.read_part(at, upload, offset, buf)).await
    }

    fn may_be_part(&self, part: PartSlot, length: u64, id: &PartId) -> bool {
        self.inner.may_be_part(part, length, id)
    }

    async fn complete(
        &self,
        at: &Location,
        upload: &UploadId,
        parts: &[(u32, PartId)],
        size: u64,
    ) -> Result<Option<Pin>> {
        self.call(Operation::Complete, at, self.inner.complete(at, upload, parts, size)).await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        self.call(Operation::Abort, at, self.inner.abort(at, upload)).await
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        self.call(Operation::BootId, at, self.inner.boot_id(at)).await
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        self.call(Operation::Space, at, self.inner.space(at)).await
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        self.call(Operation::CheckOutput, dir, self.inner.check_output(dir)).await
    }

    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        self.call(Operation::ConditionalPuts, dir, self.inner.conditional_puts(dir)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::Local;

    #[tokio::test]
    async fn faults_hit_the_planned_call_only() {
        let dir = tempfile::tempdir().unwrap();
        let at = Location::at_path(&dir.path().join("x")).unwrap();
        let store = Faulty::new(Arc::new(Local::new()));
        store.plan(Operation::Put, 2, Fault::Before(ErrorKind::Transient));
        store.plan(Operation::Put, 3, Fault::After(ErrorKind::NoSpace));
        store.put(&at, "1".into()).await.unwrap();
        assert_eq!(store.put(&at, "2".into()).await.unwrap_err().kind(), ErrorKind::Transient);
        assert_eq!(&store.get(&at, 9).await.unwrap().0[..], b"1", "nothing was done");
        assert_eq!(store.put(&at, "3".into()).await.unwrap_err().kind(), ErrorKind::NoSpace);
        assert_eq!(&store.get(&at, 9).await.unwrap().0[..], b"3", "only the reply was lost");
        store.plan_run(Operation::Read, 1, u64::MAX, Fault::Before(ErrorKind::ShortRead));
        assert_eq!(store.get(&at, 9).await.unwrap_err().kind(), ErrorKind::ShortRead);
        assert_eq!((store.calls(Operation::Put), store.calls(Operation::Read)), (3, 3));
    }
}
