//! Where parts and blocks are on their way, and how long each of them was where.
//!
//! Heartbeats tell how many are in each stage; the report of each tells its times. Both are for people who look for what is slow.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use shardfuse_proto::v1;

/// A stage, in the order in which a part goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Waiting for memory, and for its turn to read.
    Waiting,
    /// Reading what it is made of.
    Fetching,
    /// Being computed.
    Fusing,
    /// Hashed, and waiting for its turn to be put.
    Held,
    /// Being put.
    Putting,
}

/// How many are in each stage.
#[derive(Debug, Default)]
pub struct Stages([AtomicU32; 5]);

impl Stages {
    fn of(&self, at: At) -> &AtomicU32 {
        &self.0[at as usize]
    }

    /// As a heartbeat tells it.
    pub fn now(&self) -> v1::Stages {
        let count = |at| self.of(at).load(Ordering::Relaxed);
        v1::Stages {
            waiting: count(At::Waiting).saturating_add(count(At::Held)),
            fetching: count(At::Fetching),
            fusing: count(At::Fusing),
            putting: count(At::Putting),
        }
    }
}

/// The way of one part or block. It is counted in its stage until the way is dropped.
#[derive(Debug)]
pub struct Way<'a> {
    stages: &'a Stages,
    at: At,
    since: Instant,
    times: v1::StageTimes,
}

impl<'a> Way<'a> {
    /// Begins to wait.
    pub fn begin(stages: &'a Stages) -> Way<'a> {
        stages.of(At::Waiting).fetch_add(1, Ordering::Relaxed);
        Way { stages, at: At::Waiting, since: Instant::now(), times: v1::StageTimes::default() }
    }

    /// Goes on to another stage.
    pub fn enter(&mut self, at: At) {
        self.note();
        self.stages.of(self.at).fetch_sub(1, Ordering::Relaxed);
        self.stages.of(at).fetch_add(1, Ordering::Relaxed);
        self.at = at;
    }

    /// The times until now.
    pub fn times(&mut self) -> v1::StageTimes {
        self.note();
        self.times
    }

    fn note(&mut self) {
        let now = Instant::now();
        let took = u64::try_from(now.saturating_duration_since(self.since).as_micros()).unwrap_or(u64::MAX);
        self.since = now;
        let times = &mut self.times;
        let stage = match self.at {
            At::Waiting => &mut times.wait_us,
            At::Fetching => &mut times.fetch_us,
            At::Fusing => &mut times.fuse_us,
            At::Held => &mut times.hold_us,
            At::Putting => &mut times.put_us,
        };
        *stage = stage.saturating_add(took);
    }
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        self.stages.of(self.at).fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_part_is_counted_where_it_is_and_not_after_its_end() {
        let stages = Stages::default();
        let (mut one, mut two) = (Way::begin(&stages), Way::begin(&stages));
        assert_eq!(stages.now(), v1::Stages { waiting: 2, ..Default::default() });
        one.enter(At::Fetching);
        two.enter(At::Held);
        assert_eq!(stages.now(), v1::Stages { waiting: 1, fetching: 1, ..Default::default() });
        two.enter(At::Putting);
        one.enter(At::Fusing);
        assert_eq!(stages.now(), v1::Stages { fusing: 1, putting: 1, ..Default::default() });
        // Given up, as by a revocation.
        drop((one, two));
        assert_eq!(stages.now(), v1::Stages::default());
    }

    #[test]
    fn the_times_of_the_stages_are_all_of_its_time() {
        let stages = Stages::default();
        let began = Instant::now();
        let mut way = Way::begin(&stages);
        for at in [At::Fetching, At::Fusing, At::Held, At::Putting] {
            std::thread::sleep(Duration::from_millis(2));
            way.enter(at);
        }
        std::thread::sleep(Duration::from_millis(2));
        let v1::StageTimes { wait_us, fetch_us, fuse_us, hold_us, put_us } = way.times();
        let each = [wait_us, fetch_us, fuse_us, hold_us, put_us];
        assert!(each.iter().all(|time| *time >= 2000), "{each:?}");
        assert!(u128::from(each.iter().sum::<u64>()) <= began.elapsed().as_micros(), "{each:?}");
    }
}
