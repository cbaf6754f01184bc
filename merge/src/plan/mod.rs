//! The plan: spec and inventory in, every output file, recipe and task out. Pure, deterministic, immutable.

use std::collections::{HashMap, HashSet};
use std::io::{BufWriter, Write};

use serde::{Deserialize, Serialize};

pub mod becomes;
pub mod build;
mod check;
pub mod copies;
pub mod cost;
pub mod grid;
pub mod lineage;
pub mod report;
pub mod task;
pub mod usage;

#[cfg(test)]
mod tests;

use crate::effort::{Cancel, Effort};
use crate::error::{Error, Kind, Result};
use crate::inventory::{Equal, Inventory, Object};
use crate::output::{Cut, Output};
use crate::spec::MergeSpec;
use crate::statistic::Statistic;
use lineage::Lineage;
use report::Report;
use usage::Usage;

/// The plan's format number.
pub const FORMAT: u32 = 8;

/// A plan. Its digest is its id. The spec is in it, with the size of a part; how files are cut where the store copies, memory,
/// threads, device and endpoints are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// What was asked for.
    pub spec: MergeSpec,
    /// The input objects.
    pub objects: Vec<Object>,
    /// What each adapter was trained on, in the order in which they are applied.
    pub lineage: Vec<Lineage>,
    /// What each use of an adapter changes.
    pub uses: Vec<Usage>,
    /// What is checked before work starts.
    pub equals: Vec<Equal>,
    /// Reductions that recipes wait for.
    pub statistics: Vec<Statistic>,
    /// The output.
    pub output: Output,
}

impl Plan {
    /// Plans a merge.
    pub fn new(spec: MergeSpec, inventory: &Inventory) -> Result<(Plan, Report)> {
        Plan::until(spec, inventory, Cancel::default())
    }

    /// Plans a merge until it is cancelled.
    ///
    /// # Errors
    /// What the plan refuses; [`Kind::Interrupted`] if it was cancelled.
    pub fn until(spec: MergeSpec, inventory: &Inventory, cancel: Cancel) -> Result<(Plan, Report)> {
        spec.check()?;
        let mut effort = Effort::new(cancel);
        let mut built = build::build(&spec, inventory, &mut effort)?;
        let (output, travel) = crate::output::lay_out(&spec, inventory, built.contents)?;
        built.report.travels(travel);
        let plan = Plan {
            format: FORMAT,
            spec,
            objects: inventory.objects.clone(),
            lineage: built.lineage,
            uses: usage::usages(&built.report.adapters, &built.replacing, &output),
            equals: built.equals,
            statistics: built.statistics,
            output,
        };
        check::check(&plan.objects, &plan.statistics, &plan.output)?;
        effort.check()?;
        Ok((plan, built.report))
    }

    /// The plan as it is stored. Equal plans have equal bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let cuts = self.output.files.iter().map(|file| &file.cut).collect();
        // Every map in a plan has texts for keys, so this cannot fail.
        serde_json::to_vec(&Writing { format: self.format, plan: self, cuts }).unwrap_or_default()
    }

    /// The plan as it is stored, after it was read back: what cannot be read again must not be written.
    ///
    /// # Errors
    /// [`Kind::Internal`] if other bytes or another plan come back; a defect.
    pub fn to_stored(&self) -> Result<Vec<u8>> {
        let bytes = self.to_bytes();
        let defect = |why: String| Error::new(Kind::Internal, format!("the plan cannot be stored: {why}"));
        let again = Plan::from_bytes(&bytes).map_err(|e| defect(e.message().to_owned()))?;
        match self.difference(&again) {
            _ if again == *self => Ok(bytes),
            Some(d) => Err(defect(format!("{} would be {} instead of {}", d.what, d.stored, d.now))),
            None => Err(defect("it would come back changed".into())),
        }
    }

    /// A stored plan.
    pub fn from_bytes(bytes: &[u8]) -> Result<Plan> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let broken = |e: serde_json::Error| Error::new(Kind::Io, format!("the stored plan cannot be read: {e}"));
        let Format { format } = serde_json::from_slice(bytes).map_err(broken)?;
        if format != FORMAT {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the stored plan has format {format}, this version reads {FORMAT}"),
            )
            .hint("finish the merge with the version that began it, or discard it with --restart"));
        }
        let Reading { mut plan, cuts } = serde_json::from_slice(bytes).map_err(broken)?;
        let files = plan.output.files.len();
        if cuts.len() != files {
            return Err(Error::new(
                Kind::Io,
                format!("the stored plan has the parts of {} of {files} files", cuts.len()),
            ));
        }
        for (file, cut) in plan.output.files.iter_mut().zip(cuts) {
            file.cut = cut;
        }
        Ok(plan)
    }

    /// BLAKE3 of the plan as JSON, without the parts of its files, as hex. Plans with one digest make the same bytes.
    pub fn digest(&self) -> String {
        let mut hash = BufWriter::with_capacity(1 << 16, blake3::Hasher::new());
        // As with [`Self::to_bytes`], this cannot fail; the hash takes whatever it is given.
        let _ = serde_json::to_writer(&mut hash, self);
        let _ = hash.flush();
        hash.get_ref().finalize().to_hex().to_string()
    }

    /// The plan with the parts of another plan for the same files.
    #[must_use]
    pub fn cut_as(mut self, other: &Plan) -> Plan {
        for (file, like) in self.output.files.iter_mut().zip(&other.output.files) {
            file.cut.clone_from(&like.cut);
        }
        self
    }

    /// The first thing in which another plan for the same output differs: the thing, theirs, ours. An input that
    /// changed comes first, since it explains the rest.
    pub fn difference(&self, stored: &Plan) -> Option<Difference> {
        // A file that is read and also travels is two objects: one of them is held to what was read.
        let known: HashSet<&Object> = stored.objects.iter().collect();
        let by_url: HashMap<&str, &Object> =
            stored.objects.iter().map(|object| (object.url.as_str(), object)).collect();
        for ours in self.objects.iter().filter(|ours| !known.contains(ours)) {
            if let Some(theirs) = by_url.get(ours.url.as_str()).copied() {
                return Some(Difference::of_input(theirs, ours));
            }
        }
        let (a, b) = (serde_json::to_value(stored).ok()?, serde_json::to_value(self).ok()?);
        first_difference("plan", &a, &b)
    }
}

/// A plan on its way to a store.
#[derive(Serialize)]
struct Writing<'a> {
    format: u32,
    plan: &'a Plan,
    cuts: Vec<&'a Cut>,
}

/// A plan on its way back.
#[derive(Deserialize)]
struct Reading {
    plan: Plan,
    cuts: Vec<Cut>,
}

/// In what two plans differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whether an input object changed.
    pub input: bool,
    /// Whether nothing but its version is known to be another one.
    pub version: bool,
    /// The thing: an object's URL, or a field's path.
    pub what: String,
    /// What the stored plan says.
    pub stored: String,
    /// What the new plan says.
    pub now: String,
}

/// A version in words. That of a file is its length and time.
fn version(pin: &str) -> String {
    let time = pin.strip_prefix("file:").and_then(|rest| rest.split_once(':')?.1.parse::<u64>().ok());
    match time {
        None => pin.to_owned(),
        Some(time) => format!("of the time {}.{:09}", time / 1_000_000_000, time % 1_000_000_000),
    }
}

impl Difference {
    /// Of an input: what is another in it than it was. What is the same is not told.
    fn of_input(stored: &Object, now: &Object) -> Difference {
        let (size, seen) = (stored.size != now.size, stored.seen != now.seen);
        // A length or a digest says more than the version, which is another one with them.
        let told = |object: &Object| {
            let size = size.then(|| format!("{} bytes", object.size));
            let seen = seen.then(|| format!("digest {}", object.seen.get(..12).unwrap_or("unknown")));
            let told = size.into_iter().chain(seen).collect::<Vec<_>>().join(", ");
            if told.is_empty() { version(&object.pin) } else { told }
        };
        Difference { input: true, version: !size && !seen, what: now.url.clone(), stored: told(stored), now: told(now) }
    }
}

fn first_difference(path: &str, a: &serde_json::Value, b: &serde_json::Value) -> Option<Difference> {
    use serde_json::Value;
    match (a, b) {
        _ if a == b => None,
        (Value::Object(x), Value::Object(y)) => {
            let keys = x.keys().chain(y.keys().filter(|k| !x.contains_key(*k)));
            keys.into_iter().find_map(|k| {
                first_difference(
                    &format!("{path}.{k}"),
                    x.get(k).unwrap_or(&Value::Null),
                    y.get(k).unwrap_or(&Value::Null),
                )
            })
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().find_map(|(i, (p, q))| first_difference(&format!("{path}[{i}]"), p, q))
        }
        _ => {
            let short = |v: &Value| v.to_string().chars().take(120).collect::<String>();
            Some(Difference { input: false, version: false, what: path.to_owned(), stored: short(a), now: short(b) })
        }
    }
}
