//! Values that several parts need: loaded once, also when two want one at the same moment, and kept while there is room.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::Failure;

/// Loaded values up to a number of bytes, the least recently used out first. What is in use stays.
#[derive(Debug)]
pub struct Cache<K, V> {
    slots: Mutex<Slots<K, V>>,
    limit: u64,
}

#[derive(Debug)]
struct Slots<K, V> {
    by_key: HashMap<K, Slot<V>>,
    clock: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Slot<V> {
    cell: Arc<OnceCell<Arc<V>>>,
    used: u64,
    bytes: u64,
}

impl<V> Slot<V> {
    /// Nobody loads it and nobody holds it.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.cell) == 1 && self.cell.get().is_none_or(|v| Arc::strong_count(v) == 1)
    }
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// A cache of so many bytes.
    pub fn new(limit: u64) -> Self {
        Cache { slots: Mutex::new(Slots { by_key: HashMap::new(), clock: 0, bytes: 0 }), limit }
    }

    /// Bytes that it keeps at the most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes that are kept or being loaded.
    pub fn bytes(&self) -> u64 {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).bytes
    }

    /// The value of a key. The first to ask loads it while the others wait; if that fails or is given up, the next one
    /// tries. Room for `bytes` is made before loading begins.
    pub async fn get(
        &self,
        key: K,
        bytes: u64,
        load: impl Future<Output = Result<V, Failure>>,
    ) -> Result<Arc<V>, Failure> {
        let cell = self.slot(&key, bytes);
        let value = cell.get_or_try_init(|| async { load.await.map(Arc::new) }).await.cloned();
        if value.is_err() {
            self.forget(&key, &cell);
        }
        value
    }

    fn slot(&self, key: &K, bytes: u64) -> Arc<OnceCell<Arc<V>>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.clock += 1;
        let now = slots.clock;
        if let Some(slot) = slots.by_key.get_mut(key) {
            slot.used = now;
            return Arc::clone(&slot.cell);
        }
        while slots.bytes + bytes > self.limit {
            let oldest = slots.by_key.iter().filter(|(_, s)| s.is_idle()).min_by_key(|(_, s)| s.used);
            let Some(oldest) = oldest.map(|(k, _)| k.clone()) else { break };
            if let Some(slot) = slots.by_key.remove(&oldest) {
                slots.bytes -= slot.bytes;
            }
        }
        let cell = Arc::new(OnceCell::new());
        slots.bytes += bytes;
        slots.by_key.insert(key.clone(), Slot { cell: Arc::clone(&cell), used: now, bytes });
        cell
    }

    /// Drops a slot that nobody loads any more.
    fn forget(&self, key: &K, cell: &Arc<OnceCell<Arc<V>>>) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = slots.by_key.get(key).is_some_and(|s| Arc::ptr_eq(&s.cell, cell) && !cell.initialized());
        // The slot's and this call's.
        if mine
            && Arc::strong_count(cell) == 2
            && let Some(slot) = slots.by_key.remove(key)
        {
            slots.bytes -= slot.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn two_that_want_the_same_load_it_once() {
        let cache = Cache::<u32, u32>::new(100);
        let loads = AtomicU32::new(0);
        let get = || {
            cache.get(1, 10, async {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(7)
            })
        };
        let (a, b) = tokio::join!(get(), get());
        assert_eq!((*a.unwrap(), *b.unwrap(), loads.into_inner()), (7, 7, 1));
    }

    #[tokio::test]
    async fn who_waits_loads_when_the_first_gives_up() {
        let cache = Arc::new(Cache::<u32, u32>::new(100));
        let first = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.get(1, 10, std::future::pending()).await }
        });
        tokio::task::yield_now().await;
        let second = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.get(1, 10, std::future::ready(Ok(2))).await.map(|v| *v) }
        });
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let cache = Cache::<u32, u32>::new(100);
        assert!(cache.get(1, 10, async { Err(Failure::local("no")) }).await.is_err());
        assert_eq!(cache.slots.lock().unwrap().bytes, 0);
        assert_eq!(*cache.get(1, 10, async { Ok(3) }).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn the_longest_unused_goes_first_and_what_is_held_stays() {
        let cache = Cache::<u32, u32>::new(30);
        let load = |k: u32| cache.get(k, 10, async move { Ok(k) });
        let held = load(1).await.unwrap();
        load(2).await.unwrap();
        load(3).await.unwrap();
        load(2).await.unwrap();
        load(4).await.unwrap();
        let mut kept: Vec<u32> = cache.slots.lock().unwrap().by_key.keys().copied().collect();
        kept.sort_unstable();
        assert_eq!((kept, *held), (vec![1, 2, 4], 1));
    }
}
