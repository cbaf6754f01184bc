//! A store that fails on demand. For tests only: of this crate, and of those that must survive a failing store.
//!
//! Faults hit the n-th call of an operation, so a test says exactly where a merge is interrupted, and the counts say how
//! often a store was asked. [`Store::get`] counts as the head and the read that it consists of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::decorator;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
pub use crate::operation::Operation;
use crate::store::Store;

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

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl decorator::Decorator for Faulty {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    async fn call<T, F, M>(&self, operation: Operation, at: &Location, mut make: M) -> Result<T>
    where
        T: Send,
        F: Future<Output = Result<T>> + Send,
        M: FnMut() -> F + Send,
    {
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
            None => make().await,
            Some(Fault::Before(kind)) => error(kind),
            Some(Fault::After(kind)) => make().await.and_then(|_| error(kind)),
        }
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
