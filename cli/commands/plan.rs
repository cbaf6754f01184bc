//! `shardfuse plan`: what a merge would do. Reads headers and configurations only.

use shardfuse_coordinator::outline::outline;
use shardfuse_coordinator::planning;
use shardfuse_merge::Result;
use shardfuse_merge::checkpoint::files::{Fate, FileFate};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::cost::{Cost, cost};
use shardfuse_merge::plan::lineage::{Lineage, TrainedOn, chains};
use shardfuse_merge::plan::report::{AdapterReport, Report};

use super::{print, print_json};
use crate::args::{self, Format, Global};
use crate::settings::Settings;
use crate::size::show;
use crate::text::Text;

/// Lines of one list that are printed before the rest is counted.
const MOST: usize = 12;

/// Plans and prints.
pub async fn run(args: args::Plan, global: &Global) -> Result<()> {
    let settings = Settings::new(args.spec, &args.resources, None)?;
    let (plan, report) = planning::plan(&args.stores.open()?, &settings.spec).await?;
    let cost = cost(&plan);
    if global.format == Format::Json {
        return print_json(&outline(&plan, &report, cost, Some(settings.budget.memory)));
    }
    print(&text(&plan, &report, cost, &settings))
}

fn text(plan: &Plan, report: &Report, cost: Cost, settings: &Settings) -> Text {
    let mut out = Text::of(format_args!("base     {}", plan.spec.base));
    out.line(format_args!("output   {}", plan.spec.output));
    out.line("");
    out.append(table(&report.adapters, &plan.lineage));
    out.append(lineage(plan, report));
    out.line("");
    let mut replaced: Vec<String> = report
        .replaced
        .iter()
        .map(|(name, adapter, before, after)| match before == after {
            true => format!("{name} by adapter {}", adapter + 1),
            false => format!("{name} by adapter {}: {before:?} -> {after:?}", adapter + 1),
        })
        .collect();
    replaced.sort();
    out.append(list("replaced", &replaced));
    if let Some((before, after)) = report.vocabulary {
        out.line(format_args!("vocabulary: {before} -> {after} rows"));
    }
    out.append(list("conflict", &report.conflicts));
    for (i, a) in report.adapters.iter().enumerate() {
        let ignored: Vec<String> =
            a.ignored.iter().map(|(key, why)| format!("adapter {}: {key}: {why}", i + 1)).collect();
        out.append(list("ignored", &ignored));
    }
    out.append(list("stays", &left("base", &report.base_files)));
    for (i, a) in report.adapters.iter().enumerate() {
        out.append(list("stays", &left(&format!("adapter {}", i + 1), &a.files)));
    }
    out.append(list("stays", &left("tokenizer", &report.tokenizer_files)));
    out.append(list("warning", &report.warnings));
    out.append(list("note", &report.notes));
    out.line("");
    out.line(format_args!("{} tensors change, {} are copied", report.tensors_changed, report.tensors_copied));
    let files: Vec<String> = plan.output.files.iter().map(|f| format!("{}  {}", f.name, show(f.size))).collect();
    out.append(list("file", &files));
    let carried: Vec<String> = report
        .base_files
        .iter()
        .chain(report.adapters.iter().flat_map(|a| &a.files))
        .chain(&report.tokenizer_files)
        .filter(|f| f.fate == Fate::Travels)
        .map(|f| format!("{}  {}", f.name, show(f.size)))
        .collect();
    out.append(list("travels", &carried));
    out.line(format_args!("read     {}", show(cost.read)));
    out.line(format_args!("write    {}", show(cost.write)));
    if cost.multiply_adds > 0 {
        out.line(format_args!("fuse     {:.3} TFLOP", 2.0 * cost.multiply_adds as f64 / 1e12));
    }
    let memory = show(cost.peak_memory(settings.budget.memory));
    out.line(format_args!("memory   {memory} at the peak, beside about 100 MB of the program itself"));
    out.line(format_args!("plan     {}", plan.digest()));
    out
}

/// The files of one input that the output does not get.
fn left(input: &str, files: &[FileFate]) -> Vec<String> {
    let line = |f: &FileFate| {
        let count = if f.files > 1 { format!(", {} files", f.files) } else { String::new() };
        format!("{input}: {}  {}{count}: {}", f.name, show(f.size), f.why)
    };
    files.iter().filter(|f| f.fate == Fate::Stays).map(line).collect()
}

/// The adapters as a table.
fn table(adapters: &[AdapterReport], lineage: &[Lineage]) -> Text {
    let head = ["#", "adapter", "kind", "rank", "scale", "weight", "modules", "trained on"].map(str::to_owned);
    let mut rows = vec![head];
    for (i, a) in adapters.iter().enumerate() {
        let ranks: Vec<String> = a.ranks.iter().map(u64::to_string).collect();
        let scales: Vec<String> =
            a.scales.iter().map(|s| format!("{s:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()).collect();
        rows.push([
            (i + 1).to_string(),
            last(&a.path).to_owned(),
            a.kind.clone(),
            few(&ranks),
            few(&scales),
            a.weight.to_string(),
            a.modules.to_string(),
            lineage.get(i).map_or_else(String::new, trained_on),
        ]);
    }
    Text::table(&rows)
}

/// What an adapter was trained on, in a word.
fn trained_on(lineage: &Lineage) -> String {
    match (lineage.trained_on, &lineage.named) {
        (TrainedOn::Unnamed, _) => "-".to_owned(),
        (TrainedOn::Base, _) => "the base".to_owned(),
        (TrainedOn::Adapter(number), _) => format!("adapter {number}"),
        (TrainedOn::LaterAdapter(number), _) => format!("adapter {number}, which is later"),
        (TrainedOn::Elsewhere, named) => named.as_deref().map_or("another model", last).to_owned(),
    }
}

/// The chains of adapters, one a line.
fn lineage(plan: &Plan, report: &Report) -> Text {
    let mut out = Text::new();
    for chain in chains(&plan.lineage) {
        let adapters = chain.iter().filter_map(|number| report.adapters.get(usize::from(*number) - 1));
        let names: Vec<&str> =
            std::iter::once(plan.spec.base.as_str()).chain(adapters.map(|a| a.path.as_str())).map(last).collect();
        out.line(format_args!("lineage  {}", names.join(" > ")));
    }
    out
}

/// The last name of a place.
fn last(place: &str) -> &str {
    place.rsplit('/').next().unwrap_or(place)
}

fn few(values: &[String]) -> String {
    match values {
        [] => "-".into(),
        [one] => one.clone(),
        [first, .., last] => format!("{first}..{last}"),
    }
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
