//! A merge as it is kept.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{DeviceClass, Error, Kind};

use super::totals::Totals;

/// The format that is written and read.
pub(super) const FORMAT: u32 = 1;
/// A merge is held when this many starts in a row found that the coordinator before was killed while it planned it.
const STARTS: usize = 2;

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The output is published.
    Done,
    /// It failed.
    Failed {
        /// Which failure.
        kind: Kind,
        /// In words.
        message: String,
        /// What to do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// Somebody wanted it to stop.
    Cancelled,
}

impl Outcome {
    /// A failure.
    pub fn failed(error: &Error) -> Outcome {
        Outcome::Failed {
            kind: error.kind(),
            message: error.message().to_owned(),
            hint: error.advice().map(str::to_owned),
        }
    }

    /// The failure, if it is one.
    pub fn error(&self) -> Option<Error> {
        let Outcome::Failed { kind, message, hint } = self else { return None };
        let error = Error::new(*kind, message.clone());
        Some(match hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        })
    }
}

/// The end of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// How.
    pub outcome: Outcome,
    /// The plan's digest, if it came to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The device class, if it came to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_class: Option<DeviceClass>,
    /// How far it came, if it was driven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub totals: Option<Box<Totals>>,
}

/// A merge as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// What is merged.
    pub spec: Arc<MergeSpec>,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Higher goes first.
    pub priority: i32,
    /// When it was asked for, in milliseconds since 1970.
    pub submitted: u64,
    /// When it was begun first, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<u64>,
    /// Discard what is in the output. Taken back once that was done: a restart of the coordinator must not discard again.
    #[serde(default)]
    pub restart: bool,
    /// Replace what is in the output. Taken back likewise.
    #[serde(default)]
    pub force: bool,
    /// Publish also a merge in which an adapter changes nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_no_change: bool,
    /// The share of the parts that other workers compute again before publication.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub verify_parts: f64,
    /// Somebody wants it to stop; `true` also discards what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<bool>,
    /// Since when a coordinator inspects and plans it, in milliseconds since 1970. Written before that begins and taken back
    /// after it: a coordinator that finds it when it starts follows one that was killed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planning: Option<u64>,
    /// The beginnings of planning that ended with the coordinator's death, in starts in a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken_off: Vec<u64>,
    /// Why it is not begun until somebody says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(share: &f64) -> bool {
    *share == 0.0
}

impl Record {
    /// A merge that was just asked for.
    pub fn new(spec: MergeSpec, device: &str, priority: i32, submitted: u64) -> Record {
        Record {
            format: FORMAT,
            spec: Arc::new(spec),
            device: device.to_owned(),
            priority,
            submitted,
            began: None,
            restart: false,
            force: false,
            allow_no_change: false,
            verify_parts: 0.0,
            cancel: None,
            planning: None,
            broken_off: Vec::new(),
            held: None,
            ended: None,
        }
    }

    /// The format that it was written in.
    pub(super) fn format(&self) -> u32 {
        self.format
    }

    /// Looks at the marker of a coordinator that was killed while it planned this merge, and takes it away. The merge is
    /// held once that was so at `STARTS` starts in a row. Says whether the record changed.
    pub fn note_start(&mut self) -> bool {
        match self.planning.take() {
            Some(since) if self.ended.is_none() => self.broken_off.push(since),
            Some(_) => {}
            None if self.broken_off.is_empty() || self.held.is_some() => return false,
            None => self.broken_off.clear(),
        }
        if self.broken_off.len() >= STARTS {
            let times: Vec<String> = self.broken_off.iter().map(|millis| time(*millis)).collect();
            self.held = Some(format!(
                "the coordinator was killed {} times in a row while it read and planned this merge (begun at {})",
                times.len(),
                times.join(" and ")
            ));
        }
        true
    }

    /// Planning ended, however it did: the coordinator lives.
    pub fn planned(&mut self) {
        self.planning = None;
        self.broken_off.clear();
    }
}

/// A time as people read it.
fn time(millis: u64) -> String {
    prost_types::Timestamp { seconds: i64::try_from(millis / 1000).unwrap_or(i64::MAX), nanos: 0 }.to_string()
}

/// A spec with this output.
#[cfg(test)]
pub(crate) fn spec(output: &str) -> MergeSpec {
    let lora = [shardfuse_merge::spec::LoraSpec::new("s3://b/lora")];
    MergeSpec { part_size: 1 << 20, ..MergeSpec::of("s3://b/base", lora, output) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_at_two_starts_in_a_row_holds_a_merge() {
        let mut record = Record::new(spec("s3://b/out"), "cpu", 0, 1);
        assert!(!record.note_start());
        record.planning = Some(1_000);
        assert!(record.note_start() && record.held.is_none() && record.planning.is_none());
        record.planning = Some(5_000);
        assert!(record.note_start());
        let reason = record.held.clone().unwrap();
        assert!(reason.contains("1970-01-01T00:00:01Z and 1970-01-01T00:00:05Z"), "{reason}");
        assert!(!record.note_start() && record.held == Some(reason), "it stays held");
    }

    #[test]
    fn an_end_in_a_class_as_earlier_versions_wrote_it_is_read() {
        let mut record = Record::new(spec("s3://b/out"), "cuda", 0, 1);
        let device_class = "cuda:sm90:132:12.8.4".parse().ok();
        record.ended = Some(Ended { at: 9, outcome: Outcome::Done, plan: None, device_class, totals: None });
        let now = serde_json::to_string(&record).unwrap();
        for old in ["cuda:sm90:132:12.8.4", "cuda:90:132:12.8.4", "cuda:9.0:132:120804"] {
            let stored = now.replace("cuda:sm90:132:12.8.4", old);
            assert_eq!(serde_json::from_str::<Record>(&stored).unwrap(), record, "{old}");
        }
    }

    #[test]
    fn a_start_without_a_marker_or_a_plan_in_between_begins_the_count_anew() {
        for between in [|r: &mut Record| assert!(r.note_start()), |r: &mut Record| r.planned()] {
            let mut record = Record::new(spec("s3://b/out"), "cpu", 0, 1);
            record.planning = Some(1);
            record.note_start();
            between(&mut record);
            record.planning = Some(2);
            record.note_start();
            assert_eq!((record.held.as_deref(), record.broken_off.as_slice()), (None, &[2][..]));
        }
    }
}
