//! Messages to domain types and back. The way from the wire is fallible: a field that is missing, unknown or out of
//! bounds is an error that names it.

use std::ops::Range;

use shardfuse_merge::inventory::Object;
use shardfuse_merge::limits::{MAX_BITS, MAX_DIMS};
use shardfuse_merge::plan::task::{Assignment, Fill, Job, Part, Reduce, StatisticValue};
use shardfuse_merge::recipe::{Placed, Recipe, bytes};
use shardfuse_merge::statistic::StatisticId;
use shardfuse_merge::{Dtype, DtypeExt};

use crate::v1;

mod bounds;
mod malformed;
mod pieces;
mod spec;

pub use malformed::Malformed;
pub use pieces::{Gather, split};

use malformed::{Result, need};

fn dtype(name: &str) -> Result<Dtype> {
    Dtype::parse(name).map_err(|e| Malformed(e.to_string()))
}

/// Sizes come from the other side: a product that overflows must not reach arithmetic, also where a dimension of zero
/// makes the whole of it small.
fn shape(dims: Vec<u64>, dtype: Dtype, name: &str) -> Result<Vec<u64>> {
    let bits = dims.iter().try_fold(dtype.bitsize() as u64, |n, d| n.checked_mul((*d).max(1)));
    if dims.len() > MAX_DIMS || bits.is_none_or(|b| b > MAX_BITS) {
        return Err(Malformed(format!("tensor {name} has the shape {dims:?}")));
    }
    Ok(dims)
}

impl From<&Placed> for v1::Tensor {
    fn from(t: &Placed) -> Self {
        v1::Tensor {
            name: t.name.clone(),
            dtype: t.dtype.name(),
            shape: t.shape.clone(),
            offset: t.offset,
            length: t.length,
            recipe: bytes::write(&t.recipe),
        }
    }
}

impl TryFrom<v1::Tensor> for Placed {
    type Error = Malformed;
    fn try_from(t: v1::Tensor) -> Result<Self> {
        let dtype = dtype(&t.dtype)?;
        let shape = shape(t.shape, dtype, &t.name)?;
        let recipe: Recipe = bytes::read(&t.recipe).map_err(|e| Malformed(format!("tensor {}: {e}", t.name)))?;
        let bits = shape.iter().product::<u64>() * dtype.bitsize() as u64;
        let start = recipe.dims();
        if bits != t.length.saturating_mul(8) || *start != *shape {
            return Err(Malformed(format!(
                "tensor {} of shape {shape:?} has {} bytes and starts from shape {start:?}",
                t.name, t.length
            )));
        }
        // What it is a portion of matters for the header only, which a worker gets as it is.
        Ok(Placed { name: t.name, dtype, shape, offset: t.offset, length: t.length, recipe, portion: None })
    }
}

impl From<&Part> for v1::Part {
    fn from(part: &Part) -> Self {
        let Range { start, end } = part.bytes;
        v1::Part { number: part.number, offset: start, length: end - start, digest: part.digest }
    }
}

impl TryFrom<v1::Part> for Part {
    type Error = Malformed;
    fn try_from(v1::Part { number, offset, length, digest }: v1::Part) -> Result<Self> {
        let end = offset.checked_add(length);
        let end = end.ok_or_else(|| Malformed(format!("part {number} of {length} bytes at {offset}")))?;
        Ok(Part { number, bytes: offset..end, digest })
    }
}

impl From<&StatisticValue> for v1::StatisticValue {
    fn from(v: &StatisticValue) -> Self {
        v1::StatisticValue { id: v.id.0, url: v.url.clone(), digest: v.digest.clone() }
    }
}

impl From<v1::StatisticValue> for StatisticValue {
    fn from(v: v1::StatisticValue) -> Self {
        StatisticValue { id: StatisticId(v.id), url: v.url, digest: v.digest }
    }
}

impl From<&Assignment> for v1::Assign {
    fn from(a: &Assignment) -> Self {
        use v1::assign::Job as Wire;
        let job = match &a.job {
            Job::Fill(f) => Wire::Fill(v1::Fill {
                url: f.url.clone(),
                upload: f.upload.clone(),
                size: f.size,
                parts: f.parts.iter().map(Into::into).collect(),
                copied: f.copied,
                check: f.check,
                header_url: f.header.0.clone(),
                header_length: f.header.1,
                tensors: f.tensors.iter().map(Into::into).collect(),
                statistics: f.statistics.iter().map(Into::into).collect(),
                tensors_to_follow: 0,
            }),
            Job::Reduce(r) => Wire::Reduce(v1::Reduce {
                statistic: bytes::write(&r.statistic),
                blocks: r.blocks.clone(),
                statistics: r.statistics.iter().map(Into::into).collect(),
            }),
        };
        let object =
            |(id, o): &(u32, Object)| v1::Object { id: *id, url: o.url.clone(), size: o.size, pin: o.pin.clone() };
        v1::Assign {
            attempt: Some(v1::Attempt { task: a.task, epoch: a.epoch, merge: a.merge.clone() }),
            lease_ms: a.lease_ms,
            objects: a.objects.iter().map(object).collect(),
            job: Some(job),
            trace_context: String::new(),
        }
    }
}

impl TryFrom<v1::Assign> for Assignment {
    type Error = Malformed;
    fn try_from(a: v1::Assign) -> Result<Self> {
        use v1::assign::Job as Wire;
        let attempt = need(a.attempt, "attempt")?;
        let job = match need(a.job, "job")? {
            Wire::Fill(f) if f.tensors_to_follow > 0 => {
                return Err(Malformed(format!("an assignment that lacks {} tensors", f.tensors_to_follow)));
            }
            Wire::Fill(f) => Job::Fill(Fill {
                url: f.url,
                upload: f.upload,
                size: f.size,
                parts: f.parts.into_iter().map(Part::try_from).collect::<Result<_>>()?,
                copied: f.copied,
                check: f.check,
                header: (f.header_url, f.header_length),
                tensors: f.tensors.into_iter().map(Placed::try_from).collect::<Result<_>>()?,
                statistics: f.statistics.into_iter().map(Into::into).collect(),
            }),
            Wire::Reduce(r) => Job::Reduce(Reduce {
                statistic: bytes::read(&r.statistic).map_err(Malformed)?,
                blocks: r.blocks,
                statistics: r.statistics.into_iter().map(Into::into).collect(),
            }),
        };
        let object = |o: v1::Object| (o.id, Object { url: o.url, size: o.size, pin: o.pin, seen: String::new() });
        let assignment = Assignment {
            merge: attempt.merge,
            task: attempt.task,
            epoch: attempt.epoch,
            lease_ms: a.lease_ms,
            objects: a.objects.into_iter().map(object).collect(),
            job,
        };
        bounds::check(&assignment)?;
        Ok(assignment)
    }
}

#[cfg(test)]
mod tests;
