//! A device's context, what is under way on it, and whether it still answers.
//!
//! A GPU can hang: a kernel that never ends, a copy that is never done. No call of the driver returns an error then; those
//! that wait for the device simply do not return. So everything that waits for it is counted in and out, and a thread of
//! its own looks whether anything came out lately. Where nothing did, the card is **silent** for good: nobody waits for
//! it any more, and what it holds is not given back, since giving back waits too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cudarc::driver::CudaContext;

/// Looks in the time after which a card counts as silent.
const LOOKS: u32 = 16;

/// A context and what is known of its device.
#[derive(Debug)]
pub(super) struct Card {
    context: Arc<CudaContext>,
    begun: AtomicU64,
    ended: AtomicU64,
    silent: AtomicBool,
}

impl Card {
    pub(super) fn new(context: Arc<CudaContext>) -> Self {
        Card { context, begun: AtomicU64::new(0), ended: AtomicU64::new(0), silent: AtomicBool::new(false) }
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }

    /// Whether it has stopped answering.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    /// Something begins that ends only if the device works.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// It has ended.
    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Does what may wait for the device.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.begin();
        let result = work();
        self.end();
        result
    }

    fn counts(&self) -> Counts {
        // In this order: what begins and ends in between is not taken for something that is under way.
        let ended = self.ended.load(Ordering::Acquire);
        Counts { begun: self.begun.load(Ordering::Acquire), ended }
    }
}

/// How much has begun and ended so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    begun: u64,
    ended: u64,
}

/// How often in a row nothing had ended although something was under way. It counts looks and no time: a process that is
/// stopped and goes on, or a machine that slept, has not looked meanwhile.
#[derive(Debug, Default)]
struct Patience {
    ended: u64,
    quiet: u32,
}

impl Patience {
    /// One more look; true if it was the last.
    fn is_over(&mut self, now: Counts) -> bool {
        if now.begun == now.ended || now.ended != self.ended {
            *self = Patience { ended: now.ended, quiet: 0 };
        } else {
            self.quiet += 1;
        }
        // The first look may have come right after the beginning.
        self.quiet > LOOKS
    }
}

/// Looks at a card until it is dropped; calls `silent` once nothing has ended on it for `patience` while something should.
pub(super) fn watch(
    card: &Arc<Card>,
    patience: Duration,
    silent: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let card = Arc::downgrade(card);
    std::thread::Builder::new().name("cuda-watch".into()).spawn(move || {
        if look(&card, patience) {
            silent();
        }
    })?;
    Ok(())
}

fn look(card: &Weak<Card>, time: Duration) -> bool {
    let mut patience = Patience::default();
    loop {
        std::thread::sleep(time / LOOKS);
        let Some(card) = card.upgrade() else { return false };
        if patience.is_over(card.counts()) {
            card.silent.store(true, Ordering::Release);
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(patience: &mut Patience, begun: u64, ended: u64, times: u32) -> bool {
        (0..times).any(|_| patience.is_over(Counts { begun, ended }))
    }

    #[test]
    fn only_work_that_does_not_end_wears_the_patience_out() {
        let mut patience = Patience::default();
        assert!(!looks(&mut patience, 0, 0, 100), "nothing was begun");
        assert!(!looks(&mut patience, 7, 7, 100), "all of it ended");
        assert!(!looks(&mut patience, 8, 7, LOOKS));
        assert!(patience.is_over(Counts { begun: 8, ended: 7 }));
    }

    #[test]
    fn every_end_begins_the_wait_anew_and_a_beginning_does_not() {
        let mut patience = Patience::default();
        for ended in 0..50 {
            assert!(!looks(&mut patience, ended + 4, ended, LOOKS), "one tile after another ends");
        }
        let mut patience = Patience::default();
        assert!((0..).take(LOOKS as usize + 1).any(|n| patience.is_over(Counts { begun: 1 + n, ended: 0 })));
    }
}
