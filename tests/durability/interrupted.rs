//! A store that does something to a process at its n-th operation, whatever that is, and writes down what it was asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use shardfuse_store::{Decorator, Error, ErrorKind, Location, Operation, PartId, PartSlot, Result, Store, UploadId};
use tokio::sync::watch;

/// What happens at the n-th operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Nothing is done any more, and nobody is answered: the process is gone.
    KillBefore,
    /// The operation is done, then as above.
    KillAfter,
    /// Every operation waits from here on, until [`Interrupted::release`].
    Stall,
    /// The operation fails with this kind, and nothing is done.
    FailBefore(ErrorKind),
    /// The operation is done, and its caller told that it failed with this kind.
    FailAfter(ErrorKind),
    /// From there on every read of an input fails with this kind.
    LoseInputs(ErrorKind),
    /// Nothing, but that only so many bytes are free.
    Full(u64),
    /// What [`Interrupted::deed`] was given happens, then the operation is done.
    Deed,
}

/// The store.
pub struct Interrupted {
    inner: Arc<dyn Store>,
    /// The operation that is counted; `None` for all.
    only: Option<&'static str>,
    at: u64,
    what: What,
    calls: AtomicU64,
    hit: watch::Sender<bool>,
    released: watch::Sender<bool>,
    /// Whether the n-th operation came.
    reached: AtomicBool,
    log: Mutex<Log>,
    deed: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Interrupted({:?} at {})", self.what, self.at)
    }
}

/// What a store was asked.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// The parts that were put: file and number.
    pub puts: Vec<(String, u32)>,
    /// How many of them met no upload.
    pub missed: u32,
    /// The n-th operation, for messages.
    pub hit: String,
}

impl Interrupted {
    pub fn new(inner: Arc<dyn Store>, at: u64, what: What) -> Arc<Interrupted> {
        Interrupted::build(inner, None, at, what, None)
    }

    /// One where it happens at the n-th call of one operation.
    pub fn of(inner: Arc<dyn Store>, operation: &'static str, at: u64, what: What) -> Arc<Interrupted> {
        Interrupted::build(inner, Some(operation), at, what, None)
    }

    /// One where a deed is done just before the n-th call of one operation.
    pub fn deed(
        inner: Arc<dyn Store>,
        operation: &'static str,
        at: u64,
        deed: impl FnOnce() + Send + 'static,
    ) -> Arc<Interrupted> {
        Interrupted::build(inner, Some(operation), at, What::Deed, Some(Box::new(deed)))
    }

    fn build(
        inner: Arc<dyn Store>,
        only: Option<&'static str>,
        at: u64,
        what: What,
        deed: Option<Box<dyn FnOnce() + Send>>,
    ) -> Arc<Interrupted> {
        Arc::new(Interrupted {
            inner,
            only,
            at,
            what,
            calls: AtomicU64::new(0),
            hit: watch::channel(false).0,
            released: watch::channel(false).0,
            reached: AtomicBool::new(false),
            log: Mutex::default(),
            deed: Mutex::new(deed),
        })
    }

    /// One that only writes down.
    pub fn never(inner: Arc<dyn Store>) -> Arc<Interrupted> {
        Interrupted::new(inner, u64::MAX, What::Stall)
    }

    /// Ends when the n-th operation comes (or has been done).
    pub async fn hit(self: Arc<Self>) {
        let _ = self.hit.subscribe().wait_for(|hit| *hit).await;
    }

    /// Lets a stalled process go on.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    pub fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }

    pub fn reached(&self) -> bool {
        self.reached.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Decorator for Interrupted {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn call<T, F, M>(&self, operation: Operation, at: &Location, mut make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send,
    {
        if matches!(
            operation,
            Operation::Resolve | Operation::Links | Operation::Beside | Operation::Lock | Operation::ConditionalPuts
        ) {
            return make().await;
        }
        let name = operation.name();
        let call = match self.only {
            Some(only) if only != name && self.reached() => u64::MAX,
            Some(only) if only != name => 0,
            _ => self.calls.fetch_add(1, Ordering::SeqCst) + 1,
        };
        if call < self.at {
            return make().await;
        }
        if let What::LoseInputs(kind) = self.what
            && name == "read"
            && !at.to_string().contains("/out/")
        {
            return Err(Error::new(kind, at, "planned loss of the inputs"));
        }
        if call == self.at {
            self.reached.store(true, Ordering::SeqCst);
            self.log.lock().unwrap().hit = format!("{name} of {at}");
        }
        let failed = |kind| Err(Error::new(kind, at, format!("planned failure of {name}, call {call}")));
        match self.what {
            What::FailBefore(kind) if call == self.at => failed(kind),
            What::FailAfter(kind) if call == self.at => make().await.and_then(|_| failed(kind)),
            What::FailBefore(_) | What::FailAfter(_) | What::Full(_) | What::LoseInputs(_) => make().await,
            What::Deed => {
                if let Some(deed) = self.deed.lock().unwrap().take() {
                    deed();
                }
                make().await
            }
            What::Stall => {
                self.hit.send_replace(true);
                let _ = self.released.subscribe().wait_for(|released| *released).await;
                make().await
            }
            What::KillBefore | What::KillAfter => {
                if call == self.at && self.what == What::KillAfter {
                    let _ = make().await;
                }
                if call == self.at {
                    self.hit.send_replace(true);
                }
                std::future::pending().await
            }
        }
    }

    async fn put_part(&self, at: &Location, upload: &UploadId, part: PartSlot, bytes: Bytes) -> Result<PartId> {
        let file = at.file_name().unwrap_or_default().to_owned();
        self.log.lock().unwrap().puts.push((file, part.number));
        let make = || self.inner.put_part(at, upload, part, bytes.clone());
        let put = self.call(Operation::PutPart, at, make).await;
        if put.as_ref().is_err_and(|e| e.kind() == ErrorKind::NoSuchUpload) {
            self.log.lock().unwrap().missed += 1;
        }
        put
    }

    async fn space(&self, at: &Location) -> Result<Option<u64>> {
        match self.what {
            What::Full(free) => Ok(Some(free)),
            _ => self.call(Operation::Space, at, || self.inner.space(at)).await,
        }
    }
}
