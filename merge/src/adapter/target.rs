//! Targets that the configuration names and for which the adapter holds no tensors.

use std::collections::HashSet;

use super::config::AdapterConfig;
use super::config::modules::Modules;
use super::config::tokens::Tokens;
use super::edit::Resolved;
use super::suffix::suffixes;
use crate::base::names::Names;

/// Warns of each target that the base has and for which the adapter holds no tensors. `modules` are the adapter's.
pub(super) fn missing_targets<'a>(
    config: &AdapterConfig,
    modules: impl Iterator<Item = &'a str>,
    base: &Names<'_>,
    out: &mut Resolved,
) {
    let Modules::List(list) = &config.target_modules else { return };
    if config.tokens != Tokens::None {
        return;
    }
    let held: HashSet<&str> = modules.flat_map(suffixes).collect();
    let missing: Vec<&String> = list.iter().filter(|target| !held.contains(target.as_str())).collect();
    if missing.is_empty() {
        return;
    }
    let in_base: HashSet<&str> =
        base.all().iter().filter_map(|n| n.strip_suffix(".weight")).flat_map(suffixes).collect();
    for target in missing.into_iter().filter(|target| in_base.contains(target.as_str())) {
        out.warnings
            .push(format!("target_modules names {target}, the base has it, and the adapter holds nothing for it"));
    }
}
