//! What each adapter was trained on: the base, or the result of an adapter before it.

use crate::inventory::Inventory;
use crate::plan::report::Report;

/// A use of an adapter: its place in the spec, and its weight.
type Usage = (usize, f64);

/// Says where `adapter_config.json` names something else than the base. Adapters are numbered by use, as in the rest of the
/// report: consecutive uses of one adapter are one use.
pub(super) fn report(report: &mut Report, number: usize, uses: &[Usage], inventory: &Inventory) {
    let adapter = |(index, _): &Usage| &inventory.adapters[*index];
    let Some(named) = &adapter(&uses[number]).config.base_model else { return };
    // An adapter with weight 0 changes nothing, so nothing is trained on it.
    let is_it = |usage: &Usage| usage.1 != 0.0 && same(&adapter(usage).url, named);
    let n = number + 1;
    let earlier = uses[..number].iter().rposition(is_it).map(|at| at + 1);
    let later = uses[n..].iter().position(is_it).map(|at| n + at + 1);
    match (earlier, later) {
        (Some(m), _) => report.note(format!("adapter {n} names adapter {m} as its base ({named}): a chain")),
        (None, _) if same(&inventory.base.url, named) => {}
        (None, Some(m)) => report.warn(format!(
            "adapter {n} names adapter {m} as its base ({named}), which applies after it: give adapter {m} first"
        )),
        (None, None) => {
            report.warn(format!("adapter {n} was trained on {named}, the base is {}", inventory.base.url));
        }
    }
}

/// Whether two places have the same last name.
fn same(a: &str, b: &str) -> bool {
    let last = |s: &str| s.trim_end_matches('/').rsplit('/').next().unwrap_or(s).to_lowercase();
    last(a) == last(b)
}
