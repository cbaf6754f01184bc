//! What the workers' time went to: the last parts and blocks with their times, as a task stream shows them.

use std::collections::VecDeque;
use std::time::Duration;

use shardfuse_proto::v1;

use crate::registry::MergeId;

/// How long they are kept.
const KEPT: Duration = Duration::from_mins(10);
/// How many are kept at the most.
const MOST: usize = 8_000;
/// What is told at a time, at the most.
const TOLD: usize = 2_000;

/// A part or a block that was finished, and the time that it was in each stage: one after another, up to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// Counts all of them.
    pub number: u64,
    /// When its report came, in milliseconds since 1970.
    pub ended: u64,
    /// The merge.
    pub merge: MergeId,
    /// The worker's name.
    pub worker: String,
    /// The task.
    pub task: u32,
    /// The part or block.
    pub piece: u32,
    /// Bytes of the part.
    pub bytes: u64,
    /// By stage.
    pub times: v1::StageTimes,
}

/// The last of them.
#[derive(Debug, Default)]
pub(super) struct Stream {
    last: VecDeque<Stretch>,
    next: u64,
}

impl Stream {
    /// Adds what a worker reports. One of an earlier version tells no times.
    pub(super) fn note(&mut self, now: u64, merge: MergeId, worker: &str, done: &v1::PieceDone) {
        let (Some(times), Some(attempt)) = (done.times, &done.attempt) else { return };
        let oldest = now.saturating_sub(u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX));
        while self.last.len() >= MOST || self.last.front().is_some_and(|first| first.ended < oldest) {
            self.last.pop_front();
        }
        let bytes = match &done.result {
            Some(v1::piece_done::Result::Part(part)) => part.length,
            _ => 0,
        };
        self.next += 1;
        self.last.push_back(Stretch {
            number: self.next,
            ended: now,
            merge,
            worker: worker.to_owned(),
            task: attempt.task,
            piece: done.piece,
            bytes,
            times,
        });
    }

    /// Those of a merge that came after a number, the oldest first.
    pub(super) fn of(&self, merge: &MergeId, after: u64) -> Vec<Stretch> {
        self.last.iter().filter(|s| s.number > after && s.merge == *merge).take(TOLD).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(piece: u32) -> v1::PieceDone {
        let attempt = Some(v1::Attempt { task: 1, epoch: 1, merge: "label".into() });
        let times = Some(v1::StageTimes { fetch_us: 5, ..Default::default() });
        v1::PieceDone { attempt, piece, times, ..Default::default() }
    }

    #[test]
    fn a_merge_is_told_its_own_from_where_it_stopped_reading() {
        let id = |text: &str| MergeId::parse(text).unwrap();
        let (one, two) = (id("0000000000000001"), id("0000000000000002"));
        let mut stream = Stream::default();
        for piece in 0..3 {
            stream.note(1_000, one.clone(), "w1", &done(piece));
            stream.note(1_000, two.clone(), "w1", &done(piece));
        }
        let first = stream.of(&one, 0);
        assert_eq!(first.iter().map(|s| s.piece).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(stream.of(&one, first[1].number).len(), 1);
        stream.note(1_000, one.clone(), "w1", &v1::PieceDone { times: None, ..done(9) });
        assert_eq!(stream.of(&one, 0).len(), 3, "a report without times says nothing");
    }

    #[test]
    fn what_is_old_goes_and_no_number_of_reports_is_too_many() {
        let one = MergeId::parse("0000000000000001").unwrap();
        let mut stream = Stream::default();
        stream.note(0, one.clone(), "w1", &done(0));
        stream.note(u64::try_from(KEPT.as_millis()).unwrap() + 1, one.clone(), "w1", &done(1));
        assert_eq!(stream.of(&one, 0).iter().map(|s| s.piece).collect::<Vec<_>>(), [1]);
        (0..2 * MOST as u32).for_each(|piece| stream.note(700_000, one.clone(), "w1", &done(piece)));
        assert_eq!((stream.last.len(), stream.of(&one, 0).len()), (MOST, TOLD));
    }
}
