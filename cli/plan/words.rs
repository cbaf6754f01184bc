//! What the text of a plan and its page say in the same words.

use shardfuse_merge::checkpoint::files::{Fate, FileFate};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::plan::lineage::{Lineage, TrainedOn, chains};
use shardfuse_merge::plan::report::{AdapterReport, Encoded, Left, Report};

use crate::size::show;

/// Tensors that an adapter replaces, by name.
pub fn replaced(report: &Report) -> Vec<String> {
    let line = |(name, adapter, before, after): &(String, u16, Vec<u64>, Vec<u64>)| match before == after {
        true => format!("{name} by adapter {}", adapter + 1),
        false => format!("{name} by adapter {}: {before:?} -> {after:?}", adapter + 1),
    };
    let mut lines: Vec<String> = report.replaced.iter().map(line).collect();
    lines.sort();
    lines
}

/// Keys of adapters that are left out on purpose.
pub fn ignored(report: &Report) -> Vec<String> {
    let adapters = report.adapters.iter().zip(1..);
    adapters.flat_map(|(a, n)| a.ignored.iter().map(move |(key, why)| format!("adapter {n}: {key}: {why}"))).collect()
}

/// The files of the inputs that the output does not get.
pub fn stays(report: &Report) -> Vec<String> {
    let adapters = report.adapters.iter().zip(1..).flat_map(|(a, n)| left(&format!("adapter {n}"), &a.files));
    left("base", &report.base_files)
        .into_iter()
        .chain(adapters)
        .chain(left("tokenizer", &report.tokenizer_files))
        .collect()
}

/// The files that the output gets as they are.
pub fn travels(report: &Report) -> Vec<String> {
    let adapters = report.adapters.iter().flat_map(|a| &a.files);
    let all = report.base_files.iter().chain(adapters).chain(&report.tokenizer_files);
    all.filter(|f| f.fate == Fate::Travels).map(|f| format!("{}  {}", f.name, show(f.size))).collect()
}

/// The weight files of the output.
pub fn files(plan: &Plan) -> Vec<String> {
    plan.output.files.iter().map(|f| format!("{}  {}", f.name, show(f.size))).collect()
}

/// What happens to how many tensors.
pub fn counts(report: &Report) -> String {
    let dequantised = match report.tensors_dequantised {
        0 => String::new(),
        count => format!("{count} are dequantised, "),
    };
    format!("{} tensors change, {dequantised}{} are copied", report.tensors_changed, report.tensors_copied)
}

/// The chains of adapters, each from the base to the last of them.
pub fn lineage(plan: &Plan, report: &Report) -> Vec<String> {
    let chain = |chain: Vec<u16>| {
        let adapters = chain.iter().filter_map(|number| report.adapters.get(usize::from(*number) - 1));
        let places = std::iter::once(plan.spec.base.as_str()).chain(adapters.map(|a| a.path.as_str()));
        places.map(last).collect::<Vec<_>>().join(" > ")
    };
    chains(&plan.lineage).into_iter().map(chain).collect()
}

/// The head of the table of adapters.
pub const ADAPTERS: [&str; 8] = ["#", "adapter", "kind", "rank", "scale", "weight", "modules", "trained on"];

/// A row of the table of adapters.
pub fn adapter(number: usize, a: &AdapterReport, lineage: Option<&Lineage>) -> [String; 8] {
    let ranks: Vec<String> = a.ranks.iter().map(u64::to_string).collect();
    let scale = |s: &f64| format!("{s:.4}").trim_end_matches('0').trim_end_matches('.').to_owned();
    let scales: Vec<String> = a.scales.iter().map(scale).collect();
    [
        number.to_string(),
        last(&a.path).to_owned(),
        a.kind.clone(),
        few(&ranks),
        few(&scales),
        a.weight.to_string(),
        a.modules.to_string(),
        lineage.map_or_else(String::new, trained_on),
    ]
}

/// What is not quantised any more, though the output is: first what all of it takes.
pub fn leaving(left: &[Left]) -> Vec<String> {
    let (stored, written) = left.iter().fold((0, 0), |(a, b), left| (a + left.stored, b + left.written));
    let total = format!("{} quantised weights, {} become {}", left.len(), show(stored), show(written));
    let line = |Left { name, with, stored, written }: &Left| {
        let why = with.as_ref().map_or_else(String::new, |with| format!(", with {with}"));
        format!("{name}  {} -> {}{why}", show(*stored), show(*written))
    };
    (!left.is_empty()).then_some(total).into_iter().chain(left.iter().map(line)).collect()
}

/// What is encoded again, behind a line on what is measured before.
pub fn encoding(plan: &Plan, all: &[Encoded]) -> Vec<String> {
    let total: u64 = all.iter().map(|encoded| encoded.bytes).sum();
    let limit = plan.spec.least_survival();
    let measured = format!(
        "{} weights of {} again; how much of each delta survives is measured first, and the merge ends if a cosine is below {limit}",
        all.len(),
        show(total)
    );
    let line = |Encoded { name, scheme, bytes }: &Encoded| format!("{name}  {}, {scheme}", show(*bytes));
    (!all.is_empty()).then_some(measured).into_iter().chain(all.iter().map(line)).collect()
}

/// The files of one input that the output does not get.
fn left(input: &str, files: &[FileFate]) -> Vec<String> {
    let line = |f: &FileFate| {
        let count = if f.files > 1 { format!(", {} files", f.files) } else { String::new() };
        format!("{input}: {}  {}{count}: {}", f.name, show(f.size), f.why)
    };
    files.iter().filter(|f| f.fate == Fate::Stays).map(line).collect()
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
