//! `shardfuse clean`: removes what an unfinished merge left in an output.

use std::io::{BufRead, IsTerminal, Write};

use serde_json::json;
use shardfuse_coordinator::clean::{self, Leftovers};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Location, Scheme};

use super::{print, print_json};
use crate::args::{self, Format, Global};
use crate::place;
use crate::size::show;
use crate::text::Text;

/// Shows what is there, asks, and removes it.
pub async fn run(args: args::Clean, global: &Global) -> Result<()> {
    let output = place::parse(&args.output)?;
    let stores = args.stores.open()?;
    let found = clean::survey(&stores, &output).await?;
    if (found.state || !found.tombstones.is_empty()) && !args.dry_run && !args.yes {
        text(&output, &found, true).say();
        confirm(&output)?;
    }
    let found = if args.dry_run { found } else { clean::clean(&stores, &output, args.force).await? };
    match global.format {
        Format::Json => print_json(&as_json(&output, &found, args.dry_run)),
        Format::Text if global.quiet => Ok(()),
        Format::Text => print(&text(&output, &found, args.dry_run)),
    }
}

fn confirm(output: &Location) -> Result<()> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::new(Kind::Usage, format!("nobody can be asked whether to clean {output}"))
            .hint("say --yes, or look first with --dry-run"));
    }
    eprint!("remove this? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(|e| Error::new(Kind::Io, format!("stdin cannot be read: {e}")))?;
    match answer.trim().to_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::new(Kind::Usage, "nothing was removed").hint("--yes does not ask")),
    }
}

/// Whether uploads of that store can be there without a trace that a listing shows.
fn hides_uploads(output: &Location) -> bool {
    output.scheme() != Scheme::File
}

fn as_json(output: &Location, found: &Leftovers, dry_run: bool) -> serde_json::Value {
    let uploads: Vec<_> =
        found.uploads.iter().map(|u| json!({ "file": u.file, "upload": u.id, "bytes": u.size })).collect();
    json!({
        "output": output.to_string(),
        "removed": !dry_run && (found.state || !found.tombstones.is_empty()),
        "state_objects": found.objects.0,
        "state_bytes": found.objects.1,
        "uploads": uploads,
        "unknown_uploads": if hides_uploads(output) { json!(found.unknown) } else { json!([]) },
        "unreadable": found.unreadable,
        "published_files": found.in_place,
        "tombstones": found.tombstones,
        "quiet_seconds": found.quiet,
        "busy": found.busy(),
    })
}

/// What is there (`planned`), or what was removed.
fn text(output: &Location, found: &Leftovers, planned: bool) -> Text {
    let verb = if planned { "to remove" } else { "removed" };
    let mut out = Text::new();
    for name in &found.tombstones {
        out.line(format_args!("{verb}: {name}, which an interrupted publication left in the place of an older file"));
    }
    if !found.state {
        out.line(format_args!("{output} holds no unfinished merge"));
        return out;
    }
    out.line(format_args!("{verb}: {} objects of state, {}", found.objects.0, show(found.objects.1)));
    for upload in &found.uploads {
        out.line(format_args!("{verb}: the upload {} of {}, {} when whole", upload.id, upload.file, show(upload.size)));
    }
    match (found.locked, found.quiet) {
        _ if !planned || !found.busy() => {}
        (None, Some(seconds)) => {
            out.line(format_args!("a shardfuse seems to be at work here: it wrote something {seconds} s ago"));
        }
        _ => out.line("a shardfuse of this machine is at work here"),
    }
    if let Some(why) = &found.unreadable {
        out.line(format_args!("unknown: which uploads there are, since the journal cannot be read: {why}"));
    }
    if hides_uploads(output) {
        for file in &found.unknown {
            out.line(format_args!("unknown: whether an upload of {file} is left, since its id was not written down"));
        }
        if !found.unknown.is_empty() || found.unreadable.is_some() {
            out.line(
                "a lifecycle rule of the bucket that ends incomplete uploads after some days takes such uploads away",
            );
        }
    }
    for file in &found.in_place {
        out.line(format_args!("stays: {file}, which is at its place without a manifest"));
    }
    out
}
