//! How much a worker may say in one message.
//!
//! The size of a message bounds its bytes; here its entries are counted, since the smallest have two bytes and cost the hub,
//! which serves everybody, far more. Texts for people are cut, everything else that is too much is refused.

use shardfuse_merge::bounded;
use shardfuse_merge::error::{MAX_HINT, MAX_MESSAGE};
use shardfuse_merge::limits::MAX_FACTORS;
use shardfuse_proto::v1::{self, from_worker::Message};

/// Attempts in a heartbeat: 16 times what a worker takes at a time.
const MAX_RUNNING: usize = 16_384;
/// The longest name of a factor, or id of a part, in bytes.
const MAX_NAME: usize = 16 << 10;
/// The longest name of a merge in an attempt, in bytes. Ours have 49.
const MAX_MERGE: usize = 256;

/// The message as it is passed on.
///
/// # Errors
/// What is too much, and how much may be.
pub fn bounded(mut message: Message) -> Result<Message, String> {
    match &mut message {
        Message::Heartbeat(beat) => {
            most("a heartbeat names", beat.running.len(), MAX_RUNNING, "attempts")?;
            most("a heartbeat tells the efforts of", beat.efforts.len(), MAX_RUNNING, "attempts")?;
            beat.running.iter().try_for_each(attempt)?;
        }
        Message::PieceDone(done) => {
            done.attempt.iter().try_for_each(attempt)?;
            let factors = || done.zero_factors.iter().chain(&done.live_factors);
            most("a report names", factors().count(), MAX_FACTORS, "factors")?;
            factors().try_for_each(|name| most("the name of a factor has", name.len(), MAX_NAME, "bytes"))?;
            let effects = done.effects.as_ref().map_or(0, |told| told.effects.len());
            most("a report tells the effects of", effects, MAX_FACTORS, "adapters")?;
            if let Some(v1::piece_done::Result::Part(part)) = &done.result {
                most("the id of a part has", part.store_id.len(), MAX_NAME, "bytes")?;
            }
        }
        Message::TaskFailed(failed) => {
            failed.attempt.iter().try_for_each(attempt)?;
            most("the kind of a failure has", failed.failure.len(), MAX_MERGE, "bytes")?;
            failed.message = bounded::text(std::mem::take(&mut failed.message), MAX_MESSAGE);
            failed.hint = bounded::text(std::mem::take(&mut failed.hint), MAX_HINT);
        }
        Message::Hello(_) | Message::Draining(_) => {}
    }
    Ok(message)
}

fn attempt(attempt: &v1::Attempt) -> Result<(), String> {
    most("the merge of an attempt has", attempt.merge.len(), MAX_MERGE, "bytes")
}

fn most(what: &str, is: usize, most: usize, unit: &str) -> Result<(), String> {
    if is <= most { Ok(()) } else { Err(format!("{what} {is} {unit}, at most {most} are taken")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(count: usize, merge: &str) -> Message {
        let attempt = v1::Attempt { merge: merge.into(), ..Default::default() };
        Message::Heartbeat(v1::Heartbeat { running: vec![attempt; count], ..Default::default() })
    }

    #[test]
    fn what_a_worker_may_say_is_passed_on_as_it_is() {
        for message in [beat(MAX_RUNNING, "m"), beat(1, &"m".repeat(MAX_MERGE)), Message::Draining(v1::Draining {})] {
            assert_eq!(bounded(message.clone()), Ok(message));
        }
    }

    #[test]
    fn too_many_entries_and_too_long_names_are_refused_with_both_numbers() {
        let factors = |count, name: &str| {
            let zero_factors = vec![name.to_owned(); count];
            Message::PieceDone(v1::PieceDone { zero_factors, ..Default::default() })
        };
        let part = v1::PartReceipt { store_id: "x".repeat(MAX_NAME + 1), ..Default::default() };
        let long_id = v1::PieceDone { result: Some(v1::piece_done::Result::Part(part)), ..Default::default() };
        let efforts = vec![v1::Effort::default(); MAX_RUNNING + 1];
        for message in [
            beat(MAX_RUNNING + 1, ""),
            Message::Heartbeat(v1::Heartbeat { efforts, ..Default::default() }),
            beat(1, &"m".repeat(MAX_MERGE + 1)),
            factors(MAX_FACTORS + 1, ""),
            factors(1, &"f".repeat(MAX_NAME + 1)),
            Message::PieceDone(long_id),
        ] {
            let refused = bounded(message).unwrap_err();
            assert!(refused.contains("at most"), "{refused}");
        }
    }

    #[test]
    fn what_a_worker_says_of_a_failure_is_cut_and_not_refused() {
        let text = "x".repeat(1 << 20);
        let failed = v1::TaskFailed { message: text.clone(), hint: text, ..Default::default() };
        let Ok(Message::TaskFailed(failed)) = bounded(Message::TaskFailed(failed)) else { panic!("it is refused") };
        assert_eq!((failed.message.len(), failed.hint.len()), (MAX_MESSAGE, MAX_HINT));
    }
}
