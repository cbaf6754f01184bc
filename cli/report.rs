//! How a failure ends the process: the message, the hint, the exit code.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap::error::ContextKind;
use shardfuse_merge::{Error, Kind};

use crate::args::{Args, Format};
use crate::text::Text;

/// The exit code of a kind. 0 is success.
pub fn exit_code(kind: Kind) -> u8 {
    match kind {
        Kind::Usage => 2,
        Kind::Interrupted => 4,
        // The same command may well succeed later.
        Kind::Io | Kind::NoSpace | Kind::OutputBusy | Kind::PartsLost | Kind::AccessLost | Kind::Busy => 5,
        Kind::NonFinite | Kind::Unverified | Kind::VerifyFailed | Kind::Held | Kind::Internal => 1,
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
        | Kind::DeltaLost
        | Kind::NoChange
        | Kind::Unsupported
        | Kind::Conflict
        | Kind::InputChanged
        | Kind::NotAllowed
        | Kind::NoAccess
        | Kind::OutputExists => 3,
    }
}

/// Prints a failure.
pub fn failure(error: &Error, format: Format) -> ExitCode {
    match format {
        Format::Text => {
            let mut text = Text::new();
            error.messages().for_each(|message| text.line(format_args!("error: {message}")));
            error.advice().into_iter().for_each(|hint| text.line(format_args!("hint: {hint}")));
            text.say();
        }
        Format::Json => {
            let line = serde_json::json!({ "error": { "kind": error.kind().as_str(), "message": error.to_string(), "hint": error.advice() } });
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
            let (message, tip) = told(&error.to_string());
            failure(&Error::new(Kind::Usage, message).hint(tip.unwrap_or_else(|| help(&typed()))), Format::Json)
        }
        (None, Format::Text) => {
            let _ = error.print();
            ExitCode::from(exit_code(Kind::Usage))
        }
    }
}

/// Message and tip of what clap prints for people: a paragraph, which may list arguments below it, and tips.
fn told(text: &str) -> (String, Option<String>) {
    let mut paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let tip = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: ").map(str::to_owned));
    (message, tip)
}

/// The command line as it was typed.
fn typed() -> Vec<String> {
    std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect()
}

/// Whether the command line asks for errors as JSON. It could not be parsed, so this looks for the flag by hand.
fn wants_json() -> bool {
    let args = typed();
    let json = |text: &str| text.eq_ignore_ascii_case("json");
    args.iter().any(|a| a.strip_prefix("--error-format=").is_some_and(json))
        || args.windows(2).any(|w| w[0] == "--error-format" && json(&w[1]))
}

/// The command that prints the help of what was typed. That could not be parsed, so this looks for its command by hand: the first
/// word that is neither a flag of every command nor the value of one.
fn help(typed: &[String]) -> String {
    let all = Args::command();
    let takes_value = |word: &str| {
        let named = |arg: &&clap::Arg| word.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
        all.get_arguments().find(named).is_some_and(|arg| arg.get_action().takes_values())
    };
    let mut words = typed.iter().skip(1);
    while let Some(word) = words.next() {
        if word.starts_with('-') {
            if takes_value(word) {
                words.next();
            }
            continue;
        }
        if let Some(command) = all.find_subcommand(word) {
            return format!("shardfuse {} --help", command.get_name());
        }
        break;
    }
    "shardfuse --help".to_owned()
}

/// A defect or an environment failure.
pub fn internal(message: impl Into<String>) -> Error {
    Error::new(Kind::Internal, message)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn told_of(line: &str) -> (String, Option<String>) {
        told(&Args::try_parse_from(line.split(' ')).unwrap_err().to_string())
    }

    #[test]
    fn an_error_for_programs_keeps_the_name_of_the_argument() {
        for (line, named) in [
            ("shardfuse merge --threads x", "--threads"),
            ("shardfuse merge --ouput out", "--ouput"),
            ("shardfuse watch", "<ID>"),
            ("shardfuse merge --format yaml", "--format"),
            ("shardfuse frobnicate", "frobnicate"),
        ] {
            let (message, _) = told_of(line);
            assert!(message.contains(named) && !message.contains('\n'), "{line}: {message:?}");
        }
    }

    #[test]
    fn an_error_hints_at_the_help_of_its_own_command() {
        for (line, command) in [
            ("shardfuse merge --threads x --error-format json", "shardfuse merge --help"),
            ("shardfuse --error-format json -q merge --threads x", "shardfuse merge --help"),
            ("shardfuse --error-format=json watch", "shardfuse watch --help"),
            ("shardfuse --error-format json frobnicate merge", "shardfuse --help"),
            ("shardfuse --format merge", "shardfuse --help"),
        ] {
            let typed: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(help(&typed), command, "{line}");
        }
    }

    #[test]
    fn the_argument_that_may_be_meant_is_the_hint() {
        let (_, tip) = told_of("shardfuse merge --ouput out");
        assert!(tip.unwrap().contains("--output"));
    }
}
