//! What a merge would do, for programs: the same for the local command and for the service.

use shardfuse_merge::plan::cost::Cost;
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::plan::{Plan, task};

/// A plan as JSON. `memory` is the budget that the peak is told for, where one is known.
pub fn outline(plan: &Plan, report: &Report, cost: Cost, memory: Option<u64>) -> serde_json::Value {
    let files: Vec<_> = plan
        .output
        .files
        .iter()
        .map(|f| serde_json::json!({ "name": f.name, "size": f.size, "tensors": f.tensors.iter().filter(|t| t.begins().is_some()).count() }))
        .collect();
    serde_json::json!({
        "plan": plan.digest(),
        "spec": plan.spec,
        "lineage": plan.lineage,
        "report": report,
        "files": files,
        "sidecars": plan.output.sidecars.iter().map(|s| &s.0).collect::<Vec<_>>(),
        "bytes_read": cost.read,
        "bytes_written": cost.write,
        "bytes_copied": cost.copied,
        "multiply_adds": cost.multiply_adds,
        "peak_memory": memory.map(|m| cost.peak_memory(m)),
        "tasks": task::tasks(plan).len(),
    })
}
