//! What a person should know about an adapter and the base before they are merged.

use crate::adapter::edit::Resolved;
use crate::base::tied::Ties;
use crate::bounded;
use crate::inventory::{AdapterInventory, BaseInventory, Comparison};
use crate::plan::report::Report;
use crate::units::bytes;

/// Adds what is to say about the base.
pub(super) fn on_base(base: &BaseInventory, report: &mut Report) {
    if !base.skipped.is_empty() {
        let skipped = bounded::list(&base.skipped);
        report.warn(format!("the base: entries that are no tensors were skipped: {skipped}"));
    }
    for Comparison { left, right, same, read } in &base.compared {
        let holds = if *same { "holds the same values as" } else { "holds other values than" };
        report.note(format!("the base: {right} {holds} {left} ({} of each were read to tell)", bytes(*read)));
    }
    if !base.listed {
        report.note("the base's store cannot list: beside the weights only files of common names travel".into());
    }
}

/// Adds what `--tied` decides.
pub(super) fn on_ties(ties: &Ties, report: &mut Report) {
    if ties.untied_by_request {
        let says = if ties.untied { ", and tie_word_embeddings becomes false" } else { "" };
        report.note(format!("input and output embedding are two tensors, as --tied false says{says}"));
    }
}

/// Adds what is to say about the adapter of this number.
pub(super) fn on_adapter(number: u16, adapter: &AdapterInventory, resolved: &Resolved, report: &mut Report) {
    let n = number + 1;
    for warning in &resolved.warnings {
        report.warn(format!("adapter {n}: {warning}"));
    }
    if !adapter.config.unknown.is_empty() {
        report.warn(format!(
            "adapter {n}: adapter_config.json has keys that are not known: {}",
            bounded::list(&adapter.config.unknown)
        ));
    }
    if !adapter.skipped.is_empty() {
        report.warn(format!(
            "adapter {n}: entries that are no tensors were skipped: {}",
            bounded::list(&adapter.skipped)
        ));
    }
    for file in &adapter.extra {
        let (name, count) = (&file.name, file.tensors.len());
        report.note(format!("adapter {n}: {name} holds {count} tensors that replace those of the base"));
    }
}
