//! Messages to domain types and back. The way from the wire is fallible: a field that is missing, unknown or out of
//! bounds is an error that names it.

use shardfuse_merge::inventory::{Object, ObjectId, Source};
use shardfuse_merge::limits::{MAX_BITS, MAX_DIMS};
use shardfuse_merge::plan::task::{Assignment, Fill, Gauge, Job, Measured};
use shardfuse_merge::recipe::{DoraNorm, Factor, Fuse, LowRank, Measure, MeasureId, Norm, Op, Placed, Recipe, Step};
use shardfuse_merge::{Dtype, DtypeExt};

use crate::v1;

mod bounds;
mod pieces;
mod spec;

pub use pieces::{Gather, split};

/// A message that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(pub(crate) String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

type Result<T> = std::result::Result<T, Malformed>;

fn need<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| Malformed(format!("{name} is missing")))
}

fn dtype(name: &str) -> Result<Dtype> {
    Dtype::parse(name).map_err(|e| Malformed(e.to_string()))
}

fn adapter(number: u32) -> Result<u16> {
    u16::try_from(number).map_err(|_| Malformed(format!("adapter number {number} is above {}", u16::MAX)))
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

impl From<&Source> for v1::Source {
    fn from(s: &Source) -> Self {
        v1::Source {
            name: s.name.clone(),
            object: s.object.0,
            offset: s.offset,
            dtype: s.dtype.name(),
            shape: s.shape.clone(),
        }
    }
}

impl TryFrom<v1::Source> for Source {
    type Error = Malformed;
    fn try_from(s: v1::Source) -> Result<Self> {
        let dtype = dtype(&s.dtype)?;
        let shape = shape(s.shape, dtype, &s.name)?;
        Ok(Source { name: s.name, object: ObjectId(s.object), offset: s.offset, dtype, shape })
    }
}

impl From<&LowRank> for v1::LowRank {
    fn from(l: &LowRank) -> Self {
        let factor = |f: &Factor| v1::Factor { source: Some((&f.source).into()), transposed: f.transposed };
        v1::LowRank { left: Some(factor(&l.left)), right: Some(factor(&l.right)), rank: l.rank, scale: l.scale }
    }
}

impl TryFrom<v1::LowRank> for LowRank {
    type Error = Malformed;
    fn try_from(l: v1::LowRank) -> Result<Self> {
        let factor = |f: Option<v1::Factor>, name: &str| -> Result<Factor> {
            let f = need(f, name)?;
            Ok(Factor { source: need(f.source, "factor.source")?.try_into()?, transposed: f.transposed })
        };
        Ok(LowRank { left: factor(l.left, "left")?, right: factor(l.right, "right")?, rank: l.rank, scale: l.scale })
    }
}

impl From<&Step> for v1::Step {
    fn from(step: &Step) -> Self {
        use v1::step::Op as Wire;
        let op = match &step.op {
            Op::Add(delta) => Wire::Add(delta.into()),
            Op::Dora { delta, magnitude, norm, of } => Wire::Dora(v1::Dora {
                delta: Some(delta.into()),
                magnitude: Some(magnitude.into()),
                measured: match norm {
                    Norm::Rows => None,
                    Norm::Measured(id) => Some(id.0),
                },
                of_original: *of == DoraNorm::Original,
            }),
            Op::AddScaled { source, scale } => {
                Wire::AddScaled(v1::AddScaled { source: Some(source.into()), scale: *scale })
            }
            Op::SetRows { rows, source } => {
                Wire::SetRows(v1::SetRows { rows: rows.clone(), source: Some(source.into()) })
            }
        };
        v1::Step { adapter: step.adapter.into(), op: Some(op) }
    }
}

impl TryFrom<v1::Step> for Step {
    type Error = Malformed;
    fn try_from(step: v1::Step) -> Result<Self> {
        use v1::step::Op as Wire;
        let op = match need(step.op, "step.op")? {
            Wire::Add(delta) => Op::Add(delta.try_into()?),
            Wire::Dora(d) => Op::Dora {
                delta: need(d.delta, "dora.delta")?.try_into()?,
                magnitude: need(d.magnitude, "dora.magnitude")?.try_into()?,
                norm: d.measured.map_or(Norm::Rows, |id| Norm::Measured(MeasureId(id))),
                of: if d.of_original { DoraNorm::Original } else { DoraNorm::Standing },
            },
            Wire::AddScaled(a) => {
                Op::AddScaled { source: need(a.source, "add_scaled.source")?.try_into()?, scale: a.scale }
            }
            Wire::SetRows(s) => {
                let source: Source = need(s.source, "set_rows.source")?.try_into()?;
                Op::SetRows { rows: s.rows, source }
            }
        };
        Ok(Step { adapter: adapter(step.adapter)?, op })
    }
}

fn steps(steps: Vec<v1::Step>) -> Result<Vec<Step>> {
    steps.into_iter().map(Step::try_from).collect()
}

impl From<&Placed> for v1::Tensor {
    fn from(t: &Placed) -> Self {
        let fuse = match &t.recipe {
            Recipe::Copy(_) => None,
            Recipe::Fuse(f) => Some(v1::Fuse {
                steps: f.steps.iter().map(Into::into).collect(),
                start_adapter: f.start_adapter.map(Into::into),
                keep_non_finite: f.keep_non_finite,
            }),
        };
        let start = Some(t.recipe.start().into());
        v1::Tensor {
            name: t.name.clone(),
            dtype: t.dtype.name(),
            shape: t.shape.clone(),
            offset: t.offset,
            length: t.length,
            start,
            fuse,
        }
    }
}

impl TryFrom<v1::Tensor> for Placed {
    type Error = Malformed;
    fn try_from(t: v1::Tensor) -> Result<Self> {
        let start: Source = need(t.start, "tensor.start")?.try_into()?;
        let dtype = dtype(&t.dtype)?;
        let shape = shape(t.shape, dtype, &t.name)?;
        let bits = shape.iter().product::<u64>() * dtype.bitsize() as u64;
        if bits != t.length.saturating_mul(8) || start.shape != shape {
            return Err(Malformed(format!(
                "tensor {} of shape {shape:?} has {} bytes and starts from shape {:?}",
                t.name, t.length, start.shape
            )));
        }
        let recipe = match t.fuse {
            None => Recipe::Copy(start),
            Some(f) => Recipe::Fuse(Fuse {
                start,
                start_adapter: f.start_adapter.map(adapter).transpose()?,
                steps: steps(f.steps)?,
                keep_non_finite: f.keep_non_finite,
            }),
        };
        Ok(Placed { name: t.name, dtype, shape, offset: t.offset, length: t.length, recipe })
    }
}

impl From<&Measured> for v1::Measured {
    fn from(m: &Measured) -> Self {
        v1::Measured { id: m.id.0, url: m.url.clone(), digest: m.digest.clone() }
    }
}

impl From<v1::Measured> for Measured {
    fn from(m: v1::Measured) -> Self {
        Measured { id: MeasureId(m.id), url: m.url, digest: m.digest }
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
                part_size: f.part_size,
                parts: f.parts.clone(),
                check: f.check,
                header_url: f.header.0.clone(),
                header_length: f.header.1,
                tensors: f.tensors.iter().map(Into::into).collect(),
                measured: f.measured.iter().map(Into::into).collect(),
                tensors_to_follow: 0,
            }),
            Job::Gauge(g) => Wire::Gauge(v1::Gauge {
                tensor: g.measure.tensor.clone(),
                start: Some((&g.measure.start).into()),
                steps: g.measure.steps.iter().map(Into::into).collect(),
                blocks: g.blocks.clone(),
                measured: g.measured.iter().map(Into::into).collect(),
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
                part_size: f.part_size,
                parts: f.parts,
                check: f.check,
                header: (f.header_url, f.header_length),
                tensors: f.tensors.into_iter().map(Placed::try_from).collect::<Result<_>>()?,
                measured: f.measured.into_iter().map(Into::into).collect(),
            }),
            Wire::Gauge(g) => Job::Gauge(Gauge {
                measure: Measure {
                    tensor: g.tensor,
                    start: need(g.start, "gauge.start")?.try_into()?,
                    steps: steps(g.steps)?,
                    needs: Vec::new(),
                },
                blocks: g.blocks,
                measured: g.measured.into_iter().map(Into::into).collect(),
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
