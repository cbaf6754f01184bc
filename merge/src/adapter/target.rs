//! Targets that the configuration names and for which the adapter holds no tensors.

use hashbrown::HashSet;

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
    let all: HashSet<&str> = list.iter().map(String::as_str).collect();
    let not_held = without(&all, modules);
    let stored = base.all().iter().filter_map(|name| name.strip_suffix(".weight"));
    let not_in_base = without(&not_held, stored);
    let missing = |target: &&String| not_held.contains(target.as_str()) && !not_in_base.contains(target.as_str());
    for target in list.iter().filter(missing) {
        out.warnings
            .push(format!("target_modules names {target}, the base has it, and the adapter holds nothing for it"));
    }
}

/// The targets that name none of these modules.
fn without<'a, 'm>(targets: &HashSet<&'a str>, mut modules: impl Iterator<Item = &'m str>) -> HashSet<&'a str> {
    let mut left = targets.clone();
    // A few modules of a model are named by all targets.
    while !left.is_empty()
        && let Some(module) = modules.next()
    {
        for name in suffixes(module) {
            left.remove(name);
        }
    }
    left
}
