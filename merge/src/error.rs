//! What the pure domain refuses, and how it says so.
//!
//! One type for the whole crate: a stable [`Kind`] for programs, a message that names the thing and both values for
//! people, and an optional hint. Messages are lowercase, without a full stop, and never repeat their source. A failure has at
//! most 8 KiB, whatever the input says: it crosses the network and stands in records.

use std::fmt;

use crate::bounded;

/// The longest message, in bytes. A longer one is cut.
pub const MAX_MESSAGE: usize = 6 << 10;
/// The longest hint, in bytes. A longer one is cut.
pub const MAX_HINT: usize = 2 << 10;

/// The stable name of a failure. `as_str` is part of the command line's contract (`--error-format json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A file that the folder must hold is not there.
    MissingFile,
    /// A file of an input that would be lost: it is neither used nor known to be superfluous, or it is not complete.
    UnusedFile,
    /// A configuration file is not JSON, lacks a field, or contradicts itself.
    BadConfig,
    /// A safetensors header or length is wrong.
    BadSafetensors,
    /// An index contradicts the files that it names.
    BadIndex,
    /// A name from an input would leave its folder.
    UnsafePath,
    /// A pickle holds something that is not plain tensor data.
    UnsafePickle,
    /// A PyTorch file is damaged, or laid out in a way that is not understood.
    BadPickle,
    /// A tensor without elements where values are needed.
    EmptyTensor,
    /// A tensor that should be there is not.
    MissingTensor,
    /// One factor of a low-rank pair without the other.
    IncompletePair,
    /// Two statements of a rank disagree.
    RankMismatch,
    /// Two shapes that must fit do not.
    ShapeMismatch,
    /// Adapter tensors that no base tensor consumes.
    UnmatchedKeys,
    /// NaN, infinity, or an overflow of the output dtype.
    NonFinite,
    /// Encoding the merged weights again would lose too much of the adapters.
    DeltaLost,
    /// An adapter changes nothing.
    NoChange,
    /// Understood, and not supported.
    Unsupported,
    /// Two inputs that cannot both be applied.
    Conflict,
    /// The command line or the merge spec is wrong.
    Usage,
    /// A place that this process may not read or write, by its `--allow` prefixes.
    NotAllowed,
    /// A store refuses the credentials, or there are none, before the merge has begun.
    NoAccess,
    /// A store refuses the credentials of a merge that has begun.
    AccessLost,
    /// Reading or writing failed.
    Io,
    /// The target has not enough room.
    NoSpace,
    /// An input is not what it was when the merge was planned.
    InputChanged,
    /// The output holds something that is not this merge.
    OutputExists,
    /// Another shardfuse works on this output.
    OutputBusy,
    /// The store does not make a file of parts that it had taken; they are made again when the merge goes on.
    PartsLost,
    /// Parts were to be computed again on another worker, and what came out decides nothing.
    Unverified,
    /// An output does not match its manifest.
    VerifyFailed,
    /// The coordinator has as much to do as it takes on; the same request may be accepted later.
    Busy,
    /// The coordinator was killed more than once while it planned this merge; a person decides whether it tries again.
    Held,
    /// Stopped on request; the merge can go on.
    Interrupted,
    /// A worker or the coordinator could not go on; a defect if it is not an environment failure.
    Internal,
}

impl Kind {
    /// The name that programs see.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::MissingFile => "missing_file",
            Kind::UnusedFile => "unused_file",
            Kind::BadConfig => "bad_config",
            Kind::BadSafetensors => "bad_safetensors",
            Kind::BadIndex => "bad_index",
            Kind::UnsafePath => "unsafe_path",
            Kind::UnsafePickle => "unsafe_pickle",
            Kind::BadPickle => "bad_pickle",
            Kind::EmptyTensor => "empty_tensor",
            Kind::MissingTensor => "missing_tensor",
            Kind::IncompletePair => "incomplete_pair",
            Kind::RankMismatch => "rank_mismatch",
            Kind::ShapeMismatch => "shape_mismatch",
            Kind::UnmatchedKeys => "unmatched_keys",
            Kind::NonFinite => "non_finite",
            Kind::DeltaLost => "delta_lost",
            Kind::NoChange => "no_change",
            Kind::Unsupported => "unsupported",
            Kind::Conflict => "conflict",
            Kind::Usage => "usage",
            Kind::NotAllowed => "not_allowed",
            Kind::NoAccess => "no_access",
            Kind::AccessLost => "access_lost",
            Kind::Io => "io",
            Kind::NoSpace => "no_space",
            Kind::InputChanged => "input_changed",
            Kind::OutputExists => "output_exists",
            Kind::OutputBusy => "output_busy",
            Kind::PartsLost => "parts_lost",
            Kind::Unverified => "unverified",
            Kind::VerifyFailed => "verify_failed",
            Kind::Busy => "busy",
            Kind::Held => "held",
            Kind::Interrupted => "interrupted",
            Kind::Internal => "internal",
        }
    }

    /// What the user can do about any failure of the kind, for those that say nothing of their own.
    fn advice(self) -> Option<&'static str> {
        Some(match self {
            Kind::BadIndex => "the files may be of two downloads: fetch the checkpoint again",
            Kind::BadSafetensors => "fetch the file again, or save it again",
            Kind::BadPickle => "load the file with torch and save it as safetensors",
            Kind::UnsafePickle => "if you trust the file, load it with torch and save it as safetensors",
            Kind::IncompletePair | Kind::MissingTensor => "the adapter may not be saved whole: save it again with PEFT",
            Kind::RankMismatch => "the folder may mix two adapters, or a rank pattern is wrong: save the adapter again",
            Kind::ShapeMismatch => "use the base that the adapter was trained on",
            _ => return None,
        })
    }

    /// Back from the name.
    pub fn parse(name: &str) -> Option<Kind> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure of the domain: what, in which words, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    /// Other problems of the same thing.
    others: Vec<String>,
    hint: Option<String>,
}

impl Error {
    /// A failure of `kind`; the message names the thing and both values.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: bounded::text(message.into(), MAX_MESSAGE), others: Vec::new(), hint: None }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(bounded::text(hint.into(), MAX_HINT));
        self
    }

    /// Puts a place before each message: `place: message`.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        for message in std::iter::once(&mut self.message).chain(&mut self.others) {
            *message = bounded::text(format!("{place}: {message}"), MAX_MESSAGE);
        }
        self
    }

    /// Adds the problems of another failure, as far as there is room. A hint that is there stays.
    #[must_use]
    pub fn and(mut self, other: Error) -> Self {
        let told = |error: &Error| error.messages().map(str::len).sum::<usize>();
        if told(&self) + told(&other) <= MAX_MESSAGE {
            self.others.push(other.message);
            self.others.extend(other.others);
        }
        self.hint = self.hint.or(other.hint);
        self
    }

    /// The same failure under another kind.
    #[must_use]
    pub fn as_kind(self, kind: Kind) -> Self {
        Error { kind, ..self }
    }

    /// The stable kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The message, without kind and hint. Of several problems the first.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The message of each problem.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.message()).chain(self.others.iter().map(String::as_str))
    }

    /// What the user can do, where there is something.
    pub fn advice(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| self.kind.advice())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.others.iter().try_for_each(|other| write!(f, "; {other}"))
    }
}

impl std::error::Error for Error {}

/// The crate's result.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_at_most_8_kib_however_long_the_names_in_it_are() {
        let name = "x".repeat(1 << 20);
        let error = Error::new(Kind::Usage, name.as_str()).hint(name.as_str()).at(name.as_str()).at("place");
        assert!(error.message().len() + error.advice().unwrap().len() <= 8 << 10);
        assert!(error.message().starts_with("place: xxx") && error.message().ends_with("(cut off)"));
    }

    #[test]
    fn several_problems_are_told_each_with_the_place_and_as_far_as_there_is_room() {
        let problem = |text: &str| Error::new(Kind::Usage, text);
        let error = problem("a").and(problem("b").hint("look")).at("spec");
        assert_eq!(error.messages().collect::<Vec<_>>(), ["spec: a", "spec: b"]);
        assert_eq!((error.to_string().as_str(), error.advice()), ("spec: a; spec: b", Some("look")));
        let long = "x".repeat(MAX_MESSAGE / 2);
        assert_eq!((0..5).fold(problem("a"), |error, _| error.and(problem(&long))).messages().count(), 2);
    }
}
