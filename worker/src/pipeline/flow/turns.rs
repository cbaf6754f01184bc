//! How many parts read at a time, and how many write.
//!
//! Parts that all read at once finish reading at once: then nothing is read while all of them write, and each direction of
//! the network is idle half the time. So parts take turns: the first to come is read first, by few at a time, and while it
//! is fused and put the next ones read. How many are few depends on the store: two fill a slow link, dozens are needed
//! where one connection is slow and the network is fast. A [`Climb`] finds it from the rate.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::climb::{Climb, LEAST};

/// A shorter time says nothing about a rate.
const WINDOW: Duration = Duration::from_millis(100);

/// Turns for one direction. Clones share it.
#[derive(Debug, Clone)]
pub struct Turns {
    turns: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    climb: Climb,
    /// Turns that are to be taken out of circulation as they come back.
    surplus: usize,
    /// The window that is measured.
    began: Option<Instant>,
    bytes: u64,
    finished: usize,
    /// Parts that wait for a turn, and whether any did while the window was open.
    waiting: usize,
    waited: bool,
}

/// A part in the queue, also where it is given up.
struct Queued<'a>(&'a Turns);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

/// A turn. It ends when it is dropped; [`Turn::moved`] ends it with what it brought.
#[derive(Debug)]
pub struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    flow: Turns,
    bytes: u64,
}

impl Turns {
    /// Few at a time, to begin with.
    pub fn new() -> Self {
        let state =
            State { climb: Climb::new(), surplus: 0, began: None, bytes: 0, finished: 0, waiting: 0, waited: false };
        Turns { turns: Arc::new(Semaphore::new(LEAST)), state: Arc::new(Mutex::new(state)) }
    }

    /// Waits for a turn; they come in the order of asking.
    pub async fn turn(&self) -> Turn {
        let permit = match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.state().waiting += 1;
                let _queued = Queued(self);
                match Arc::clone(&self.turns).acquire_owned().await {
                    Ok(permit) => permit,
                    Err(_) => unreachable!("the semaphore is never closed"),
                }
            }
        };
        self.state().began.get_or_insert_with(Instant::now);
        Turn { permit: Some(permit), flow: self.clone(), bytes: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Ends the turn: so many bytes were moved in it.
    pub fn moved(mut self, bytes: u64) {
        self.bytes = bytes;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let mut state = self.flow.state();
        let more = state.finish(self.bytes);
        if state.surplus > 0 {
            state.surplus -= 1;
            permit.forget();
        }
        drop(state);
        self.flow.turns.add_permits(more);
    }
}

impl State {
    /// A turn has ended. Returns the turns that there are more from now on.
    fn finish(&mut self, bytes: u64) -> usize {
        self.bytes += bytes;
        self.finished += 1;
        self.waited |= self.waiting > 0;
        let before = self.climb.limit();
        let Some(took) = self.began.map(|began| began.elapsed()) else { return 0 };
        if self.finished < 2 * before || took < WINDOW {
            return 0;
        }
        // A rate says how much a limit lets through only if somebody waited for it.
        if self.waited {
            self.climb.measured(self.bytes as f64 / took.as_secs_f64());
        }
        (self.began, self.bytes, self.finished, self.waited) = (Some(Instant::now()), 0, 0, false);
        let now = self.climb.limit();
        self.surplus += before.saturating_sub(now);
        let more = now.saturating_sub(before);
        let kept = more.min(self.surplus);
        self.surplus -= kept;
        more - kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries `rate` bytes a second in all, shared evenly; each transfer also waits `latency`.
    async fn transfers(count: usize, bytes: u64, rate: f64, latency: Duration) -> (Vec<Duration>, usize) {
        let flow = Turns::new();
        let sharing = Arc::new(Mutex::new(0usize));
        let began = Instant::now();
        let one = |_| {
            let (flow, sharing) = (flow.clone(), Arc::clone(&sharing));
            async move {
                let turn = flow.turn().await;
                tokio::time::sleep(latency).await;
                *sharing.lock().unwrap() += 1;
                let mut left = bytes as f64;
                while left > 0.0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    left -= rate * 0.01 / *sharing.lock().unwrap() as f64;
                }
                *sharing.lock().unwrap() -= 1;
                turn.moved(bytes);
                began.elapsed()
            }
        };
        let ends = futures::future::join_all((0..count).map(one)).await;
        let limit = flow.state().climb.limit();
        (ends, limit)
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_slow_link_the_first_parts_are_there_long_before_the_last() {
        let (ends, limit) = transfers(64, 8 << 20, 10e6, Duration::from_millis(20)).await;
        let (first, last) = (ends[0].as_secs_f64(), ends[63].as_secs_f64());
        assert!(first < last / 16.0, "{first} s of {last} s");
        assert!(limit <= 4, "{limit}");
        let ideal = 64.0 * f64::from(8 << 20) / 10e6;
        assert!(last < ideal * 1.05, "the link is full: {last} s, {ideal} s at best");
    }

    #[tokio::test(start_paused = true)]
    async fn where_requests_mostly_wait_many_run() {
        // 20 ms of 1 MiB each at 1 GB/s, behind 200 ms of latency: a few requests leave the network idle.
        let (ends, limit) = transfers(4000, 1 << 20, 1e9, Duration::from_millis(200)).await;
        assert!(limit >= 64, "{limit}");
        let alone = 4000.0 * 0.2 / LEAST as f64;
        assert!(ends[3999].as_secs_f64() < alone / 8.0, "{:?}", ends[3999]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_given_up_is_free_again() {
        let flow = Turns::new();
        for _ in 0..100 {
            drop(flow.turn().await);
        }
        assert!(flow.turns.available_permits() >= LEAST);
    }
}
