//! How a merge went, in one form for every command that ends with a merge: `merge`, `job`, `submit --wait` and `watch`.

use serde::Serialize;
use shardfuse_coordinator::hub::View;
use shardfuse_merge::output::manifest::{MANIFEST, Manifest, ManifestFile};
use shardfuse_merge::plan::report::Report;
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::statistic::survival::Survived;
use shardfuse_proto::v1;

use crate::size;
use crate::text::Text;

/// How a merge went. What a command cannot know is left out, in the text too.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The base's URL, for the text.
    #[serde(skip)]
    base: String,
    /// The adapters, for the text.
    #[serde(skip)]
    adapters: String,
    output: String,
    plan: Option<String>,
    device_class: Option<String>,
    /// From submission to end.
    seconds: Option<f64>,
    /// Of weight files.
    bytes_written: u64,
    /// Parts of this run.
    parts_written: u64,
    /// Parts of earlier runs.
    parts_kept: u64,
    /// Attempts that failed and were repeated.
    retries: u64,
    /// Whether the output was this very merge already, so that this run wrote nothing.
    already_done: bool,
    #[serde(flatten)]
    details: Option<Details>,
}

/// What only the process that planned and published can tell.
#[derive(Debug, Clone, Serialize)]
struct Details {
    manifest: &'static str,
    tensors_changed: u64,
    tensors_copied: u64,
    warnings: Vec<String>,
    conflicts: Vec<String>,
    notes: Vec<String>,
    /// Those that are known only at the end.
    #[serde(skip)]
    last_notes: Vec<String>,
    files: Vec<ManifestFile>,
    /// How much of each delta survived where weights were encoded again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    survived: Vec<Survived>,
}

impl Summary {
    fn new(spec: &MergeSpec) -> Summary {
        let adapters = match spec.lora.len() {
            1 => "1 adapter".to_owned(),
            n => format!("{n} adapters"),
        };
        Summary { base: spec.base.clone(), adapters, output: spec.output.clone(), ..Summary::default() }
    }

    /// Of a merge that this process planned and published.
    pub fn of_local(done: &shardfuse_coordinator::Summary, report: &Report, seconds: f64) -> Summary {
        let shardfuse_coordinator::Summary { manifest, parts_new, parts_kept, retries } = done;
        Summary {
            bytes_written: weights(manifest),
            parts_written: *parts_new,
            parts_kept: *parts_kept,
            retries: *retries,
            ..Summary::of_manifest(manifest, report, seconds)
        }
    }

    /// Of an output that was this very merge already.
    pub fn of_finished(manifest: &Manifest, report: &Report, seconds: f64) -> Summary {
        Summary { already_done: true, ..Summary::of_manifest(manifest, report, seconds) }
    }

    fn of_manifest(manifest: &Manifest, report: &Report, seconds: f64) -> Summary {
        let kinds: Vec<&str> = report.adapters.iter().map(|a| a.kind.as_str()).collect();
        let summary = Summary::new(&manifest.spec);
        Summary {
            adapters: match kinds.len() {
                1 => format!("1 adapter ({})", kinds.concat()),
                n => format!("{n} adapters ({})", kinds.join(", ")),
            },
            plan: Some(manifest.plan.clone()),
            device_class: Some(manifest.device_class.clone()),
            seconds: Some(seconds),
            details: Some(Details {
                manifest: MANIFEST,
                tensors_changed: report.tensors_changed,
                tensors_copied: report.tensors_copied,
                warnings: report.warnings.clone(),
                conflicts: report.conflicts.clone(),
                notes: report.notes.iter().chain(&manifest.notes).cloned().collect(),
                last_notes: manifest.notes.clone(),
                files: manifest.files.clone(),
                survived: manifest.survived.clone(),
            }),
            ..summary
        }
    }

    /// Of a merge of this process's own coordinator.
    pub fn of_view(view: &View) -> Summary {
        let milliseconds = view.ended.map(|ended| ended.saturating_sub(view.submitted));
        Summary {
            plan: view.plan.clone(),
            device_class: view.device_class.as_ref().map(ToString::to_string),
            seconds: milliseconds.map(|ms| ms as f64 / 1000.0),
            bytes_written: view.progress.output_bytes,
            parts_written: view.progress.parts_new,
            parts_kept: view.progress.parts_kept,
            retries: view.progress.retries,
            ..Summary::new(&view.spec)
        }
    }

    /// Of a merge of another process's coordinator. A spec that is not understood here leaves its part of the text empty.
    pub fn of_wire(merge: &v1::Merge) -> Summary {
        let spec = merge.spec.clone().unwrap_or_default();
        let output = spec.output.clone();
        let p = merge.progress.unwrap_or_default();
        let text = |t: &str| (!t.is_empty()).then(|| t.to_owned());
        let done = merge.state() == v1::MergeState::Done;
        Summary {
            output,
            plan: text(&merge.plan),
            device_class: text(&merge.device_class),
            seconds: seconds(merge),
            bytes_written: if done { p.output_bytes } else { 0 },
            parts_written: p.parts_new,
            parts_kept: p.parts_kept,
            retries: p.retries,
            ..MergeSpec::try_from(spec).map_or_else(|_| Summary::default(), |spec| Summary::new(&spec))
        }
    }

    /// The lines for people.
    pub fn text(&self) -> Text {
        let Summary { base, adapters, output, .. } = self;
        let mut text = Text::new();
        match &self.details {
            Some(Details { tensors_changed, tensors_copied, .. }) => text.line(format_args!(
                "merged {adapters} into {base}: {tensors_changed} tensors changed, {tensors_copied} copied"
            )),
            None => text.line(format_args!("merged {adapters} into {base}")),
        }
        let seconds = self.seconds.map_or_else(String::new, |s| format!(" in {s:.1} s"));
        let kept = match self.parts_kept {
            0 => String::new(),
            kept => format!(", {kept} parts were there already"),
        };
        text.line(format_args!("wrote {} to {output}{seconds}{kept}", size::show(self.bytes_written)));
        let unread =
            self.details.iter().flat_map(|details| &details.files).map(ManifestFile::unread_bytes).sum::<u64>();
        if unread > 0 {
            text.line(format_args!(
                "{} of it were copied by the store and not read; verify --full compares them",
                size::show(unread)
            ));
        }
        let survived = self.details.iter().flat_map(|details| &details.survived);
        if let Some(least) = survived.clone().min_by(|a, b| a.cosine.total_cmp(&b.cosine)) {
            let Survived { tensor, cosine, norm } = least;
            text.line(format_args!(
                "encoded {} weights again; the least of its delta survives in {tensor} (cosine {cosine:.3}, norm {norm:.3})",
                survived.count()
            ));
        }
        text.append(shorten(self.details.iter().flat_map(|d| &d.last_notes), "note"));
        let plan = self.plan.as_deref().unwrap_or("-");
        text.line(format_args!("plan {}, digests in {MANIFEST}", plan.get(..12).unwrap_or(plan)));
        text
    }

    /// The fields for programs.
    pub fn json(&self) -> serde_json::Value {
        // Strings, numbers and lists of them: there is nothing that JSON cannot hold.
        serde_json::to_value(self).unwrap_or_default()
    }
}

fn weights(manifest: &Manifest) -> u64 {
    manifest.files.iter().filter(|f| f.name.ends_with(".safetensors")).map(|f| f.size).sum()
}

/// Seconds from submission to end, once it has ended.
pub fn seconds(merge: &v1::Merge) -> Option<f64> {
    let (from, to) = (merge.submitted.as_ref()?, merge.ended.as_ref()?);
    Some((to.seconds - from.seconds) as f64 + f64::from(to.nanos - from.nanos) / 1e9)
}

/// At most five lines of one kind, and how many more there are.
fn shorten<'a>(lines: impl Iterator<Item = &'a String>, label: &str) -> Text {
    const MOST: usize = 5;
    let (mut text, mut more) = (Text::new(), 0);
    for (number, line) in lines.enumerate() {
        match number < MOST {
            true => text.line(format_args!("{label}: {line}")),
            false => more += 1,
        }
    }
    if more > 0 {
        text.line(format_args!("{label}: and {more} more in {MANIFEST}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::spec::LoraSpec;

    use super::*;

    fn wire() -> v1::Merge {
        let spec = MergeSpec::of("s3://b/base", ["s3://b/x", "s3://b/y"].map(LoraSpec::new), "s3://b/out");
        let mut merge = v1::Merge {
            spec: Some((&spec).into()),
            state: v1::MergeState::Done.into(),
            plan: "0123456789abcdef".into(),
            device_class: "cpu".into(),
            submitted: Some(Default::default()),
            ended: Some(Default::default()),
            progress: Some(v1::Progress {
                bytes_total: 5000,
                output_bytes: 3000,
                parts_new: 4,
                parts_kept: 2,
                retries: 1,
                ..v1::Progress::default()
            }),
            ..v1::Merge::default()
        };
        if let Some(ended) = &mut merge.ended {
            ended.seconds = 2;
        }
        merge
    }

    fn keys(summary: &Summary) -> Vec<String> {
        summary.json().as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn every_command_has_the_same_fields_and_lines() {
        let summary = Summary::of_wire(&wire());
        assert_eq!(
            keys(&summary),
            [
                "output",
                "plan",
                "device_class",
                "seconds",
                "bytes_written",
                "parts_written",
                "parts_kept",
                "retries",
                "already_done"
            ]
        );
        assert_eq!(
            summary.text().as_str(),
            "merged 2 adapters into s3://b/base\nwrote 3.0 kB to s3://b/out in 2.0 s, 2 parts were there already\n\
             plan 0123456789ab, digests in shardfuse.json\n"
        );
    }
}
