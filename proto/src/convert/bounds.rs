//! What an assignment may say. A worker acts on it with its own memory and credentials, so sizes are held against each
//! other before anything is allocated: nobody's arithmetic overflows, and nothing lies outside of what it claims to be in.

use std::collections::{HashMap, HashSet};

use shardfuse_merge::DtypeExt;
use shardfuse_merge::inventory::{Object, Source};
use shardfuse_merge::limits::{MAX_NAME, MAX_OBJECT, MAX_PART, MAX_RANK, MAX_URL};
use shardfuse_merge::plan::task::{Assignment, BLOCK_ROWS, Fill, Gauge, Job, Measured};
use shardfuse_merge::recipe::{LowRank, Norm, Op, Placed, Recipe, Step, matrix};
use shardfuse_merge::spec::MAX_PARTS;

use super::{Malformed, Result};

/// The largest header of an output file, in bytes.
const MAX_HEADER: u64 = 256 << 20;
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
        Job::Fill(fill) => check_fill(fill, &objects),
        Job::Gauge(gauge) => check_gauge(gauge, &objects),
    }
}

type Objects<'a> = HashMap<u32, &'a Object>;

fn check_fill(fill: &Fill, objects: &Objects) -> Result<()> {
    text("the output's URL", &fill.url, MAX_URL)?;
    text("the header's URL", &fill.header.0, MAX_URL)?;
    text("the upload's id", &fill.upload, MAX_NAME)?;
    let (size, part) = (fill.size, fill.part_size);
    if !(1024..=MAX_PART).contains(&part) || !part.is_power_of_two() || size == 0 || size > MAX_OBJECT {
        return refuse(format!("parts of {part} bytes of a file of {size} bytes"));
    }
    let count = size.div_ceil(part);
    let sorted = fill.parts.windows(2).all(|w| w[0] < w[1]);
    if count > MAX_PARTS || fill.parts.last().is_none_or(|p| u64::from(*p) >= count) || !sorted {
        return refuse(format!(
            "parts {:?} of {count}, which are sorted, different and at most {MAX_PARTS}",
            head(&fill.parts)
        ));
    }
    if fill.header.1 > MAX_HEADER.min(size) {
        return refuse(format!("a header of {} bytes in a file of {size}, at most {MAX_HEADER}", fill.header.1));
    }
    let measured = check_measured(&fill.measured)?;
    let mut at = fill.header.1;
    for t in &fill.tensors {
        text("a tensor's name", &t.name, MAX_NAME)?;
        let end = t.offset.checked_add(t.length).filter(|end| *end <= size && t.offset >= at);
        let Some(end) = end else {
            return refuse(format!("tensor {} lies at {} of {size} bytes, behind {at}", t.name, t.offset));
        };
        at = end;
        check_tensor(t, objects, &measured)?;
    }
    Ok(())
}

fn check_tensor(t: &Placed, objects: &Objects, measured: &HashSet<u32>) -> Result<()> {
    match &t.recipe {
        Recipe::Copy(source) => {
            // Bytes are copied, so as many must be there.
            if source.bytes() != t.length {
                return refuse(format!("tensor {} of {} bytes is copied from {}", t.name, t.length, source.bytes()));
            }
            within(source, objects)
        }
        Recipe::Fuse(fuse) => {
            if !t.dtype.fusable() {
                return refuse(format!("tensor {} is written as {}", t.name, t.dtype.name()));
            }
            values(&fuse.start, objects)?;
            check_steps(&fuse.start, &fuse.steps, objects, measured)
        }
    }
}

fn check_gauge(gauge: &Gauge, objects: &Objects) -> Result<()> {
    text("a tensor's name", &gauge.measure.tensor, MAX_NAME)?;
    let measured = check_measured(&gauge.measured)?;
    let start = &gauge.measure.start;
    values(start, objects)?;
    let (rows, _) = matrix(&start.shape);
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let sorted = gauge.blocks.windows(2).all(|w| w[0] < w[1]);
    if gauge.blocks.last().is_none_or(|b| u64::from(*b) >= blocks) || !sorted {
        return refuse(format!("blocks {:?} of {blocks}, which are sorted and different", head(&gauge.blocks)));
    }
    check_steps(start, &gauge.measure.steps, objects, &measured)
}

fn check_steps(start: &Source, steps: &[Step], objects: &Objects, measured: &HashSet<u32>) -> Result<()> {
    let (rows, cols) = matrix(&start.shape);
    let fits = |source: &Source, elements: u64, what: &str| -> Result<()> {
        if source.elements() != elements {
            return refuse(format!("{} has the shape {:?}, {what} has {elements} values", source.name, source.shape));
        }
        values(source, objects)
    };
    // Read row by row, so the rows must be rows.
    let same = |source: &Source, shape: (u64, u64)| match matrix(&source.shape) == shape {
        true => Ok(()),
        false => refuse(format!("{} has the shape {:?}, {shape:?} is needed", source.name, source.shape)),
    };
    let finite = |scale: f32, source: &Source| match scale.is_finite() {
        true => Ok(()),
        false => refuse(format!("{} is scaled by {scale}", source.name)),
    };
    let delta = |d: &LowRank| -> Result<()> {
        if d.rank == 0 || d.rank > MAX_RANK {
            return refuse(format!("factor {} has rank {}, at most {MAX_RANK}", d.left.source.name, d.rank));
        }
        finite(d.scale, &d.left.source)?;
        // Elements of a source are below 2^56, so the products do not overflow where they are equal.
        fits(&d.left.source, rows.saturating_mul(d.rank), "the left factor")?;
        fits(&d.right.source, cols.saturating_mul(d.rank), "the right factor")
    };
    for step in steps {
        match &step.op {
            Op::Add(d) => delta(d)?,
            Op::Dora { delta: d, magnitude, norm, .. } => {
                delta(d)?;
                match norm {
                    Norm::Rows => fits(magnitude, rows, "a magnitude by row")?,
                    Norm::Measured(id) if measured.contains(&id.0) => fits(magnitude, cols, "a magnitude by column")?,
                    Norm::Measured(id) => return refuse(format!("measurement {} is needed and not there", id.0)),
                }
            }
            Op::AddScaled { source, scale } => {
                finite(*scale, source)?;
                same(source, (rows, cols))?;
                values(source, objects)?;
            }
            Op::SetRows { rows: set, source } => {
                let mut seen = HashSet::new();
                if let Some(row) = set.iter().find(|r| **r >= rows || !seen.insert(**r)) {
                    return refuse(format!("row {row} of {rows} is set from {}, once at the most", source.name));
                }
                same(source, (set.len() as u64, cols))?;
                values(source, objects)?;
            }
        }
    }
    Ok(())
}

/// A tensor whose values are computed with.
fn values(source: &Source, objects: &Objects) -> Result<()> {
    if !source.dtype.fusable() || source.elements() == 0 {
        return refuse(format!(
            "{} of dtype {} and shape {:?} is computed with",
            source.name,
            source.dtype.name(),
            source.shape
        ));
    }
    within(source, objects)
}

/// A tensor lies in an object that is described.
fn within(source: &Source, objects: &Objects) -> Result<()> {
    text("a tensor's name", &source.name, MAX_NAME)?;
    let Some(object) = objects.get(&source.object.0) else {
        return refuse(format!("{} lies in input {}, which is not described", source.name, source.object.0));
    };
    match source.offset.checked_add(source.bytes()) {
        Some(end) if end <= object.size => Ok(()),
        _ => refuse(format!(
            "{} of {} bytes at {} reaches beyond {} of {} bytes",
            source.name,
            source.bytes(),
            source.offset,
            object.url,
            object.size
        )),
    }
}

fn check_measured(facts: &[Measured]) -> Result<HashSet<u32>> {
    let mut ids = HashSet::new();
    for fact in facts {
        text("a measurement's URL", &fact.url, MAX_URL)?;
        if fact.digest.len() != DIGEST || !fact.digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refuse(format!("measurement {} has no BLAKE3 digest", fact.id.0));
        }
        if !ids.insert(fact.id.0) {
            return refuse(format!("measurement {} is described twice", fact.id.0));
        }
    }
    Ok(ids)
}

/// The first few of a list, for messages.
fn head(list: &[u32]) -> &[u32] {
    &list[..list.len().min(8)]
}
