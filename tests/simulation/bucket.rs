//! An object store that hosts reach over a network of its own: what is asked arrives later, is done in one step, and is
//! answered later still, or not as it was.
//!
//! What was sent is done, also when its sender has gone away meanwhile: a put of a worker that crashed, or whose lease is
//! over, can land at any time after. Everything happens at simulated times and in an order that follow from the seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use shardfuse_store::fault::Operation;
use shardfuse_store::memory::Memory;
use shardfuse_store::{
    Chunk, Completion, Copies, Entry, Error, ErrorKind, Location, Meta, PartId, PartSlot, Pin, Result, Retrying, Store,
    Stores, UploadId,
};
use tokio::sync::oneshot;
use tracing::debug;

use crate::laws::{Done, Laws};
use crate::model;
use crate::rng::Rng;

/// How a host fares with the store.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Milliseconds there, and as many back.
    pub latency: (u64, u64),
    /// Milliseconds more until a part arrives.
    pub slow_parts: (u64, u64),
    /// Calls in a thousand that fail, before or after what they ask is done.
    pub errors: u64,
    /// Nothing that is asked is ever answered.
    pub hangs: bool,
}

/// A host that will be stopped at one of its writes that a reader sees: the write arrives when the host goes on.
#[derive(Debug, Clone)]
pub struct Nap {
    /// The host.
    pub host: String,
    /// How many such writes pass before.
    pub after: u64,
    /// How long it is stopped.
    pub lasts: Duration,
}

/// The store.
pub struct Bucket {
    memory: Memory,
    laws: Arc<Laws>,
    state: Mutex<State>,
}

/// What is done when it arrives.
type Arrival = Box<dyn FnOnce(&Memory) + Send>;

struct State {
    now: Duration,
    rng: Rng,
    usual: Weather,
    unusual: BTreeMap<String, Weather>,
    nap: Option<Nap>,
    /// Whether a host was stopped.
    napped: bool,
    /// What is on its way, by the time of its arrival and the order in which it was sent.
    coming: BTreeMap<(Duration, u64), Arrival>,
    calls: u64,
}

impl Bucket {
    pub fn new(memory: Memory, laws: Arc<Laws>, rng: Rng, usual: Weather) -> Arc<Bucket> {
        let state = State {
            now: Duration::ZERO,
            rng,
            usual,
            unusual: BTreeMap::new(),
            nap: None,
            napped: false,
            coming: BTreeMap::new(),
            calls: 0,
        };
        Arc::new(Bucket { memory, laws, state: Mutex::new(state) })
    }

    /// The stores of a process on a host: as in production, behind a decorator that tries again.
    pub fn stores(self: &Arc<Self>, host: &str) -> Arc<Stores> {
        let access = Access { host: host.to_owned(), bucket: Arc::clone(self) };
        Arc::new(Stores::all(Arc::new(Retrying::new(Arc::new(access)))))
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls
    }

    /// What is on its way.
    pub fn coming(&self) -> usize {
        self.state.lock().unwrap().coming.len()
    }

    pub fn usual(&self) -> Weather {
        self.state.lock().unwrap().usual
    }

    fn hangs(&self, host: &str) -> bool {
        let state = self.state.lock().unwrap();
        state.unusual.get(host).unwrap_or(&state.usual).hangs
    }

    /// Changes how a host fares; `None` is as usual.
    pub fn set(&self, host: &str, weather: Option<Weather>) {
        let mut state = self.state.lock().unwrap();
        match weather {
            Some(weather) => _ = state.unusual.insert(host.to_owned(), weather),
            None => _ = state.unusual.remove(host),
        }
    }

    /// Plans that a host is stopped; `None` takes that back.
    pub fn plan_nap(&self, nap: Option<Nap>) {
        self.state.lock().unwrap().nap = nap;
    }

    /// Whether a host was stopped since this was asked last.
    pub fn has_napped(&self) -> bool {
        std::mem::take(&mut self.state.lock().unwrap().napped)
    }

    /// Does what has arrived by now.
    pub fn advance(&self, now: Duration) {
        loop {
            let due = {
                let mut state = self.state.lock().unwrap();
                state.now = now;
                match state.coming.first_entry() {
                    Some(first) if first.key().0 <= now => first.remove(),
                    _ => return,
                }
            };
            due(&self.memory);
        }
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl State {
    /// How long a host is stopped before this call arrives, if it is.
    fn nap(&mut self, host: &str, operation: Operation, at: &Location) -> Option<Duration> {
        let changes = matches!(
            operation,
            Operation::Put | Operation::Copy | Operation::Delete | Operation::DeleteIf | Operation::Complete
        );
        let seen = at.is_within(&model::out()) && !at.to_string().contains("/.shardfuse/");
        let nap = self.nap.as_mut().filter(|nap| nap.host == host && changes && seen)?;
        if nap.after > 0 {
            nap.after -= 1;
            return None;
        }
        self.napped = true;
        self.nap.take().map(|nap| nap.lasts)
    }
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bucket")
    }
}

/// A host's way to the store.
#[derive(Debug)]
struct Access {
    host: String,
    bucket: Arc<Bucket>,
}

/// The operations of a store in memory are done when they are asked for.
fn at_once<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    operation.now_or_never().expect("a store in memory waits for nothing")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// It never arrives.
    Lost,
    /// It is done, and the answer does not arrive.
    Unanswered,
}

impl Access {
    async fn call<T: Send + 'static>(
        &self,
        operation: Operation,
        at: &Location,
        work: impl FnOnce(&Memory, &Laws) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if self.bucket.hangs(&self.host) {
            std::future::pending::<()>().await;
        }
        let (answer, answered) = oneshot::channel();
        let back = {
            let mut state = self.bucket.state.lock().unwrap();
            state.calls += 1;
            let call = state.calls;
            let weather = *state.unusual.get(&self.host).unwrap_or(&state.usual);
            let mut there = state.rng.millis(weather.latency);
            let back = state.rng.millis(weather.latency);
            if matches!(operation, Operation::PutPart | Operation::ComposePart) {
                there += state.rng.millis(weather.slow_parts);
            }
            there += state.nap(&self.host, operation, at).unwrap_or_default();
            let trouble = match state.rng.chance(weather.errors) {
                true => *state.rng.pick(&[Trouble::Lost, Trouble::Unanswered]),
                false => Trouble::None,
            };
            let (host, at, laws) = (self.host.clone(), at.clone(), Arc::clone(&self.bucket.laws));
            let job = move |memory: &Memory| {
                let error = || Error::new(ErrorKind::Transient, &at, format!("{trouble:?} in call {call}"));
                let result = match trouble {
                    Trouble::Lost => Err(error()),
                    Trouble::None => work(memory, &laws),
                    Trouble::Unanswered => work(memory, &laws).and_then(|_| Err(error())),
                };
                if trouble != Trouble::None {
                    laws.facts().store_errors += 1;
                }
                let shown = result.as_ref().err().map(Error::kind);
                debug!(target: "simulation", host, call, %at, error = ?shown, "{operation:?}");
                // Whoever asked may be gone.
                let _ = answer.send(result);
            };
            let due = (state.now + there, call);
            state.coming.insert(due, Box::new(job));
            back
        };
        let result = answered.await.expect("what arrives is done");
        tokio::time::sleep(back).await;
        result
    }
}

#[async_trait]
impl Store for Access {
    async fn head(&self, at: &Location) -> Result<Meta> {
        let here = at.clone();
        self.call(Operation::Head, at, move |memory, _| at_once(memory.head(&here))).await
    }

    async fn read(&self, at: &Location, offset: u64, buf: Vec<u8>, pin: Option<&Pin>) -> Result<Vec<u8>> {
        let (here, pin) = (at.clone(), pin.cloned());
        self.call(Operation::Read, at, move |memory, _| at_once(memory.read(&here, offset, buf, pin.as_ref()))).await
    }

    async fn list(&self, dir: &Location) -> Result<Vec<Entry>> {
        let here = dir.clone();
        self.call(Operation::List, dir, move |memory, _| at_once(memory.list(&here))).await
    }

    async fn put(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let here = at.clone();
        self.call(Operation::Put, at, move |memory, laws| {
            at_once(memory.put(&here, bytes.clone()))?;
            laws.done(memory, &Done::Written { at: &here, bytes: &bytes });
            Ok(())
        })
        .await
    }

    async fn create(&self, at: &Location, bytes: Bytes) -> Result<()> {
        let here = at.clone();
        self.call(Operation::Create, at, move |memory, laws| {
            at_once(memory.create(&here, bytes.clone()))?;
            laws.done(memory, &Done::Written { at: &here, bytes: &bytes });
            Ok(())
        })
        .await
    }

    async fn copy(&self, from: &Location, to: &Location, pin: Option<&Pin>) -> Result<()> {
        let (from, here, pin) = (from.clone(), to.clone(), pin.cloned());
        self.call(Operation::Copy, to, move |memory, laws| {
            at_once(memory.copy(&from, &here, pin.as_ref()))?;
            laws.done(memory, &Done::Written { at: &here, bytes: &Bytes::new() });
            Ok(())
        })
        .await
    }

    async fn delete(&self, at: &Location) -> Result<()> {
        let here = at.clone();
        self.call(Operation::Delete, at, move |memory, laws| {
            at_once(memory.delete(&here))?;
            laws.done(memory, &Done::Removed { at: &here });
            Ok(())
        })
        .await
    }

    async fn delete_if(&self, at: &Location, pin: &Pin) -> Result<()> {
        let (here, pin) = (at.clone(), pin.clone());
        self.call(Operation::DeleteIf, at, move |memory, laws| {
            at_once(memory.delete_if(&here, &pin))?;
            laws.done(memory, &Done::Removed { at: &here });
            Ok(())
        })
        .await
    }

    async fn delete_tree(&self, dir: &Location) -> Result<()> {
        let here = dir.clone();
        self.call(Operation::DeleteTree, dir, move |memory, laws| {
            at_once(memory.delete_tree(&here))?;
            laws.done(memory, &Done::Removed { at: &here });
            Ok(())
        })
        .await
    }

    async fn remove_empty_dir(&self, dir: &Location) -> Result<()> {
        let here = dir.clone();
        self.call(Operation::RemoveEmptyDir, dir, move |memory, _| at_once(memory.remove_empty_dir(&here))).await
    }

    async fn sweep(&self, dir: &Location) -> Result<()> {
        let here = dir.clone();
        self.call(Operation::Sweep, dir, move |memory, _| at_once(memory.sweep(&here))).await
    }

    async fn begin(&self, at: &Location, size: u64) -> Result<UploadId> {
        let here = at.clone();
        self.call(Operation::Begin, at, move |memory, laws| {
            let upload = at_once(memory.begin(&here, size))?;
            laws.done(memory, &Done::Begun { upload: &upload });
            Ok(upload)
        })
        .await
    }

    async fn probe(&self, at: &Location, upload: &UploadId) -> Result<bool> {
        let (here, upload) = (at.clone(), upload.clone());
        self.call(Operation::Probe, at, move |memory, _| at_once(memory.probe(&here, &upload))).await
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let (here, upload) = (at.clone(), upload.clone());
        self.call(Operation::PutPart, at, move |memory, laws| {
            let put = at_once(memory.put_part(&here, &upload, part, bytes));
            let stale = put.as_ref().is_err_and(|e| e.kind() == ErrorKind::NoSuchUpload);
            laws.done(memory, &Done::Part { at: &here, number: part.number, stale });
            put
        })
        .await
    }

    async fn copies(&self, from: &Location, to: &Location) -> Result<Copies> {
        let (source, target) = (from.clone(), to.clone());
        self.call(Operation::Head, from, move |memory, _| at_once(memory.copies(&source, &target))).await
    }

    async fn compose_part(
        &self,
        at: &Location,
        upload: &UploadId,
        part: PartSlot,
        chunks: Vec<Chunk>,
    ) -> Result<PartId> {
        let (here, upload) = (at.clone(), upload.clone());
        self.call(Operation::ComposePart, at, move |memory, laws| {
            let put = at_once(memory.compose_part(&here, &upload, part, chunks));
            let stale = put.as_ref().is_err_and(|e| e.kind() == ErrorKind::NoSuchUpload);
            laws.done(memory, &Done::Part { at: &here, number: part.number, stale });
            put
        })
        .await
    }

    async fn read_part(&self, at: &Location, upload: &UploadId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>> {
        let (here, upload) = (at.clone(), upload.clone());
        self.call(Operation::ReadPart, at, move |memory, _| at_once(memory.read_part(&here, &upload, offset, buf)))
            .await
    }

    async fn complete(&self, at: &Location, what: Completion<'_>) -> Result<Option<Pin>> {
        let (here, upload, parts, size) = (at.clone(), what.upload.clone(), what.parts.to_vec(), what.size);
        self.call(Operation::Complete, at, move |memory, laws| {
            let before = at_once(memory.head(&here)).ok();
            let made = at_once(memory.complete(&here, Completion { upload: &upload, parts: &parts, size }))?;
            if before != at_once(memory.head(&here)).ok() {
                laws.done(memory, &Done::Completed { at: &here });
            }
            Ok(made)
        })
        .await
    }

    async fn abort(&self, at: &Location, upload: &UploadId) -> Result<()> {
        let (here, upload) = (at.clone(), upload.clone());
        self.call(Operation::Abort, at, move |memory, _| at_once(memory.abort(&here, &upload))).await
    }

    async fn boot_id(&self, _: &Location) -> Result<Option<String>> {
        Ok(None)
    }

    async fn space(&self, _: &Location) -> Result<Option<u64>> {
        Ok(None)
    }

    async fn check_output(&self, _: &Location) -> Result<()> {
        Ok(())
    }
}
