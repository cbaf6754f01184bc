//! `shardfuse plan`: what a merge would do. Reads headers and configurations only.

use serde_json::Value;
use shardfuse_coordinator::outline::outline;
use shardfuse_coordinator::planning;
use shardfuse_merge::Result;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::cost::{Cost, cost};
use shardfuse_merge::plan::report::Report;

use super::{drawn, print, print_json};
use crate::args::{self, Format, Global};
use crate::plan::{page, words};
use crate::settings::Settings;
use crate::size::show;
use crate::text::Text;

/// Lines of one list that are printed before the rest is counted.
const MOST: usize = 12;

/// Plans and prints.
pub async fn run(args: args::Plan, global: &Global) -> Result<()> {
    let (settings, output) = Settings::of_plan(args.spec, &args.resources)?;
    let stores = args.stores.open()?;
    let (plan, report) = planning::plan(&stores, &settings.spec).await?;
    let cost = cost(&plan);
    if let Some(file) = &args.html {
        let page = page::page(&page::Shown { plan: &plan, report: &report, cost, budget: settings.budget, output });
        drawn::write(&stores, "--html", &file.display().to_string(), page).await?;
        if !global.quiet {
            Text::of(format_args!("wrote {}", file.display())).say();
        }
    }
    let printed = match global.format {
        Format::Json => {
            let mut outline = outline(&plan, &report, cost, Some(settings.budget.memory));
            if !output {
                // The digest names one output's plan.
                outline["plan"] = Value::Null;
                outline["spec"]["output"] = Value::Null;
            }
            print_json(&outline)
        }
        Format::Text => print(&text(&plan, &report, cost, &settings, output)),
    };
    // The process ends here. To free a large plan piece by piece takes time.
    std::mem::forget(plan);
    printed
}

fn text(plan: &Plan, report: &Report, cost: Cost, settings: &Settings, output: bool) -> Text {
    let mut out = Text::of(format_args!("base     {}", plan.spec.base));
    if output {
        out.line(format_args!("output   {}", plan.spec.output));
    }
    out.line("");
    out.append(table(report, plan));
    words::lineage(plan, report).iter().for_each(|chain| out.line(format_args!("lineage  {chain}")));
    out.line("");
    out.append(list("replaced", &words::replaced(report)));
    if let Some((before, after)) = report.vocabulary {
        out.line(format_args!("vocabulary: {before} -> {after} rows"));
    }
    out.append(list("conflict", &report.conflicts));
    out.append(list("ignored", &words::ignored(report)));
    out.append(list("stays", &words::stays(report)));
    out.append(list("warning", &report.warnings));
    out.append(list("note", &report.notes));
    out.append(list("leaves", &words::leaving(&report.left)));
    out.append(list("encodes", &words::encoding(plan, &report.requantised)));
    out.line("");
    out.line(words::counts(report));
    out.append(list("file", &words::files(plan)));
    out.append(list("travels", &words::travels(report)));
    out.line(format_args!("read     {}", show(cost.read)));
    out.line(format_args!("write    {}", show(cost.write)));
    if cost.copied > 0 {
        out.line(format_args!("copied   {} of it by the store itself", show(cost.copied)));
    }
    if cost.multiply_adds > 0 {
        out.line(format_args!("fuse     {:.3} TFLOP", 2.0 * cost.multiply_adds as f64 / 1e12));
    }
    let memory = show(cost.peak_memory(settings.budget.memory));
    out.line(format_args!("memory   {memory} at the peak, beside about 100 MB of the program itself"));
    if output {
        out.line(format_args!("plan     {}", plan.digest()));
    }
    out
}

/// The adapters as a table.
fn table(report: &Report, plan: &Plan) -> Text {
    let head = words::ADAPTERS.map(str::to_owned);
    let row = |(i, a)| words::adapter(i + 1, a, plan.lineage.get(i));
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(report.adapters.iter().enumerate().map(row)).collect();
    Text::table(&rows)
}

fn list(label: &str, lines: &[String]) -> Text {
    let mut out = Text::new();
    lines.iter().take(MOST).for_each(|l| out.line(format_args!("{label}: {l}")));
    if lines.len() > MOST {
        out.line(format_args!("{label}: and {} more (--format json lists all)", lines.len() - MOST));
    }
    out
}

/// What a merge tells before it begins.
pub fn remarks(report: &Report) -> Text {
    let mut out = list("conflict", &report.conflicts);
    out.append(list("warning", &report.warnings));
    out.append(list("note", &report.notes));
    out.append(list("note", &report.stays().into_iter().collect::<Vec<_>>()));
    out
}
