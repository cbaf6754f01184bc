//! What an assignment may say. A worker acts on it with its own memory and credentials, so sizes are held against each
//! other before anything is allocated: nobody's arithmetic overflows, and nothing lies outside of what it claims to be in.

use std::collections::{HashMap, HashSet};

use shardfuse_merge::DtypeExt;
use shardfuse_merge::inventory::{Object, Source};
use shardfuse_merge::limits::{MAX_BITS, MAX_DIMS, MAX_NAME, MAX_OBJECT, MAX_PART, MAX_URL};
use shardfuse_merge::plan::task::{Assignment, Fill, Job, Part, Reduce, StatisticValue};
use shardfuse_merge::recipe::check::{self, Surroundings};
use shardfuse_merge::recipe::{Placed, Recipe};
use shardfuse_merge::spec::MAX_PARTS;
use shardfuse_merge::statistic::StatisticId;
use shardfuse_merge::tensor::float::Float;

use super::malformed::{Malformed, Result};

/// The largest header of an output file, in bytes.
const MAX_HEADER: u64 = 256 << 20;
/// The least part but the last of a file, in bytes: a chunk of BLAKE3.
const LEAST_PART: u64 = 1024;
/// The longest lease.
const MAX_LEASE_MS: u64 = 24 * 3600 * 1000;
/// Hexadecimal digits of a BLAKE3 digest.
const DIGEST: usize = 64;

fn refuse<T>(why: String) -> Result<T> {
    Err(Malformed(why))
}

/// Texts are shown in messages, so what is too long is not repeated.
fn text(what: &str, value: &str, most: usize) -> Result<()> {
    if value.len() > most {
        return refuse(format!("{what} is {} bytes long, at most {most} are taken", value.len()));
    }
    Ok(())
}

/// Checks a whole assignment.
pub fn check(a: &Assignment) -> Result<()> {
    text("the merge's name", &a.merge, MAX_NAME)?;
    if a.lease_ms == 0 || a.lease_ms > MAX_LEASE_MS {
        return refuse(format!("a lease of {} ms, at most {MAX_LEASE_MS}", a.lease_ms));
    }
    let mut objects = HashMap::new();
    for (id, object) in &a.objects {
        text("an input's URL", &object.url, MAX_URL)?;
        text("a pin", &object.pin, MAX_NAME)?;
        if object.size > MAX_OBJECT {
            return refuse(format!("{} has {} bytes, at most {MAX_OBJECT}", object.url, object.size));
        }
        if objects.insert(*id, object).is_some() {
            return refuse(format!("input {id} is described twice"));
        }
    }
    match &a.job {
        Job::Fill(fill) => check_fill(fill, objects),
        Job::Reduce(reduce) => check_reduce(reduce, objects),
    }
}

type Objects<'a> = HashMap<u32, &'a Object>;

fn check_fill(fill: &Fill, objects: Objects) -> Result<()> {
    text("the output's URL", &fill.url, MAX_URL)?;
    text("the header's URL", &fill.header.0, MAX_URL)?;
    text("the upload's id", &fill.upload, MAX_NAME)?;
    let size = fill.size;
    if size == 0 || size > MAX_OBJECT {
        return refuse(format!("parts of a file of {size} bytes, at most {MAX_OBJECT}"));
    }
    check_parts(&fill.parts, size)?;
    if fill.header.1 > MAX_HEADER.min(size) {
        return refuse(format!("a header of {} bytes in a file of {size}, at most {MAX_HEADER}", fill.header.1));
    }
    let around = Around { objects, statistics: check_values(&fill.statistics)? };
    let mut at = fill.header.1;
    for t in &fill.tensors {
        text("a tensor's name", &t.name, MAX_NAME)?;
        let end = t.offset.checked_add(t.length).filter(|end| *end <= size && t.offset >= at);
        let Some(end) = end else {
            return refuse(format!("tensor {} lies at {} of {size} bytes, behind {at}", t.name, t.offset));
        };
        at = end;
        check_tensor(t, &around)?;
    }
    Ok(())
}

/// Parts are in order, lie in the file, and are subtrees of its digest: each begins at a multiple of a power of two that it fits
/// into, and only the last is not that power of two.
fn check_parts(parts: &[Part], size: u64) -> Result<()> {
    let mut before: Option<&Part> = None;
    for part in parts {
        let Part { number, bytes, .. } = part;
        let length = bytes.end - bytes.start;
        let cell = length.max(1).next_power_of_two();
        let formed = (1..=MAX_PART).contains(&length)
            && bytes.end <= size
            && bytes.start.is_multiple_of(cell)
            && (bytes.end == size || (length == cell && length >= LEAST_PART))
            && u64::from(*number) < MAX_PARTS;
        if !formed || before.is_some_and(|b| b.number >= *number || b.bytes.end > bytes.start) {
            return refuse(format!("part {number} of {length} bytes at {} in a file of {size}", bytes.start));
        }
        before = Some(part);
    }
    before.map(drop).ok_or_else(|| Malformed("an assignment without parts".into()))
}

fn check_tensor(t: &Placed, around: &Around) -> Result<()> {
    match &t.recipe {
        Recipe::Copy(source) => {
            around.holds(source).map_err(Malformed)?;
            // Bytes are copied, so as many must be there.
            match source.bytes() == t.length {
                true => Ok(()),
                false => refuse(format!("tensor {} of {} bytes is copied from {}", t.name, t.length, source.bytes())),
            }
        }
        Recipe::Fuse(fuse) => {
            if Float::of(t.dtype).is_none() {
                return refuse(format!("tensor {} is written as {}", t.name, t.dtype.name()));
            }
            check::fuse(fuse, around).map_err(Malformed)
        }
        Recipe::Requantise(requantise) => {
            check::requantise(requantise, around).map_err(Malformed)?;
            // Codes and scales take the places of those that are stored.
            match requantise.source() {
                Some(source) if source.bytes() == t.length && source.dtype == t.dtype => Ok(()),
                _ => refuse(format!("tensor {} of {} bytes is encoded as another one is stored", t.name, t.length)),
            }
        }
    }
}

fn check_reduce(reduce: &Reduce, objects: Objects) -> Result<()> {
    let statistic = &reduce.statistic;
    text("a tensor's name", &statistic.tensor, MAX_NAME)?;
    let around = Around { objects, statistics: check_values(&reduce.statistics)? };
    check::statistic(statistic, &around).map_err(Malformed)?;
    let (rows, _) = statistic.start.matrix();
    let blocks = rows.div_ceil(statistic.block_rows());
    let sorted = reduce.blocks.windows(2).all(|w| w[0] < w[1]);
    if reduce.blocks.last().is_none_or(|b| u64::from(*b) >= blocks) || !sorted {
        return refuse(format!("blocks {:?} of {blocks}, which are sorted and different", head(&reduce.blocks)));
    }
    Ok(())
}

/// What an assignment brings: what its recipes may read.
struct Around<'a> {
    objects: Objects<'a>,
    statistics: HashSet<u32>,
}

impl Surroundings for Around<'_> {
    fn holds(&self, source: &Source) -> std::result::Result<(), String> {
        text("a tensor's name", &source.name, MAX_NAME).map_err(|e| e.0)?;
        // Products of sizes must not overflow, also where a dimension of zero makes the whole small.
        let bits = source.dtype.bitsize() as u64;
        let bits = source.shape.iter().try_fold(bits, |n, d| n.checked_mul((*d).max(1)));
        if source.shape.len() > MAX_DIMS || bits.is_none_or(|b| b > MAX_BITS) {
            return Err(format!("tensor {} has the shape {:?}", source.name, source.shape));
        }
        let Some(object) = self.objects.get(&source.object.0) else {
            return Err(format!("{} lies in input {}, which is not described", source.name, source.object.0));
        };
        match source.offset.checked_add(source.bytes()) {
            Some(end) if end <= object.size => Ok(()),
            _ => Err(format!(
                "{} of {} bytes at {} reaches beyond {} of {} bytes",
                source.name,
                source.bytes(),
                source.offset,
                object.url,
                object.size
            )),
        }
    }

    fn has(&self, id: StatisticId) -> bool {
        self.statistics.contains(&id.0)
    }
}

fn check_values(values: &[StatisticValue]) -> Result<HashSet<u32>> {
    let mut ids = HashSet::new();
    for value in values {
        text("a statistic's URL", &value.url, MAX_URL)?;
        if value.digest.len() != DIGEST || !value.digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refuse(format!("statistic {} has no BLAKE3 digest", value.id.0));
        }
        if !ids.insert(value.id.0) {
            return refuse(format!("statistic {} is described twice", value.id.0));
        }
    }
    Ok(ids)
}

/// The first few of a list, for messages.
fn head(list: &[u32]) -> &[u32] {
    &list[..list.len().min(8)]
}
