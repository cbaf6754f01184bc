//! The commands, one file each.

pub mod cancel;
pub mod certs;
pub mod clean;
pub mod completions;
pub mod coordinator;
pub mod diff;
mod drawn;
pub mod get;
pub mod health;
pub mod index;
pub mod inspect;
pub mod job;
pub mod list;
pub mod man;
pub mod merge;
pub mod plan;
pub mod retry;
pub mod submit;
pub mod verify;
pub mod watch;
pub mod worker;

use std::io::Write;

use shardfuse_merge::{Error, Kind, Result};

use crate::args::{Format, Global};
use crate::summary::Summary;
use crate::text::Text;

/// Writes a result to stdout. A reader that went away (`| head`) is no failure.
pub fn print(text: &Text) -> Result<()> {
    write(text.as_str())
}

fn write(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Io, format!("stdout cannot be written: {e}")))
        }
        _ => Ok(()),
    }
}

/// How a merge went, on stdout.
pub fn print_summary(summary: &Summary, global: &Global) -> Result<()> {
    match global.format {
        Format::Json => print_json(&summary.json()),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print(&summary.text()),
    }
}

/// A result as JSON on stdout.
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    write(&format!("{value:#}\n"))
}
