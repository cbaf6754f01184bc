//! `shardfuse plan`: what a merge would do. Reads headers and configurations only.

use shardfuse_coordinator::outline::outline;
use shardfuse_coordinator::planning;
use shardfuse_merge::Result;
use shardfuse_merge::checkpoint::files::{Fate, FileFate};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::cost::{Cost, cost};
use shardfuse_merge::plan::report::{AdapterReport, Report};

use super::{print, print_json};
use crate::args::{self, Format, Global};
use crate::settings::Settings;
use crate::size::show;

/// Lines of one list that are printed before the rest is counted.
const MOST: usize = 12;

/// Plans and prints.
pub async fn run(args: args::Plan, global: &Global) -> Result<()> {
    let settings = Settings::new(args.spec, None)?;
    let (plan, report) = planning::plan(&args.stores.open()?, &settings.spec).await?;
    let cost = cost(&plan);
    if global.format == Format::Json {
        return print_json(&outline(&plan, &report, cost, Some(settings.memory)));
    }
    print(&text(&plan, &report, cost, &settings))
}

fn text(plan: &Plan, report: &Report, cost: Cost, settings: &Settings) -> String {
    let mut out = format!("base     {}\noutput   {}\n\n", plan.spec.base, plan.spec.output);
    out += &table(&report.adapters);
    out += "\n";
    let mut replaced: Vec<String> = report
        .replaced
        .iter()
        .map(|(name, adapter, before, after)| match before == after {
            true => format!("{name} by adapter {}", adapter + 1),
            false => format!("{name} by adapter {}: {before:?} -> {after:?}", adapter + 1),
        })
        .collect();
    replaced.sort();
    out += &list("replaced", &replaced);
    if let Some((before, after)) = report.vocabulary {
        out += &format!("vocabulary: {before} -> {after} rows\n");
    }
    out += &list("conflict", &report.conflicts);
    for (i, a) in report.adapters.iter().enumerate() {
        let ignored: Vec<String> =
            a.ignored.iter().map(|(key, why)| format!("adapter {}: {key}: {why}", i + 1)).collect();
        out += &list("ignored", &ignored);
    }
    out += &list("stays", &left("base", &report.base_files));
    for (i, a) in report.adapters.iter().enumerate() {
        out += &list("stays", &left(&format!("adapter {}", i + 1), &a.files));
    }
    out += &list("stays", &left("tokenizer", &report.tokenizer_files));
    out += &list("warning", &report.warnings);
    out += &list("note", &report.notes);
    out += &format!("\n{} tensors change, {} are copied\n", report.tensors_changed, report.tensors_copied);
    let files: Vec<String> = plan.output.files.iter().map(|f| format!("{}  {}", f.name, show(f.size))).collect();
    out += &list("file", &files);
    let carried: Vec<String> = report
        .base_files
        .iter()
        .chain(report.adapters.iter().flat_map(|a| &a.files))
        .chain(&report.tokenizer_files)
        .filter(|f| f.fate == Fate::Travels)
        .map(|f| format!("{}  {}", f.name, show(f.size)))
        .collect();
    out += &list("travels", &carried);
    out += &format!("read     {}\nwrite    {}\n", show(cost.read), show(cost.write));
    if cost.multiply_adds > 0 {
        out += &format!("fuse     {:.3} TFLOP\n", 2.0 * cost.multiply_adds as f64 / 1e12);
    }
    out += &format!(
        "memory   {} at the peak, beside about 100 MB of the program itself\n",
        show(cost.peak_memory(settings.memory))
    );
    out += &format!("plan     {}\n", plan.digest());
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
fn table(adapters: &[AdapterReport]) -> String {
    let head = ["#", "adapter", "kind", "rank", "scale", "weight", "modules"].map(str::to_owned);
    let mut rows = vec![head];
    for (i, a) in adapters.iter().enumerate() {
        let ranks: Vec<String> = a.ranks.iter().map(u64::to_string).collect();
        let scales: Vec<String> =
            a.scales.iter().map(|s| format!("{s:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()).collect();
        let name = a.path.rsplit('/').next().unwrap_or(&a.path).to_owned();
        rows.push([
            (i + 1).to_string(),
            name,
            a.kind.clone(),
            few(&ranks),
            few(&scales),
            a.weight.to_string(),
            a.modules.to_string(),
        ]);
    }
    let widths: Vec<usize> = (0..7).map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 7]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn few(values: &[String]) -> String {
    match values {
        [] => "-".into(),
        [one] => one.clone(),
        [first, .., last] => format!("{first}..{last}"),
    }
}

fn list(label: &str, lines: &[String]) -> String {
    let mut out: String = lines.iter().take(MOST).map(|l| format!("{label}: {l}\n")).collect();
    if lines.len() > MOST {
        out += &format!("{label}: and {} more (--format json lists all)\n", lines.len() - MOST);
    }
    out
}

/// What a merge tells before it begins.
pub fn remarks(report: &Report) -> String {
    list("conflict", &report.conflicts) + &list("warning", &report.warnings) + &list("note", &report.notes)
}
