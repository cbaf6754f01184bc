//! `shardfuse diff`: two versions of a checkpoint, tensor by tensor.

use std::sync::Arc;

use serde_json::json;
use shardfuse_merge::Result;

use super::{drawn, print, print_json};
use crate::args::{self, Format, Global};
use crate::diff::{Change, Compared, Diff, Fitted, Group, Verdict, groups, html, number, share, svg};
use crate::settings::{adapters, machine::Budget};
use crate::text::Text;

/// Tensors of one list that are printed before the rest is counted.
const MOST: usize = 12;

/// Compares and prints.
pub async fn run(args: args::Diff, global: &Global) -> Result<()> {
    let expected = adapters("--expect", &args.expect)?;
    let stores = Arc::new(args.stores.open()?);
    let diff = Diff::open(Arc::clone(&stores), [&args.before, &args.after], Budget::of(&args.resources)).await?;
    let changes = diff.changes().await?;
    let groups = groups(&changes);
    let fitted = match expected.is_empty() {
        true => None,
        false => Some(diff.expect(expected, args.base_as, &changes).await?),
    };
    if let Some(file) = &args.svg {
        drawn::write(&stores, "--svg", file, svg(&changes)).await?;
    }
    if let Some(file) = &args.html {
        drawn::write(&stores, "--html", file, html(diff.places(), &changes, &groups, fitted.as_ref())).await?;
    }
    match global.format {
        Format::Json => print_json(&as_json(diff.places(), &changes, &groups, fitted.as_ref()))?,
        Format::Text if global.quiet => {}
        Format::Text => print(&as_text(&changes, &groups, fitted.as_ref(), args.all))?,
    }
    fitted.map_or(Ok(()), |fitted| fitted.check())
}

fn as_json(
    [before, after]: [&str; 2],
    changes: &[Change],
    groups: &[Group],
    fitted: Option<&Fitted>,
) -> serde_json::Value {
    let differ = changes.iter().filter(|change| !change.same()).count();
    json!({ "before": before, "after": after, "tensors_differ": differ, "tensors": changes, "groups": groups, "expected": fitted })
}

fn as_text(changes: &[Change], groups: &[Group], fitted: Option<&Fitted>, all: bool) -> Text {
    let mut out = if all { tensors(changes) } else { kinds(groups) };
    let same = changes.iter().filter(|change| change.same()).count();
    out.append(alone("only before", changes, 1));
    out.append(alone("only after", changes, 0));
    for change in changes.iter().filter(|change| !change.alone() && change.compared == Compared::Not).take(MOST) {
        let shape = change.shape.each_ref().map(|shape| format!("{:?}", shape.as_deref().unwrap_or_default()));
        let stored = change.stored.each_ref().map(|stored| stored.as_deref().unwrap_or_default());
        out.line(format_args!(
            "not compared: {}: {} {} before, {} {} after",
            change.tensor, stored[0], shape[0], stored[1], shape[1]
        ));
    }
    for change in changes.iter().filter(|change| change.rows_only != [0, 0]).take(MOST) {
        let [before, after] = change.rows_only;
        match before {
            0 => out.line(format_args!("{}: {after} new rows; the others were compared", change.tensor)),
            _ => out.line(format_args!("{}: {before} rows are gone; the others were compared", change.tensor)),
        }
    }
    let bytes = changes.iter().filter(|change| change.compared == Compared::Bytes && !change.same()).count();
    if bytes > 0 {
        out.line(format_args!(
            "{bytes} tensors were compared as they are stored: their values are not decoded, so they have no norm"
        ));
    }
    let odd: u64 = changes.iter().map(|change| change.non_finite).sum();
    if odd > 0 {
        out.line(format_args!("{odd} elements that differ are not finite before or after; they are in no norm"));
    }
    out.line(format_args!("{} of {} tensors differ, {same} are the same", changes.len() - same, changes.len()));
    if let Some(fitted) = fitted {
        out.append(expected(fitted));
    }
    out
}

/// One line for each kind that differs.
fn kinds(groups: &[Group]) -> Text {
    let mut rows = vec![["kind", "differ", "relative", "changed", "largest", "worst"].map(str::to_owned)];
    for group in groups.iter().filter(|group| group.differ > 0) {
        rows.push([
            group.kind.clone(),
            format!("{} of {}", group.differ, group.tensors),
            number(group.relative.filter(|_| group.elements > 0)),
            share(group.changed, group.elements),
            format!("{:.2e}", group.largest),
            group.worst.as_ref().map_or_else(String::new, |(name, relative)| format!("{name} ({relative:.2e})")),
        ]);
    }
    if rows.len() > 1 { Text::table(&rows) } else { Text::new() }
}

/// One line for each tensor.
fn tensors(changes: &[Change]) -> Text {
    let mut rows = vec![["tensor", "relative", "changed", "largest", "at"].map(str::to_owned)];
    for change in changes {
        rows.push([
            change.tensor.clone(),
            number(change.relative),
            share(change.changed, change.elements),
            number(change.largest),
            change.at.as_ref().map_or_else(String::new, |at| format!("{at:?}")),
        ]);
    }
    Text::table(&rows)
}

/// The tensors that the version of this number lacks.
fn alone(label: &str, changes: &[Change], lacks: usize) -> Text {
    let mut out = Text::new();
    let all = || changes.iter().filter(|change| change.shape[lacks].is_none());
    all().take(MOST).for_each(|change| out.line(format_args!("{label}: {}", change.tensor)));
    if let more @ 1.. = all().count().saturating_sub(MOST) {
        out.line(format_args!("{label}: and {more} more (--format json lists all)"));
    }
    out
}

/// What was expected, and what is there.
fn expected(fitted: &Fitted) -> Text {
    let mut out = Text::new();
    let wrong = || fitted.tensors.iter().filter(|told| told.verdict != Verdict::Fits);
    for told in wrong().take(MOST) {
        let ratio =
            told.ratio.map_or_else(String::new, |ratio| format!(" (ratio {ratio:.2}, cosine {:.4})", told.cosine));
        out.line(format_args!("not expected: {}: {}{ratio}", told.tensor, told.verdict.told()));
    }
    if let more @ 1.. = wrong().count().saturating_sub(MOST) {
        out.line(format_args!("not expected: and {more} more (--format json lists all)"));
    }
    if fitted.fits {
        let told = || fitted.tensors.iter().filter(|told| told.ratio.is_some());
        let cosine = told().map(|told| told.cosine).fold(1.0, f64::min);
        let ratios = || told().filter_map(|told| told.ratio);
        let (least, most) = (ratios().fold(1.0, f64::min), ratios().fold(1.0, f64::max));
        out.line(format_args!(
            "the change is what the adapter says: in {} tensors the least cosine is {cosine:.4}, and the ratio of norms {least:.3} to {most:.3}",
            told().count()
        ));
    }
    out
}
