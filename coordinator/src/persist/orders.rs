//! The writer of the journal beside a driver that hands over pieces, hears of them, and stops: in thousands of orders, which
//! shuttle chooses. The code is the product's; journal and clock are stand-ins, since shuttle runs no timers and no files.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use shuttle::future::{block_on, spawn, yield_now};

use super::*;

/// Orders that are tried in each case.
const ORDERS: usize = 2000;

/// A journal that takes a while, and fails at one of its batches.
struct Kept {
    written: Arc<Mutex<Vec<u32>>>,
    batches: usize,
    fails_at: Option<usize>,
}

impl Log for Kept {
    async fn write(&mut self, batch: Vec<Item>) -> Result<Persisted> {
        self.batches += 1;
        yield_now().await;
        if self.fails_at == Some(self.batches) {
            return Err(Error::new(Kind::Io, "the journal cannot be written"));
        }
        let pieces: Vec<PieceRecord> = batch.into_iter().map(|item| item.record).collect();
        self.written.lock().unwrap().extend(pieces.iter().map(|p| p.piece));
        yield_now().await;
        Ok(Persisted { pieces, measured: Vec::new() })
    }
}

/// Waits for a few turns, whatever the clock says.
struct Turns;

impl Runtime for Turns {
    async fn wait(&self, _: Duration, more: impl Future<Output = ()> + Send) {
        let turns = async {
            for _ in 0..2 {
                yield_now().await;
            }
        };
        futures::future::select(std::pin::pin!(more), std::pin::pin!(turns)).await;
    }
}

fn item(piece: u32) -> Item {
    Item { record: PieceRecord::of_one_byte(0, piece), sums: None }
}

/// What a case is about.
#[derive(Clone, Copy)]
struct Case {
    pieces: u32,
    /// The batch that cannot be written.
    fails_at: Option<usize>,
    /// The number of messages after which the driver ends.
    hears: usize,
}

fn in_many_orders(case: Case) {
    let run = move || {
        let Case { pieces, fails_at, hears } = case;
        let written = Arc::new(Mutex::new(Vec::new()));
        let (items, receive) = mpsc::unbounded_channel();
        let (mailbox, mut inputs) = mpsc::unbounded_channel();
        let mut log = Kept { written: Arc::clone(&written), batches: 0, fails_at };
        let tell = move |persisted: Persisted| _ = mailbox.send(persisted);
        let writer = spawn(async move { write(receive, &mut log, tell, &Turns).await });
        let journaled = Arc::clone(&written);
        let driver = spawn(async move {
            let mut told = BTreeSet::new();
            for _ in 0..hears {
                let Some(persisted) = inputs.recv().await else { break };
                for piece in persisted.pieces {
                    assert!(journaled.lock().unwrap().contains(&piece.piece), "told of a piece before it is journaled");
                    assert!(told.insert(piece.piece), "told twice");
                }
            }
            told
        });
        block_on(async move {
            for piece in 0..pieces {
                // One that failed takes no more.
                let _ = items.send(item(piece));
                yield_now().await;
            }
            drop(items);
            let ended = writer.await.unwrap();
            let told = driver.await.unwrap();
            let written = written.lock().unwrap().clone();
            let all: Vec<u32> = (0..pieces).collect();
            assert!(all.starts_with(&written), "journaled in another order: {written:?}");
            match ended {
                Ok(()) => assert_eq!(written, all, "the end of the writer is the end of the journal"),
                Err(_) => assert!(fails_at.is_some() && written.len() < all.len()),
            }
            if hears == usize::MAX {
                assert_eq!(told.into_iter().collect::<Vec<_>>(), written, "what is journaled is told");
            }
        });
    };
    shuttle::check_random(run, ORDERS);
}

#[test]
fn what_is_told_is_journaled_and_all_is_journaled_at_the_end() {
    in_many_orders(Case { pieces: 6, fails_at: None, hears: usize::MAX });
}

#[test]
fn a_driver_that_stops_leaves_a_journal_that_is_whole() {
    in_many_orders(Case { pieces: 6, fails_at: None, hears: 1 });
}

#[test]
fn a_journal_that_fails_says_so_and_nothing_is_told_that_it_does_not_hold() {
    in_many_orders(Case { pieces: 6, fails_at: Some(2), hears: usize::MAX });
}
