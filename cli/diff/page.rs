//! The change as one HTML file: the heat map and the tables. It loads nothing and runs nothing.

use std::fmt::Write;

use super::change::Change;
use super::expect::Fitted;
use super::fit::Verdict;
use super::groups::Group;
use super::heat::{escape, svg};

const STYLE: &str = "body{font:14px/1.4 system-ui,sans-serif;margin:2rem;color:#1b2430;background:#fff}\
code,td,th{font-family:ui-monospace,monospace;font-size:12px}table{border-collapse:collapse;margin:1rem 0}\
td,th{padding:2px 10px;text-align:right;border-bottom:1px solid #e3e7ec}td:first-child,th:first-child{text-align:left}\
figure{margin:1rem 0;overflow-x:auto}.wrong{color:#a11}";

/// The page.
pub fn html([before, after]: [&str; 2], changes: &[Change], groups: &[Group], fitted: Option<&Fitted>) -> String {
    let differ = changes.iter().filter(|change| !change.same()).count();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>shardfuse diff</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{differ} of {} tensors differ</h1>\n<p>before: <code>{}</code><br>after: <code>{}</code></p>\n",
        changes.len(),
        escape(before),
        escape(after),
    );
    if let Some(fitted) = fitted {
        verdict(&mut out, fitted);
    }
    let _ = write!(out, "<figure>\n{}</figure>\n<h2>By kind</h2>\n<table>\n", svg(changes));
    row(
        &mut out,
        "th",
        &["kind", "tensors", "differ", "relative norm", "changed", "largest", "worst"].map(str::to_owned),
    );
    for group in groups {
        let worst =
            group.worst.as_ref().map_or_else(String::new, |(name, relative)| format!("{name} ({relative:.2e})"));
        let cells = [
            group.kind.clone(),
            group.tensors.to_string(),
            group.differ.to_string(),
            number(group.relative),
            share(group.changed, group.elements),
            format!("{:.2e}", group.largest),
            worst,
        ];
        row(&mut out, "td", &cells);
    }
    out.push_str("</table>\n<h2>Tensors that differ</h2>\n<table>\n");
    row(&mut out, "th", &["tensor", "relative norm", "changed", "largest", "at"].map(str::to_owned));
    for change in changes.iter().filter(|change| !change.same()) {
        let cells = [
            change.tensor.clone(),
            number(change.relative),
            share(change.changed, change.elements),
            number(change.largest),
            change.at.as_ref().map_or_else(String::new, |at| format!("{at:?}")),
        ];
        row(&mut out, "td", &cells);
    }
    out.push_str("</table>\n</body>\n</html>\n");
    out
}

fn verdict(out: &mut String, fitted: &Fitted) {
    let wrong = fitted.tensors.iter().filter(|told| told.verdict != Verdict::Fits);
    if fitted.fits {
        let _ = writeln!(out, "<p>The change is what the adapter says.</p>");
        return;
    }
    let _ = writeln!(out, "<p class=\"wrong\">The change is not what the adapter says.</p>\n<table>");
    row(out, "th", &["tensor", "cosine", "ratio", "what it is"].map(str::to_owned));
    for told in wrong {
        let cells =
            [told.tensor.clone(), format!("{:.4}", told.cosine), number(told.ratio), told.verdict.told().to_owned()];
        row(out, "td", &cells);
    }
    out.push_str("</table>\n");
}

fn row(out: &mut String, tag: &str, cells: &[String]) {
    let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect();
    let _ = writeln!(out, "<tr>{cells}</tr>");
}

/// A number that may not be known.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2e}"))
}

/// A share in percent.
pub fn share(part: u64, all: u64) -> String {
    if all == 0 { "-".to_owned() } else { format!("{:.2} %", 100.0 * part as f64 / all as f64) }
}
