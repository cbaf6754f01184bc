//! What each use of an adapter does to the output, and the refusal of one that does nothing.

use serde::{Deserialize, Serialize};

use super::report::AdapterReport;
use crate::bounded;
use crate::error::{Error, Kind, Result};
use crate::output::Output;

/// A use of an adapter, in the order in which they are applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Where the adapter lies.
    pub path: String,
    /// How many tensors of the output have a step of it.
    pub tensors: u64,
    /// Whether it replaces or adds whole tensors. What they replace is not compared, so they count as a change.
    pub replaces: bool,
}

/// What the steps of a use did.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Done {
    /// Whether a value of the output is another one than without them.
    pub moved: bool,
    /// Whether all that they add is zero, as their factors tell.
    pub zero: bool,
    /// If not, the most that they added to a value; `None` if nobody looked.
    pub largest: Option<f32>,
}

/// The uses of a plan.
pub(super) fn usages(adapters: &[AdapterReport], replacing: &[u16], output: &Output) -> Vec<Usage> {
    let mut tensors = vec![0u64; adapters.len()];
    let mut last = vec![""; adapters.len()];
    for placed in output.files.iter().flat_map(|file| &file.tensors) {
        for step in placed.recipe.fuse().iter().flat_map(|fuse| &fuse.steps) {
            let at = usize::from(step.adapter);
            // Portions of a tensor lie one after another.
            if last.get(at).is_some_and(|name| *name != placed.name) {
                (last[at], tensors[at]) = (&placed.name, tensors[at] + 1);
            }
        }
    }
    let usage = |((number, adapter), tensors): ((u16, &AdapterReport), u64)| Usage {
        path: adapter.path.clone(),
        tensors,
        replaces: replacing.contains(&number),
    };
    (0u16..).zip(adapters).zip(tensors).map(usage).collect()
}

/// Refuses a merge in which an adapter changes nothing.
///
/// # Errors
/// `no_change`, with each such adapter and the reason.
pub fn expect_change(usages: &[Usage], done: &[Done]) -> Result<()> {
    let idle: Vec<(usize, &Usage, Done)> = (1..)
        .zip(usages)
        .zip(done)
        .map(|((number, usage), done)| (number, usage, *done))
        .filter(|(_, usage, done)| usage.tensors > 0 && !usage.replaces && !done.moved)
        .collect();
    let Some((.., first)) = idle.first() else { return Ok(()) };
    let told: Vec<String> = idle
        .iter()
        .map(|(number, Usage { path, tensors, .. }, Done { zero, largest, .. })| {
            let what = format!("adapter {number} ({path}) changes nothing in any of its {tensors} tensors");
            match largest {
                _ if *zero => format!("{what}: all its deltas are zero"),
                Some(0.0) => format!("{what}: nothing is left of its deltas in fp32"),
                Some(most) => {
                    format!("{what}: its deltas are too small for the output's dtype, the largest is {most:e}")
                }
                None => format!("{what}: its deltas are zero, or too small for the output's dtype"),
            }
        })
        .collect();
    let hint = match first.zero {
        true => "was it saved before it was trained? --allow-no-change publishes the merge all the same",
        false => "--dtype f32 may hold them, or a larger weight; --allow-no-change publishes the merge all the same",
    };
    Err(Error::new(Kind::NoChange, bounded::list(&told)).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_changes_nothing_is_named_with_the_reason() {
        let usage = |path: &str, tensors, replaces| Usage { path: path.into(), tensors, replaces };
        let usages = [usage("a", 28, false), usage("b", 4, false), usage("c", 1, true), usage("d", 0, false)];
        let moved = Done { moved: true, ..Done::default() };
        let told = |first, second| {
            let idle = Done::default();
            let refused = expect_change(&usages, &[first, second, idle, idle]);
            refused.map_err(|e| (e.kind(), e.message().to_owned(), e.advice().unwrap_or_default().to_owned()))
        };
        let least = |largest| Done { zero: largest == 0.0, largest: Some(largest), ..Done::default() };
        assert_eq!(told(moved, moved), Ok(()), "replacing tensors is a change, and one without any has none to change");
        let (kind, text, hint) = told(least(0.0), moved).unwrap_err();
        assert_eq!(kind, Kind::NoChange);
        assert_eq!(text, "adapter 1 (a) changes nothing in any of its 28 tensors: all its deltas are zero");
        assert!(hint.contains("before it was trained"), "{hint}");
        let (_, text, hint) = told(moved, least(1e-9)).unwrap_err();
        assert!(text.contains("adapter 2 (b)") && text.ends_with("the largest is 1e-9"), "{text}");
        assert!(hint.contains("--dtype f32"), "{hint}");
        assert!(told(least(0.0), Done::default()).unwrap_err().1.contains("zero, or too small"));
    }
}
