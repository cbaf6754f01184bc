//! Targets that the configuration names and the adapter does not hold.

use std::collections::{BTreeMap, HashSet};

use super::config::{AdapterConfig, Modules, Tokens};
use super::group::LoraGroup;
use super::resolve::{Names, Resolved};
use super::suffix::suffixes;

/// Warns of each target that the base has modules of and the adapter nothing at all.
pub(super) fn missing_targets(
    config: &AdapterConfig,
    groups: &BTreeMap<String, LoraGroup<'_>>,
    names: &dyn Names,
    out: &mut Resolved,
) {
    let Modules::List(list) = &config.target_modules else { return };
    if config.tokens != Tokens::None {
        return;
    }
    let held: HashSet<&str> = groups.keys().flat_map(|module| suffixes(module)).collect();
    let missing: Vec<&String> = list.iter().filter(|target| !held.contains(target.as_str())).collect();
    if missing.is_empty() {
        return;
    }
    let all = names.all();
    let in_base: HashSet<&str> = all.iter().filter_map(|n| n.strip_suffix(".weight")).flat_map(suffixes).collect();
    for target in missing.into_iter().filter(|target| in_base.contains(target.as_str())) {
        out.warnings
            .push(format!("target_modules names {target}, the base has it, and the adapter holds nothing for it"));
    }
}
