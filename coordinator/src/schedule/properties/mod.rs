//! Random histories: workers come, go, fall silent and restart; reports are late, doubled, lost and made up; the clock jumps;
//! the journal is slow. Every step is held against [`model::Model`].

mod expected;
mod model;
mod moves;
mod placed;
mod world;

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::{AbortReason, Counters, Epoch, Limits, Outcome, Piece, TaskId, TaskSpec};
use moves::Move;
use world::World;

/// What a property of the machine comes to: nothing, or what was broken.
type Check = Result<(), TestCaseError>;

const WORKERS: u64 = 5;

fn tasks() -> impl Strategy<Value = Vec<TaskSpec>> {
    let task = (1..4_u32, any::<u16>(), 0..3_u64, 0..1000_u64);
    prop::collection::vec(task, 1..8).prop_map(|drawn| {
        let build = |(drawn, id): ((u32, u16, u64, u64), u32)| {
            let (pieces, after, affinity, bytes) = drawn;
            // Each earlier task with one chance in four; numbers of pieces start anywhere.
            let after = (0..id).filter(|before| (after >> (2 * before)) & 3 == 0).map(TaskId).collect();
            TaskSpec { pieces: (id..id + pieces).map(Piece).collect(), after, affinity, bytes }
        };
        drawn.into_iter().zip(0..).map(build).collect()
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    let counts = (1..5_u32, 2..12_u32, 1..4_u32, 1..4_u32, 1..4_u32);
    (counts, 0..3000_u64).prop_map(|((max_attempts, cap, strikes, slow, still), delay)| Limits {
        lease: Duration::from_secs(10),
        max_attempts,
        attempt_cap: cap,
        worker_strikes: strikes,
        slow_factor: slow,
        retry_delay: Duration::from_millis(delay),
        still_leases: still,
    })
}

/// Limits that no history comes up to.
fn generous() -> impl Strategy<Value = Limits> {
    limits().prop_map(|limits| Limits { max_attempts: 1_000_000, attempt_cap: 1_000_000, ..limits })
}

/// Which pieces a journal holds at the start: one in eight.
fn journaled() -> impl Strategy<Value = Vec<bool>> {
    let any_of_eight = any::<(u32, u32, u32)>().prop_map(|(a, b, c)| a & b & c);
    any_of_eight.prop_map(|bits| (0..u32::BITS).map(|bit| (bits >> bit) & 1 == 1).collect())
}

type History = (Vec<TaskSpec>, Limits, Vec<bool>, Vec<Move>);

/// A move is decoded from one number: drawn from nested strategies, it would cost fifty times what it takes to make it.
fn history(limits: impl Strategy<Value = Limits>) -> impl Strategy<Value = History> {
    let moves = prop::collection::vec(any::<u64>().prop_map(Move::decode), 0..250);
    (tasks(), limits, journaled(), moves)
}

proptest! {
    #![proptest_config(Config::with_cases(3000))]

    /// Every invariant in the module's documentation, after every step of any history.
    #[test]
    fn no_history_breaks_an_invariant((tasks, limits, journaled, moves) in history(limits())) {
        let mut world = World::new(tasks, limits, Epoch(3), &journaled);
        for step in moves {
            world.make(step)?;
        }
    }

    /// Whatever went wrong before: with one healthy worker, and everything delivered from here on, the merge is published.
    #[test]
    fn once_faults_stop_the_merge_is_published(
        (tasks, limits, journaled, moves) in history(generous()),
        healthy in any::<u8>(),
        slots in 1..4_u32,
    ) {
        let mut world = World::new(tasks, limits, Epoch(1), &journaled);
        for step in moves {
            world.make(step.without_end())?;
        }
        world.heal(healthy, slots)?;
    }
}

/// The properties above would hold for histories in which nothing happens.
#[test]
fn the_histories_come_to_every_end_and_through_every_counter() {
    let mut seen = Seen::default();
    let mut runner = TestRunner::deterministic();
    for _ in 0..1000 {
        let (tasks, limits, journaled, moves) = draw(&mut runner, &history(limits()));
        let mut world = World::new(tasks, limits, Epoch(1), &journaled);
        for step in moves {
            world.make(step).expect("the property above says so");
        }
        seen.note(&world);
    }
    assert!(seen.all_more_than(10), "{seen:?}");
}

fn draw<T>(runner: &mut TestRunner, strategy: &impl Strategy<Value = T>) -> T {
    strategy.new_tree(runner).expect("nothing is filtered out").current()
}

#[derive(Debug, Default)]
struct Seen {
    published: u32,
    unfinished: u32,
    cancelled: u32,
    permanent: u32,
    exhausted: u32,
    quarantined: u32,
    counted: [u32; 9],
}

impl Seen {
    fn note(&mut self, world: &World) {
        match world.schedule.outcome() {
            None => self.unfinished += 1,
            Some(Outcome::Published) => self.published += 1,
            Some(Outcome::Aborted(AbortReason::Cancelled)) => self.cancelled += 1,
            Some(Outcome::Aborted(AbortReason::Permanent { .. })) => self.permanent += 1,
            Some(Outcome::Aborted(AbortReason::Exhausted { .. })) => self.exhausted += 1,
        }
        self.quarantined += u32::from(world.model.somebody_is_quarantined());
        let Counters {
            accepted,
            duplicates,
            disagreeing,
            stale,
            expired,
            stalled,
            retries,
            speculated,
            ignored,
            retries_by: _,
        } = world.schedule.counters();
        let counts = [accepted, duplicates, disagreeing, stale, expired, stalled, retries, speculated, ignored];
        for (seen, count) in self.counted.iter_mut().zip(counts) {
            *seen += u32::from(count > 0);
        }
    }

    fn all_more_than(&self, least: u32) -> bool {
        let ends = [self.published, self.unfinished, self.cancelled, self.permanent, self.exhausted, self.quarantined];
        ends.iter().chain(&self.counted).all(|&count| count > least)
    }
}
