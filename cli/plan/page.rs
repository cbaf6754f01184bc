//! A plan as a page: one file that needs nothing else, no script, and no network.

use std::fmt::Display;

use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::becomes::{self, Becomes};
use shardfuse_merge::plan::cost::Cost;
use shardfuse_merge::plan::grid::Grid;
use shardfuse_merge::plan::report::Report;

use super::html::Html;
use super::words;
use crate::progress::pace::time;
use crate::settings::machine::Budget;
use crate::size::show;

/// Lines of one list; the others are counted.
const MOST: usize = 300;
/// Adapters in the table.
const ADAPTERS: usize = 200;
/// Links that a time is told for, in bytes a second.
const LINKS: [u64; 3] = [100_000_000, 1_000_000_000, 10_000_000_000];
/// Operations a second of a core with AVX2, at low and high ranks, as docs/kernels.md has measured them.
const CORE: (f64, f64) = (61e9, 97e9);

/// What is shown.
#[derive(Debug)]
pub struct Shown<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What it tells.
    pub report: &'a Report,
    /// What it costs.
    pub cost: Cost,
    /// What this machine gives.
    pub budget: Budget,
    /// Whether an output was named.
    pub output: bool,
}

/// The page.
pub fn page(shown: &Shown<'_>) -> String {
    let Shown { plan, report, .. } = shown;
    let mut html = Html::default();
    html.raw("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")
        .raw("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">")
        .raw("<meta name=\"referrer\" content=\"no-referrer\"><title>Plan of a merge</title><style>")
        .raw(include_str!("page.css"))
        .raw("</style></head><body><main><h1>Plan of a merge</h1><section><dl>");
    let mut fact = |name: &'static str, value: &dyn Display| {
        html.raw("<dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd>");
    };
    fact("base", &plan.spec.base);
    if shown.output {
        fact("output", &plan.spec.output);
    }
    fact("tensors", &words::counts(report));
    if let Some((before, after)) = report.vocabulary {
        fact("vocabulary", &format_args!("{before} -> {after} rows"));
    }
    if shown.output {
        fact("plan", &plan.digest());
    }
    html.raw("</dl></section>");
    adapters(&mut html, shown);
    list(&mut html, "Conflicts: the order of the adapters decides", "bad", &report.conflicts);
    list(&mut html, "Warnings", "bad", &report.warnings);
    tensors(&mut html, shown);
    costs(&mut html, shown);
    list(&mut html, "Notes", "", &report.notes);
    list(&mut html, "Replaced tensors", "", &words::replaced(report));
    list(&mut html, "Weights that leave the quantised set", "", &words::leaving(&report.left));
    list(&mut html, "Weights that are encoded again", "", &words::encoding(plan, &report.requantised));
    list(&mut html, "Keys of adapters that are left out", "", &words::ignored(report));
    list(&mut html, "Weight files of the output", "", &words::files(plan));
    list(&mut html, "Files that travel", "", &words::travels(report));
    list(&mut html, "Files that stay behind", "", &words::stays(report));
    html.raw("<footer>shardfuse ").text(crate::version::VERSION).raw("</footer></main></body></html>\n");
    html.finish()
}

fn adapters(html: &mut Html, Shown { plan, report, .. }: &Shown<'_>) {
    html.raw("<section><h2>Adapters, in the order in which they apply</h2><div class=\"wide\"><table><thead><tr>");
    for name in words::ADAPTERS {
        html.raw("<th>").raw(name).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    for (i, adapter) in report.adapters.iter().enumerate().take(ADAPTERS) {
        html.raw("<tr>");
        for (value, name) in words::adapter(i + 1, adapter, plan.lineage.get(i)).iter().zip(words::ADAPTERS) {
            // The place is told whole.
            match name {
                "adapter" => html.raw("<td class=\"place\"><b>").text(value).raw("</b><br>").text(&adapter.path),
                _ => html.raw("<td>").text(value),
            };
            html.raw("</td>");
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table></div>");
    more(html, report.adapters.len().saturating_sub(ADAPTERS), "adapters");
    for chain in words::lineage(plan, report).iter().take(MOST) {
        html.raw("<p class=\"chain\">chain: ").text(chain).raw("</p>");
    }
    html.raw("</section>");
}

/// What happens to each tensor.
fn tensors(html: &mut Html, Shown { plan, report, .. }: &Shown<'_>) {
    let layers = becomes::grid(plan, report);
    html.raw("<section><h2>What happens to each tensor</h2><p class=\"key\">");
    let cells = || layers.kinds.rows.iter().flat_map(|row| row.cells.iter().flatten());
    for kind in Becomes::ALL {
        let count = cells().filter(|cell| **cell == kind).count();
        if count > 0 {
            html.raw("<span><i class=\"").raw(class(kind)).raw("\"></i>").raw(kind.words()).raw(": ").text(count);
            html.raw("</span>");
        }
    }
    html.raw("</p>");
    grid(html, &layers.kinds, "layer");
    if let Some(experts) = &layers.experts {
        html.raw("<h2>Experts</h2>");
        grid(html, experts, "expert");
    }
    html.raw("</section>");
}

fn class(kind: Becomes) -> &'static str {
    match kind {
        Becomes::Copied => "c",
        Becomes::Converted => "v",
        Becomes::Changed => "d",
        Becomes::Several => "s",
        Becomes::Replaced => "r",
        Becomes::Encoded => "e",
        Becomes::Mixed => "m",
    }
}

fn grid(html: &mut Html, grid: &Grid<Becomes>, across: &'static str) {
    html.raw("<div class=\"wide\" tabindex=\"0\"><table class=\"grid\"><thead><tr><th>").raw(across).raw("</th>");
    for name in &grid.columns {
        html.raw("<th>");
        // A head is wider than its column: it stands over the next ones.
        if name.parse::<u64>().is_ok_and(|number| number % 5 == 0) {
            html.raw("<b>").text(name).raw("</b>");
        }
        html.raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    for row in &grid.rows {
        html.raw("<tr><th scope=\"row\" title=\"").text(&row.name).raw("\">").text(&row.name).raw("</th>");
        for cell in &row.cells {
            match cell {
                Some(kind) => html.raw("<td class=").raw(class(*kind)).raw(">"),
                None => html.raw("<td>"),
            };
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table></div>");
    more(html, grid.more, "kinds");
}

/// Bytes and time by stage.
fn costs(html: &mut Html, Shown { cost, budget, .. }: &Shown<'_>) {
    html.raw("<section><h2>Bytes and expected time by stage</h2><div class=\"wide\"><table><thead><tr><th>stage</th><th>amount</th>");
    for link in LINKS {
        html.raw("<th>at ").text(show(link)).raw("/s</th>");
    }
    html.raw("</tr></thead><tbody>");
    let stages = [
        ("measure: statistics that must be known first", cost.measured),
        ("read base and adapters", cost.read - cost.measured),
        ("write the output", cost.write - cost.copied),
    ];
    for (stage, bytes) in stages.into_iter().filter(|(_, bytes)| *bytes > 0) {
        html.raw("<tr><td>").raw(stage).raw("</td><td>").text(show(bytes)).raw("</td>");
        for link in LINKS {
            html.raw("<td>").text(expected(bytes as f64 / link as f64)).raw("</td>");
        }
        html.raw("</tr>");
    }
    let operations = 2.0 * cost.multiply_adds as f64;
    if operations > 0.0 {
        let cores = budget.threads.max(1) as f64;
        let (slow, fast) = (operations / CORE.0 / cores, operations / CORE.1 / cores);
        html.raw("<tr><td>fuse</td><td>")
            .text(format_args!("{:.3} TFLOP", operations / 1e12))
            .raw("</td><td colspan=3>");
        match slow < 1.0 {
            true => html.text(expected(slow)),
            false => html.text(expected(fast)).raw(" to ").text(expected(slow)),
        };
        html.text(format_args!(" on the {} threads of this machine", budget.threads));
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div><p class=\"faint\">The stages of different parts overlap: a merge takes about as long as its longest stage. ");
    html.raw("The time to fuse is counted with 61 to 97 GFLOP/s a core, as measured with AVX2; other processors and GPUs differ.</p>");
    html.raw("<p>Memory: ").text(show(cost.peak_memory(budget.memory)));
    html.raw(" at the peak, beside about 100 MB of the program itself.</p></section>");
}

fn expected(seconds: f64) -> String {
    if seconds < 1.0 { "under 1 s".to_owned() } else { time(seconds) }
}

fn list(html: &mut Html, title: &'static str, class: &'static str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    html.raw("<section class=\"").raw(class).raw("\"><h2>").raw(title).raw("</h2><ul>");
    for line in lines.iter().take(MOST) {
        html.raw("<li>").text(line).raw("</li>");
    }
    html.raw("</ul>");
    more(html, lines.len().saturating_sub(MOST), "lines; shardfuse plan --format json has them");
    html.raw("</section>");
}

fn more(html: &mut Html, count: usize, what: &'static str) {
    if count > 0 {
        html.raw("<p class=\"faint\">and ").text(count).raw(" more ").raw(what).raw("</p>");
    }
}
