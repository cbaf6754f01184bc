//! How a failure ends the process: the message, the hint, the exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::error::ContextKind;
use shardfuse_merge::{Error, Kind};

use crate::args::Format;
use crate::text::Text;

/// The exit code of a kind. 0 is success.
pub fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => 2,
        Kind::Interrupted => 4,
        Kind::NonFinite
        | Kind::Io
        | Kind::NoSpace
        | Kind::OutputBusy
        | Kind::PartsLost
        | Kind::Unverified
        | Kind::VerifyFailed
        | Kind::Busy
        | Kind::Held
        | Kind::Internal => 1,
        Kind::MissingFile
        | Kind::UnusedFile
        | Kind::BadConfig
        | Kind::BadSafetensors
        | Kind::BadIndex
        | Kind::UnsafePath
        | Kind::UnsafePickle
        | Kind::BadPickle
        | Kind::EmptyTensor
        | Kind::MissingTensor
        | Kind::IncompletePair
        | Kind::RankMismatch
        | Kind::ShapeMismatch
        | Kind::UnmatchedKeys
        | Kind::Unsupported
        | Kind::Conflict
        | Kind::InputChanged
        | Kind::NotAllowed
        | Kind::OutputExists => 3,
    }
}

/// Prints a failure.
pub fn failure(error: &Error, format: Format) -> ExitCode {
    match format {
        Format::Text => {
            let mut text = Text::of(format_args!("error: {}", error.message()));
            error.advice().into_iter().for_each(|hint| text.line(format_args!("hint: {hint}")));
            text.say();
        }
        Format::Json => {
            let line = serde_json::json!({ "error": { "kind": error.kind().as_str(), "message": error.message(), "hint": error.advice() } });
            // A closed stderr is no reason to fail differently.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    }
    ExitCode::from(exit_code(error.kind()))
}

/// Prints what clap reports: help and version to stdout with 0, everything else as a usage error.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let format = if wants_json() { Format::Json } else { Format::Text };
    // A value that one of our types refuses is reported like every other refusal, with its hint.
    let refused = std::error::Error::source(error).and_then(|e| e.downcast_ref::<Error>()).cloned();
    match (refused, format) {
        (Some(refused), _) => {
            let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
            failure(&refused.at(flag.split(' ').next().unwrap_or_default()), format)
        }
        (None, Format::Json) => {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default();
            let message = first.strip_prefix("error: ").unwrap_or(first);
            failure(&Error::new(Kind::Usage, message).hint("shardfuse --help"), Format::Json)
        }
        (None, Format::Text) => {
            let _ = error.print();
            ExitCode::from(exit_code(Kind::Usage))
        }
    }
}

/// Whether the command line asks for errors as JSON. It could not be parsed, so this looks for the flag by hand.
fn wants_json() -> bool {
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    args.iter().any(|a| a == "--error-format=json")
        || args.windows(2).any(|w| w[0] == "--error-format" && w[1] == "json")
}

/// A defect or an environment failure.
pub fn internal(message: impl Into<String>) -> Error {
    Error::new(Kind::Internal, message)
}
