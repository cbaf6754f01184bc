//! Which adapter was trained on which other one, by the names in their configurations.

use crate::inventory::{AdapterInventory, Inventory};
use crate::plan::lineage::{Lineage, TrainedOn};
use crate::plan::report::Report;

/// A use of an adapter: its place in the spec, and its weight.
type Usage = (usize, f64);

/// Words that tell an adapter's name from that of what it was merged into.
const OF_ADAPTERS: [&str; 7] = ["adapter", "adapters", "dora", "lora", "merged", "peft", "qlora"];

/// What a use was trained on. Adapters are numbered by use, as in the report: consecutive uses of one adapter are one use.
/// Says so where it is not the base.
pub(super) fn lineage(report: &mut Report, number: usize, uses: &[Usage], inventory: &Inventory) -> Lineage {
    let adapter = |(index, _): &Usage| &inventory.adapters[*index];
    let base = &inventory.base.url;
    let Some(named) = &adapter(&uses[number]).config.base_model else {
        return Lineage { named: None, trained_on: TrainedOn::Unnamed };
    };
    // An adapter with weight 0 changes nothing, so nothing is trained on it.
    let find = |is_it: &dyn Fn(&AdapterInventory, &str) -> bool| {
        let found = |usage: &Usage| usage.1 != 0.0 && is_it(adapter(usage), named);
        let earlier = uses[..number].iter().rposition(found);
        let later = || uses[number + 1..].iter().position(found).map(|at| number + 1 + at);
        earlier.or_else(later)
    };
    let itself = find(&|adapter, named| last(&adapter.url) == last(named));
    let result = || find(&is_result).filter(|_| last(base) != last(named));
    let n = number + 1;
    let trained_on = match (itself, itself.or_else(result)) {
        // The base may have the name of an adapter behind this one.
        (Some(at), _) if at > number && last(base) == last(named) => TrainedOn::Base,
        (_, Some(at)) => {
            let m = at + 1;
            let what = if itself.is_some() { format!("adapter {m}") } else { format!("the result of adapter {m}") };
            if at < number {
                report.note(format!("adapter {n} names {what} as its base ({named}): a chain"));
                TrainedOn::Adapter(m as u16)
            } else {
                report.warn(format!(
                    "adapter {n} names {what} as its base ({named}), which applies after it: give adapter {m} first"
                ));
                TrainedOn::LaterAdapter(m as u16)
            }
        }
        (_, None) if last(base) == last(named) => TrainedOn::Base,
        (_, None) => {
            report.warn(format!("adapter {n} was trained on {named}, the base is {base}"));
            TrainedOn::Elsewhere
        }
    };
    Lineage { named: Some(named.clone()), trained_on }
}

/// Whether a name is that of the adapter but for the words that only adapters have, such as `x-7b` for `x-lora-7b`. Not so if
/// the adapter was trained on this name itself.
fn is_result(adapter: &AdapterInventory, named: &str) -> bool {
    let trained_on_it = adapter.config.base_model.as_deref().is_some_and(|base| last(base) == last(named));
    let words = words(named);
    !trained_on_it && !words.is_empty() && words == self::words(&adapter.url)
}

/// The last name of a place.
fn last(place: &str) -> String {
    place.trim_end_matches('/').rsplit('/').next().unwrap_or(place).to_lowercase()
}

/// The words of the last name of a place, without those of adapters.
fn words(place: &str) -> Vec<String> {
    let last = last(place);
    let words = last.split(['-', '_', '.', ' ']).filter(|word| !word.is_empty() && !OF_ADAPTERS.contains(word));
    words.map(str::to_owned).collect()
}
