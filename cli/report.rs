//! How a failure ends the process: the message, the hint, the exit code.

use std::io::Write;
use std::process::ExitCode;

use shardfuse_merge::{Error, Kind};

use crate::args::Format;
use crate::text::Text;

/// The exit code of a kind. 0 is success.
fn exit_code(kind: Kind) -> u8 {
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

/// Prints what clap says: help and version to stdout with 0, everything else as a usage error.
pub fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // The flags could not be read, so the wish for JSON is looked for by hand.
    let args: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
    let json = args.iter().any(|a| a == "--error-format=json")
        || args.windows(2).any(|w| w[0] == "--error-format" && w[1] == "json");
    if json {
        let message = error.to_string();
        let first = message.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        return failure(&Error::new(Kind::Usage, message).hint("shardfuse --help"), Format::Json);
    }
    let _ = error.print();
    ExitCode::from(exit_code(Kind::Usage))
}

/// A defect or an environment failure.
pub fn internal(message: impl Into<String>) -> Error {
    Error::new(Kind::Internal, message)
}
