//! Stores around another store.
//!
//! A decorator says in [`Decorator::call`] what it does with a call, whatever the operation. It overrides the operations
//! that it treats in a way of their own. Consistency, crash and cancellation behaviour are those of the store within.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::chunk::{Chunk, Copies};
use crate::error::Result;
use crate::id::{PartId, Pin, UploadId};
use crate::location::Location;
use crate::operation::Operation;
use crate::place::Place;
use crate::store::{self, Completion, Entry, Limits, Lock, Meta, PartSlot, Store};

/// A store around another one. Every decorator is a [`Store`].
///
/// What costs no request passes without [`Self::call`]: limits, places, what can be copied, and the form of a part's id.
///
/// Its methods have the names of the store's, so a module that calls a decorator as a store does not import this trait.
#[allow(missing_docs, reason = "the operations are documented at Store")]
#[async_trait]
pub trait Decorator: Send + Sync + Debug + 'static {
    /// The store within.
    fn inner(&self) -> &dyn Store;

    /// Makes a call to the store within. `make` may be used any number of times.
    async fn call<T, F, M>(&self, operation: Operation, at: &Location, make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send;

    async fn resolve(&self, at: &Location) -> Result<Location> {
        self.call(Operation::Resolve, at, || self.inner().resolve(at)).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        self.call(Operation::Head, at, || self.inner().head(at)).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let mut buffer = Buffer::new(buf);
        self.call(Operation::Read, at, || self.inner().read(at, offset, buffer.take(), pin)).await
    }

    /// The head and the read that it consists of, each through this decorator. One to which it is a single operation
    /// overrides it.
    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)>
    where
        Self: Sized,
    {
        store::get(self, at, limit).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        self.call(Operation::List, dir, || self.inner().list(dir)).await
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        self.call(Operation::Links, dir, || self.inner().links(dir)).await
    }

    async fn beside(&self, at: &Location) -> Result<Vec<String>> {
        self.call(Operation::Beside, at, || self.inner().beside(at)).await
    }

    async fn lock(&self, dir: &Location) -> Result<Lock> {
        self.call(Operation::Lock, dir, || self.inner().lock(dir)).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.call(Operation::Put, at, || self.inner().put(at, bytes.clone())).await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        self.call(Operation::Create, at, || self.inner().create(at, bytes.clone())).await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        self.call(Operation::Copy, to, || self.inner().copy(from, to, pin)).await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        self.call(Operation::Delete, at, || self.inner().delete(at)).await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        self.call(Operation::DeleteIf, at, || self.inner().delete_if(at, pin)).await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        self.call(Operation::DeleteTree, dir, || self.inner().delete_tree(dir)).await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        self.call(Operation::RemoveEmptyDir, dir, || self.inner().remove_empty_dir(dir)).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        self.call(Operation::Sweep, dir, || self.inner().sweep(dir)).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        self.call(Operation::Begin, at, || self.inner().begin(at, size)).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        self.call(Operation::Probe, at, || self.inner().probe(at, upload)).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        self.call(Operation::PutPart, at, || self.inner().put_part(at, upload, part, bytes.clone())).await
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        self.call(Operation::ComposePart, at, || self.inner().compose_part(at, upload, part, chunks.clone())).await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        let mut buffer = Buffer::new(buf);
        self.call(Operation::ReadPart, at, || self.inner().read_part(at, upload, offset, buffer.take())).await
    }

    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
        self.call(Operation::Complete, at, || self.inner().complete(at, what)).await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        self.call(Operation::Abort, at, || self.inner().abort(at, upload)).await
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        self.call(Operation::BootId, at, || self.inner().boot_id(at)).await
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        self.call(Operation::Space, at, || self.inner().space(at)).await
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        self.call(Operation::CheckOutput, dir, || self.inner().check_output(dir)).await
    }

    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        self.call(Operation::ConditionalPuts, dir, || self.inner().conditional_puts(dir)).await
    }
}

/// A read's buffer. An error loses it, so a second try gets a new one.
struct Buffer {
    first: Option<Vec<u8>>,
    length: usize,
}

impl Buffer {
    fn new(first: Vec<u8>) -> Self {
        Self { length: first.len(), first: Some(first) }
    }

    fn take(&mut self) -> Vec<u8> {
        self.first.take().unwrap_or_else(|| vec![0; self.length])
    }
}

// An operation with a default in `Store` would bypass the store within, so none may be left out.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<D: Decorator> Store for D {
    fn limits(&self, at: &Location) -> Limits {
        self.inner().limits(at)
    }

    async fn place(&self, at: &Location) -> Result<Place> {
        self.inner().place(at).await
    }

    async fn copies(&self, from: &Location, to: &Location) -> Result<Copies> {
        self.inner().copies(from, to).await
    }

    fn may_be_part(&self, part: PartSlot, length: u64, id: &PartId) -> bool {
        self.inner().may_be_part(part, length, id)
    }

    async fn resolve(&self, at: &Location) -> Result<Location> {
        Decorator::resolve(self, at).await
    }

    async fn head(&self, at: &Location) -> Result<Meta> {
        Decorator::head(self, at).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        Decorator::read(self, at, offset, buf, pin).await
    }

    async fn get(&self, at: &Location, limit: u64) -> Result<(Bytes, Meta)> {
        Decorator::get(self, at, limit).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        Decorator::list(self, dir).await
    }

    async fn links(&self, dir: &Location) -> Result<Vec<String>> {
        Decorator::links(self, dir).await
    }

    async fn beside(&self, at: &Location) -> Result<Vec<String>> {
        Decorator::beside(self, at).await
    }

    async fn lock(&self, dir: &Location) -> Result<Lock> {
        Decorator::lock(self, dir).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        Decorator::put(self, at, bytes).await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        Decorator::create(self, at, bytes).await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        Decorator::copy(self, from, to, pin).await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        Decorator::delete(self, at).await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        Decorator::delete_if(self, at, pin).await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        Decorator::delete_tree(self, dir).await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        Decorator::remove_empty_dir(self, dir).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        Decorator::sweep(self, dir).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        Decorator::begin(self, at, size).await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        Decorator::probe(self, at, upload).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        Decorator::put_part(self, at, upload, part, bytes).await
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        Decorator::compose_part(self, at, upload, part, chunks).await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        Decorator::read_part(self, at, upload, offset, buf).await
    }

    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
        Decorator::complete(self, at, what).await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        Decorator::abort(self, at, upload).await
    }

    async fn boot_id(&self, at: &Location) -> Result<Option<String>> {
        Decorator::boot_id(self, at).await
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        Decorator::space(self, at).await
    }

    async fn check_output(&self, dir: &Location) -> Result<()> {
        Decorator::check_output(self, dir).await
    }

    async fn conditional_puts(&self, dir: &Location) -> Result<bool> {
        Decorator::conditional_puts(self, dir).await
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;
    use std::sync::Arc;

    use super::*;
    use crate::counted::Counted;
    use crate::error::ErrorKind;
    use crate::fault::Faulty;
    use crate::refused::Refused;
    use crate::retry::Retrying;
    use crate::throttle::Throttled;

    /// A store has defaults for these operations. A decorator must ask the store within, which refuses them here.
    #[tokio::test]
    async fn operations_with_defaults_reach_the_store_within() {
        let inner = || Arc::new(Refused::new(ErrorKind::Permission, "has no key"));
        let decorated: [Arc<dyn Store>; 4] = [
            Arc::new(Counted::new(inner())),
            Arc::new(Retrying::new(inner())),
            Arc::new(Throttled::new(inner(), NonZeroU64::MIN)),
            Arc::new(Faulty::new(inner())),
        ];
        let at: Location = "s3://bucket/model".parse().unwrap();
        for store in decorated {
            let (upload, slot) = (UploadId::new("1"), PartSlot { number: 0, offset: 0 });
            let refusals = [
                store.resolve(&at).await.map(drop).unwrap_err(),
                store.copies(&at, &at).await.map(drop).unwrap_err(),
                store.compose_part(&at, &upload, slot, vec![Chunk::Bytes("x".into())]).await.map(drop).unwrap_err(),
                store.links(&at).await.map(drop).unwrap_err(),
                store.beside(&at).await.map(drop).unwrap_err(),
                store.lock(&at).await.map(drop).unwrap_err(),
                store.get(&at, 1).await.map(drop).unwrap_err(),
                store.conditional_puts(&at).await.map(drop).unwrap_err(),
            ];
            for refusal in refusals {
                assert_eq!(refusal.kind(), ErrorKind::Permission, "{store:?}: {refusal}");
            }
            let id = PartId::new("1");
            assert!(!store.may_be_part(slot, 1, &id), "{store:?}");
        }
    }
}
