//! A coordinator's merge, for people and for programs.

use serde_json::{Value, json as value};
use shardfuse_merge::spec::MergeSpec;
use shardfuse_proto::v1::{self, MergeState};

use crate::size;
use crate::summary::{self, Summary};
use crate::text::Text;

/// A state's name, as programs see it.
fn state(merge: &v1::Merge) -> String {
    let name = merge.state().as_str_name();
    name.strip_prefix("MERGE_STATE_").unwrap_or(name).to_ascii_lowercase()
}

/// A merge as JSON: its summary, and how it stands.
pub fn json(merge: &v1::Merge) -> Value {
    let p = merge.progress.unwrap_or_default();
    let text = |t: &str| if t.is_empty() { Value::Null } else { t.into() };
    let spec = merge.spec.clone().map(MergeSpec::try_from);
    let mut value = value!({
        "id": merge.id,
        "state": state(merge),
        "priority": merge.priority,
        "submitted": merge.submitted.as_ref().map(ToString::to_string),
        "ended": merge.ended.as_ref().map(ToString::to_string),
        "bytes_done": p.bytes_done,
        "bytes_total": p.bytes_total,
        "tasks_done": p.tasks_done,
        "tasks_running": p.tasks_running,
        "tasks_total": p.tasks_total,
        "workers": p.workers,
        "expired": p.expired,
        "late": p.late,
        "repeated": p.repeated,
        "failure": merge.failure.as_ref().map(|f| value!({ "kind": f.kind, "message": f.message, "hint": text(&f.hint) })),
        "remarks": merge.remarks,
        // A spec of a newer coordinator that is not understood here is left out, not guessed.
        "spec": spec.and_then(Result::ok),
    });
    if let (Value::Object(all), Value::Object(summary)) = (&mut value, Summary::of_wire(merge).json()) {
        all.extend(summary);
    }
    value
}

/// A merge as a row: id, state, how much is done, workers, priority, when it was submitted, where it goes.
pub fn line(merge: &v1::Merge) -> [String; 7] {
    let p = merge.progress.unwrap_or_default();
    let output = merge.spec.as_ref().map_or("", |s| s.output.as_str());
    let submitted = merge.submitted.as_ref().map_or_else(String::new, |t| {
        // To the second: 2026-11-24T05:40:00
        t.to_string().chars().take(19).collect()
    });
    [
        merge.id.clone(),
        state(merge),
        percent(merge.state(), &p),
        p.workers.to_string(),
        merge.priority.to_string(),
        submitted,
        output.to_owned(),
    ]
}

fn percent(state: MergeState, p: &v1::Progress) -> String {
    match (state, p.bytes_total) {
        (MergeState::Done, _) => "100 %".into(),
        (_, 0) => "-".into(),
        (_, total) => format!("{} %", u128::from(p.bytes_done.min(total)) * 100 / u128::from(total)),
    }
}

/// A merge in lines.
pub fn details(merge: &v1::Merge) -> Text {
    let p = merge.progress.unwrap_or_default();
    let spec = merge.spec.clone().unwrap_or_default();
    let mut text = Text::new();
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            text.line(format_args!("{name:9}{value}"));
        }
    };
    row("merge", merge.id.clone());
    row("state", state(merge));
    row("base", spec.base);
    for lora in spec.lora {
        let weight = lora.weight.unwrap_or(1.0);
        row("adapter", if weight == 1.0 { lora.path } else { format!("{}={weight}", lora.path) });
    }
    row("output", spec.output);
    if p.bytes_total > 0 {
        let (done, total) = (size::show(p.bytes_done), size::show(p.bytes_total));
        row(
            "done",
            format!("{done} of {total}, {} of {} tasks, {} running", p.tasks_done, p.tasks_total, p.tasks_running),
        );
        row("workers", p.workers.to_string());
    }
    if p.retries + p.expired + p.late > 0 {
        row(
            "faults",
            format!("{} attempts again, {} leases expired, {} receipts too late", p.retries, p.expired, p.late),
        );
    }
    if p.parts_kept > 0 {
        row("kept", format!("{} parts were there already", p.parts_kept));
    }
    row("device", merge.device_class.clone());
    row("plan", merge.plan.clone());
    row("priority", if merge.priority == 0 { String::new() } else { merge.priority.to_string() });
    row("began", merge.submitted.as_ref().map_or_else(String::new, ToString::to_string));
    row("ended", merge.ended.as_ref().map_or_else(String::new, ToString::to_string));
    row("took", summary::seconds(merge).map_or_else(String::new, |s| format!("{s:.1} s")));
    for remark in &merge.remarks {
        row("remark", remark.clone());
    }
    if let Some(failure) = &merge.failure {
        let name = if merge.state() == MergeState::Held { "held" } else { "failure" };
        row(name, format!("{} ({})", failure.message, failure.kind));
        row("hint", failure.hint.clone());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merge() -> v1::Merge {
        v1::Merge {
            id: "7fb2".into(),
            state: MergeState::Running.into(),
            progress: Some(v1::Progress { bytes_done: 1, bytes_total: 3, ..Default::default() }),
            spec: Some(v1::MergeSpec { base: "s3://b/m".into(), output: "s3://b/o".into(), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn a_merge_is_shown_with_its_state_and_share() {
        assert_eq!(line(&merge()), ["7fb2", "running", "33 %", "0", "0", "", "s3://b/o"].map(str::to_owned));
        let value = json(&merge());
        assert_eq!((value["state"].as_str(), value["failure"].is_null()), (Some("running"), true));
        assert_eq!(value["spec"]["base"], "s3://b/m");
        assert!(details(&merge()).as_str().contains("done     1 B of 3 B"), "{:?}", details(&merge()));
    }

    #[test]
    fn a_state_of_a_newer_coordinator_is_no_panic() {
        let mut m = merge();
        m.state = 99;
        assert_eq!(json(&m)["state"], "unspecified");
    }
}
