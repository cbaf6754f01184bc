//! The error of a merge whose parts could not be verified.

use std::time::Duration;

use shardfuse_merge::{Error, Kind};

use crate::checks::{Digest, Undecidable};

/// A part that could not be verified: which workers computed it, with what result, why nobody can decide, and what to do.
pub(super) fn unverified(part: &str, had: &[(Option<String>, Digest)], why: &Undecidable, timeout: Duration) -> Error {
    let digests: Vec<String> = had.iter().map(digest_and_worker).collect();
    let message = format!("{part} is {}: {}", digests.join(", "), reason(why, timeout));
    Error::new(Kind::Unverified, message).hint(hint(had, why))
}

fn digest_and_worker((worker, digest): &(Option<String>, Digest)) -> String {
    let digest = &blake3::Hash::from_bytes(*digest).to_hex()[..16];
    format!("{digest} ({})", worker.as_deref().unwrap_or("journal"))
}

fn reason(why: &Undecidable, timeout: Duration) -> String {
    let last = |failure: &str| match failure {
        "" => String::new(),
        failure => format!("; the last failure: {failure}"),
    };
    match why {
        Undecidable::Disagreement => "no two of them agree".to_owned(),
        Undecidable::NoOtherWorker { connected, last_failure } => {
            let workers = match connected {
                1 => "1 worker of the class is connected".to_owned(),
                n => format!("{n} workers of the class are connected"),
            };
            format!("no other worker could compute it within {timeout:?}, {workers}{}", last(last_failure))
        }
        Undecidable::Failures { times, last_failure } => {
            format!("computing it again failed {times} times{}", last(last_failure))
        }
    }
}

fn hint(had: &[(Option<String>, Digest)], why: &Undecidable) -> &'static str {
    match why {
        Undecidable::Disagreement => {
            "test the memory of these machines, and run the same command again with other workers"
        }
        Undecidable::Failures { .. } => "look at the last failure, and run the same command again",
        Undecidable::NoOtherWorker { .. } if had.len() > 1 => {
            "a third worker of the class decides which digest is right: start one and run the same command again"
        }
        Undecidable::NoOtherWorker { .. } => {
            "--verify-parts needs at least 2 workers of the class: start another one and run the same command again, or \
             leave the option out"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn error(workers: &[u64], why: &Undecidable) -> Error {
        let had: Vec<_> =
            workers.iter().map(|worker| (Some(format!("worker {worker}")), [*worker as u8; 32])).collect();
        unverified("part 3 of model.safetensors", &had, why, TIMEOUT)
    }

    fn nobody(connected: usize) -> Undecidable {
        Undecidable::NoOtherWorker { connected, last_failure: String::new() }
    }

    #[test]
    fn one_worker_is_told_how_many_there_were_and_that_two_are_needed() {
        let error = error(&[1], &nobody(1));
        assert_eq!(
            error.message(),
            "part 3 of model.safetensors is 0101010101010101 (worker 1): no other worker could compute it within 60s, \
             1 worker of the class is connected"
        );
        assert!(error.advice().unwrap().contains("at least 2 workers"), "{error:?}");
    }

    #[test]
    fn two_workers_that_differ_are_told_that_a_third_decides() {
        let error = error(&[1, 2], &nobody(2));
        assert!(error.message().contains("(worker 1), 0202020202020202 (worker 2)"), "{error}");
        assert!(error.message().ends_with("2 workers of the class are connected"), "{error}");
        assert!(error.advice().unwrap().contains("third worker"), "{error:?}");
    }

    #[test]
    fn a_failure_is_named_and_no_worker_is_asked_for() {
        let why = Undecidable::Failures { times: 20, last_failure: "the disk is full".to_owned() };
        let error = error(&[1], &why);
        assert!(error.message().ends_with("failed 20 times; the last failure: the disk is full"), "{error}");
        assert!(!error.advice().unwrap().contains("start"), "{error:?}");
    }
}
