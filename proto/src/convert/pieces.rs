//! Assignments that are larger than a message: a part may hold a hundred thousand tensors.

use std::collections::HashMap;

use prost::Message;

use super::malformed::{Malformed, Result, need};
use crate::v1::{self, assign, to_worker};

/// A message is begun anew above this length, in bytes. Far below the largest message, so that one tensor more fits.
const LENGTH: usize = 3 << 20;
/// What assignments may hold that are not whole yet, in bytes: on the wire, and in memory for each tensor.
const MAX_WAITING: usize = 512 << 20;

/// An assignment as messages: itself, and what does not fit into it.
pub fn split(mut assign: v1::Assign) -> Vec<to_worker::Message> {
    let attempt = assign.attempt.clone();
    let Some(assign::Job::Fill(fill)) = &mut assign.job else { return vec![to_worker::Message::Assign(assign)] };
    let mut rest = std::mem::take(&mut fill.tensors).into_iter().peekable();
    let mut chunk = || {
        let (mut chunk, mut length) = (Vec::new(), 0);
        while let Some(tensor) = rest.next_if(|t| chunk.is_empty() || length + t.encoded_len() <= LENGTH) {
            // With its field's number and length.
            length += tensor.encoded_len() + 8;
            chunk.push(tensor);
        }
        chunk
    };
    fill.tensors = chunk();
    let mut more = Vec::new();
    loop {
        let tensors = chunk();
        if tensors.is_empty() {
            break;
        }
        fill.tensors_to_follow += tensors.len() as u32;
        more.push(to_worker::Message::MoreTensors(v1::MoreTensors { attempt: attempt.clone(), tensors }));
    }
    let mut messages = vec![to_worker::Message::Assign(assign)];
    messages.append(&mut more);
    messages
}

/// Puts assignments together again.
#[derive(Debug, Default)]
pub struct Gather {
    waiting: HashMap<(String, u32, u32), Waiting>,
    /// Bytes of all that waits.
    held: usize,
}

/// An assignment that is not whole yet.
#[derive(Debug)]
struct Waiting {
    assign: v1::Assign,
    /// What has arrived of it, in bytes.
    held: usize,
}

impl Gather {
    /// Takes the next message of a session. `None` if it belongs to an assignment that is not whole yet.
    ///
    /// # Errors
    /// If it continues nothing, or more waits than may.
    pub fn take(&mut self, message: to_worker::Message) -> Result<Option<to_worker::Message>> {
        match message {
            to_worker::Message::Assign(assign) if to_follow(&assign) > 0 => {
                let key = key(assign.attempt.as_ref())?;
                let held = size(assign.encoded_len(), tensors(&assign));
                self.hold(held)?;
                match self.waiting.insert(key, Waiting { assign, held }) {
                    Some(_) => Err(Malformed("an assignment begins anew before it is whole".into())),
                    None => Ok(None),
                }
            }
            to_worker::Message::MoreTensors(more) => self.more(more),
            other => Ok(Some(other)),
        }
    }

    fn more(&mut self, more: v1::MoreTensors) -> Result<Option<to_worker::Message>> {
        let key = key(more.attempt.as_ref())?;
        let held = size(more.encoded_len(), more.tensors.len());
        self.hold(held)?;
        let Some(waiting) = self.waiting.get_mut(&key) else {
            return Err(Malformed("tensors that belong to no assignment".into()));
        };
        waiting.held += held;
        let Some(assign::Job::Fill(fill)) = &mut waiting.assign.job else {
            return Err(Malformed("tensors that belong to no fill".into()));
        };
        let left = u32::try_from(more.tensors.len()).ok().and_then(|n| fill.tensors_to_follow.checked_sub(n));
        let Some(left) = left.filter(|_| !more.tensors.is_empty()) else {
            return Err(Malformed(format!(
                "{} tensors follow an assignment that lacks {}",
                more.tensors.len(),
                fill.tensors_to_follow
            )));
        };
        fill.tensors_to_follow = left;
        fill.tensors.extend(more.tensors);
        if left > 0 {
            return Ok(None);
        }
        let Some(whole) = self.waiting.remove(&key) else { return Ok(None) };
        self.held -= whole.held;
        Ok(Some(to_worker::Message::Assign(whole.assign)))
    }

    fn hold(&mut self, bytes: usize) -> Result<()> {
        self.held += bytes;
        match self.held <= MAX_WAITING {
            true => Ok(()),
            false => Err(Malformed(format!("assignments of more than {MAX_WAITING} bytes that are not whole"))),
        }
    }
}

/// The bytes of a message on the wire, and those of its tensors in memory: one without content has two bytes on the wire.
fn size(encoded: usize, tensors: usize) -> usize {
    encoded + tensors * size_of::<v1::Tensor>()
}

fn tensors(assign: &v1::Assign) -> usize {
    match &assign.job {
        Some(assign::Job::Fill(fill)) => fill.tensors.len(),
        _ => 0,
    }
}

fn to_follow(assign: &v1::Assign) -> u32 {
    match &assign.job {
        Some(assign::Job::Fill(fill)) => fill.tensors_to_follow,
        _ => 0,
    }
}

fn key(attempt: Option<&v1::Attempt>) -> Result<(String, u32, u32)> {
    let attempt = need(attempt, "attempt")?;
    Ok((attempt.merge.clone(), attempt.task, attempt.epoch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_MESSAGE;

    fn assign(task: u32, tensors: usize) -> v1::Assign {
        let tensor = |i: usize| v1::Tensor {
            name: format!("model.layers.{i}.a_name_of_a_usual_length.that.tensors.have.weight"),
            dtype: "F32".into(),
            shape: vec![1],
            offset: i as u64 * 4,
            length: 4,
            ..v1::Tensor::default()
        };
        let fill = v1::Fill { tensors: (0..tensors).map(tensor).collect(), ..v1::Fill::default() };
        let attempt = Some(v1::Attempt { task, epoch: 1, merge: "m".into() });
        v1::Assign { attempt, job: Some(assign::Job::Fill(fill)), ..v1::Assign::default() }
    }

    #[test]
    fn an_assignment_of_many_tensors_goes_in_messages_that_fit_and_comes_back_whole() {
        let whole = assign(7, 300_000);
        assert!(whole.encoded_len() > MAX_MESSAGE);
        let messages = split(whole.clone());
        assert!(messages.len() > 2);
        let mut gather = Gather::default();
        let mut got = Vec::new();
        for message in messages {
            let wire = v1::ToWorker { message: Some(message) };
            assert!(wire.encoded_len() < MAX_MESSAGE / 2, "{} bytes", wire.encoded_len());
            got.extend(gather.take(wire.message.unwrap()).unwrap());
        }
        assert_eq!(got, [to_worker::Message::Assign(whole)]);
        assert_eq!(gather.held, 0);
    }

    #[test]
    fn a_small_assignment_is_one_message_and_two_large_ones_may_mingle() {
        assert_eq!(split(assign(1, 10)), [to_worker::Message::Assign(assign(1, 10))]);
        let (one, two) = (split(assign(1, 100_000)), split(assign(2, 100_000)));
        let mut gather = Gather::default();
        let mut got = Vec::new();
        for (a, b) in one.into_iter().zip(two) {
            got.extend(gather.take(a).unwrap());
            got.extend(gather.take(b).unwrap());
        }
        assert_eq!(got, [1, 2].map(|task| to_worker::Message::Assign(assign(task, 100_000))));
    }

    #[test]
    fn an_assignment_that_is_whole_counts_no_more_while_another_waits() {
        let (one, two) = (split(assign(1, 100_000)), split(assign(2, 100_000)));
        let mut gather = Gather::default();
        gather.take(one[0].clone()).unwrap();
        let held = gather.held;
        for message in two {
            gather.take(message).unwrap();
        }
        assert!(held > 0 && gather.held == held, "{held} and {}", gather.held);
    }

    #[test]
    fn tensors_that_continue_nothing_or_too_much_are_malformed() {
        let more = |task, n| {
            let tensors = vec![v1::Tensor::default(); n];
            let attempt = Some(v1::Attempt { task, epoch: 1, merge: "m".into() });
            to_worker::Message::MoreTensors(v1::MoreTensors { attempt, tensors })
        };
        assert!(Gather::default().take(more(1, 1)).is_err(), "no assignment was begun");
        let mut begun = assign(1, 1);
        let Some(assign::Job::Fill(fill)) = &mut begun.job else { unreachable!() };
        fill.tensors_to_follow = 2;
        let begin = to_worker::Message::Assign(begun);
        for wrong in [more(1, 3), more(1, 0), more(2, 2), begin.clone()] {
            let mut gather = Gather::default();
            assert_eq!(gather.take(begin.clone()).unwrap(), None);
            assert!(gather.take(wrong).is_err());
        }
        // An empty tensor has two bytes on the wire.
        let mut gather = Gather::default();
        assert_eq!(gather.take(begin).unwrap(), None);
        gather.held = MAX_WAITING - 2 * size_of::<v1::Tensor>();
        assert!(gather.take(more(1, 2)).is_err(), "what waits counts in memory too");
    }
}
