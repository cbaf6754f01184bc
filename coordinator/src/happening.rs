//! What happened to a merge or to a worker, in words for people: the status page shows the last of it.

use std::collections::VecDeque;

use shardfuse_merge::{Error, bounded};

/// How many are kept of one merge.
const MOST: usize = 200;
/// The longest text and hint in bytes.
const LONGEST: usize = 1 << 10;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The worker that it is about, by its name.
    pub worker: Option<String>,
    /// Whether it is something that should not happen.
    pub fault: bool,
    /// What.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Happening {
    /// Something that belongs to the way.
    pub fn step(at: u64, text: impl Into<String>) -> Happening {
        Happening { at, worker: None, fault: false, text: bounded::text(text.into(), LONGEST), hint: None }
    }

    /// Something that should not happen.
    pub fn fault(at: u64, text: impl Into<String>) -> Happening {
        Happening { fault: true, ..Happening::step(at, text) }
    }

    /// A failure with its hint.
    pub fn failure(at: u64, before: &str, error: &Error) -> Happening {
        Happening::fault(at, format!("{before}: {}", error.message())).hint(error.advice())
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(self, hint: Option<&str>) -> Happening {
        let hint = hint.filter(|hint| !hint.is_empty());
        Happening { hint: hint.map(|hint| bounded::text(hint.to_owned(), LONGEST)), ..self }
    }

    /// About a worker.
    #[must_use]
    pub fn of(self, worker: Option<String>) -> Happening {
        Happening { worker, ..self }
    }
}

/// The last things that happened, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Happenings {
    last: VecDeque<Happening>,
    /// How many there were before them.
    pub earlier: u64,
}

impl Happenings {
    /// Adds one.
    pub fn add(&mut self, happening: Happening) {
        if self.last.len() == MOST {
            self.last.pop_front();
            self.earlier += 1;
        }
        self.last.push_back(happening);
    }

    /// Those that are kept, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Happening> {
        self.last.iter()
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::Kind;

    use super::*;

    #[test]
    fn the_last_are_kept_and_the_others_counted() {
        let mut happenings = Happenings::default();
        (0..MOST as u64 + 7).for_each(|at| happenings.add(Happening::step(at, "x")));
        assert_eq!((happenings.iter().count(), happenings.earlier), (MOST, 7));
        assert_eq!(happenings.iter().next().map(|happening| happening.at), Some(7));
    }

    #[test]
    fn a_failure_keeps_its_hint_and_no_text_is_endless() {
        let error = Error::new(Kind::NoSpace, "x".repeat(10_000)).hint("make room");
        let happening = Happening::failure(1, "task 3", &error);
        assert!(
            happening.text.starts_with("task 3: xx") && happening.text.len() <= LONGEST,
            "{}",
            happening.text.len()
        );
        assert_eq!((happening.hint.as_deref(), happening.fault), (Some("make room"), true));
    }
}
