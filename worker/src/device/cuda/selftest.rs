//! A small fusion whose result is known to the bit, run on a device before it gets any work.
//!
//! The factors are small integers, so every order of summing gives the same product, and all else is IEEE arithmetic: the
//! device must give the bits of the definition. A driver that runs our kernels wrongly is found here and not in a model.

use std::sync::Arc;

use shardfuse_merge::Dtype;
use shardfuse_merge::inventory::{ObjectId, Source};
use shardfuse_merge::recipe::reference::{self, InMemory};
use shardfuse_merge::recipe::{self, Add, Delta, Dora, DoraNorm, Fuse, LowRank, Norm, Op, Operand, Start};
use shardfuse_merge::tensor::float;

use super::gpu::Gpu;
use super::job::{Gain, Program, Step, Wrong};
use super::right::Right;
use super::tiling::Way;
use crate::device::Slice;

const ROWS: usize = 67;
const COLS: usize = 21;
const RANK: usize = 3;
/// The scale of the second delta.
const SCALE: f32 = 0.7;

/// Runs it. The error says what is wrong.
pub(super) fn run(gpu: &Gpu) -> Result<(), String> {
    for dtype in [Dtype::BF16, Dtype::F16, Dtype::F32] {
        for of_original in [None, Some(false), Some(true)] {
            one(gpu, dtype, of_original)?;
        }
    }
    Ok(())
}

fn one(gpu: &Gpu, dtype: Dtype, of_original: Option<bool>) -> Result<(), String> {
    let integers = |n: usize, step: usize| (0..n).map(|i| (i * step % 13) as f32 - 6.0).collect::<Vec<f32>>();
    let (left, right) = (integers(ROWS * RANK, 5), integers(RANK * COLS, 7));
    let values: Vec<f32> = integers(ROWS * COLS, 11).iter().map(|v| v * 0.37 + 0.11).collect();
    let magnitudes: Vec<f32> = (0..ROWS).map(|i| 1.0 + i as f32 * 0.3).collect();
    let size = if dtype == Dtype::F32 { 4 } else { 2 };
    let mut raw = vec![0; values.len() * size];
    float::encode(dtype, &values, &mut raw);
    // The values as they are stored.
    let mut start = vec![0.0; values.len()];
    float::decode(dtype, &raw, &mut start);
    let recipe = recipe(dtype, of_original)?;
    let tensors = [("w", start), ("left", left.clone()), ("right", right.clone()), ("m", magnitudes.clone())];
    let values = tensors.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
    let known = InMemory { values, ..InMemory::default() };
    let w = reference::fuse(&recipe, &known).map_err(|_| "the test has a row without a norm")?;
    let mut expected = vec![0; raw.len()];
    float::encode(dtype, &w, &mut expected);

    let full = |e| format!("no room for the self-test: {e}");
    let buffer = gpu.allocate(right.len() as u64 * 4).map_err(full)?;
    gpu.upload(&buffer, 0, &right).map_err(full)?;
    let right = Arc::new(Right::new(buffer, false, false));
    let gain = of_original.map(|of_original| Gain::Rows { magnitudes, of_original });
    let step = |scale, gain| Step { left: left.clone(), right: Arc::clone(&right), rank: RANK as u64, scale, gain };
    let Way::Device(tiling) = Way::of(&recipe, dtype, ROWS as u64, COLS as u64) else {
        return Err("the self-test has no path on the device".to_owned());
    };
    let program = Program {
        tiling,
        rows: 0..ROWS as u64,
        from: dtype,
        to: dtype,
        steps: vec![step(0.25, None), step(SCALE, gain)],
    };
    let slice = Slice { part: vec![0; raw.len()], target: 0..raw.len(), skip: 0 };
    let answer = gpu.submit(raw.into(), program, slice);
    match futures::executor::block_on(gpu.answer(answer)) {
        Ok(out) if out == expected => Ok(()),
        Ok(_) => Err(format!("a known fusion in {dtype} comes out with wrong bits")),
        Err(Wrong::Failed(failure)) => Err(failure.error.message().to_owned()),
        Err(other) => Err(format!("a known fusion in {dtype} fails: {other:?}")),
    }
}

/// Two steps, so that a norm of the start differs from one of the weight that stands.
fn recipe(dtype: Dtype, of_original: Option<bool>) -> Result<Fuse, String> {
    let source =
        |name: &str, dtype, shape: Vec<u64>| Source { object: ObjectId(0), name: name.into(), dtype, shape, offset: 0 };
    let (rows, cols, rank) = (ROWS as u64, COLS as u64, RANK as u64);
    let delta = |scale| {
        let left = Operand::matrix(source("left", Dtype::F32, vec![rows, rank]));
        let right = Operand::matrix(source("right", Dtype::F32, vec![rank, cols]));
        Delta::LowRank(LowRank { left, right, scale })
    };
    let second = match of_original {
        None => Op::Add(Add(delta(SCALE))),
        Some(original) => Op::Dora(Dora {
            delta: delta(SCALE),
            magnitude: Operand::vector(source("m", Dtype::F32, vec![rows])),
            norm: Norm::Rows,
            of: if original { DoraNorm::Original } else { DoraNorm::Standing },
        }),
    };
    let steps = [Op::Add(Add(delta(0.25))), second].into_iter().map(|op| recipe::Step { adapter: 0, op }).collect();
    let start = Start::plain(source("w", dtype, vec![rows, cols]))?;
    Ok(Fuse { start, start_adapter: None, steps, keep_non_finite: false })
}
