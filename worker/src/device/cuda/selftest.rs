//! A small fusion whose result is known to the bit, run on a device before it gets any work.
//!
//! The factors are small integers, so every order of summing gives the same product, and all else is IEEE arithmetic: the
//! device must give the bits of the definition. A driver that runs our kernels wrongly is found here and not in a model.

use std::sync::Arc;

use shardfuse_merge::Dtype;
use shardfuse_merge::fuse::{self, norm, reference};
use shardfuse_merge::inventory::{ObjectId, Source};
use shardfuse_merge::recipe::{self, DoraNorm, Factor, Fuse, LowRank, Norm, Op};

use super::Gpu;
use super::job::{Gain, Program, Sink, Step, Wrong};
use super::right::Right;
use super::tiling::Way;

const ROWS: usize = 67;
const COLS: usize = 21;
const RANK: usize = 3;

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
    fuse::encode(dtype, &values, &mut raw);
    let scale = 0.7;

    // Two steps, so that a norm of the start differs from one of what stands.
    let mut w = vec![0.0; values.len()];
    fuse::decode(dtype, &raw, &mut w);
    let start = w.clone();
    reference::low_rank(&mut w, COLS, &left, &right, RANK, 0.25);
    let mut original = start;
    reference::low_rank(&mut original, COLS, &left, &right, RANK, scale);
    reference::low_rank(&mut w, COLS, &left, &right, RANK, scale);
    if let Some(of_original) = of_original {
        for (i, row) in w.chunks_exact_mut(COLS).enumerate() {
            let of = if of_original { &original[i * COLS..][..COLS] } else { &*row };
            let gain =
                norm::dora_gain(magnitudes[i], norm::row_squares(of)).ok_or("the test has a row without a norm")?;
            reference::scale_row(row, gain);
        }
    }
    let mut expected = vec![0; raw.len()];
    fuse::encode(dtype, &w, &mut expected);

    let full = |e| format!("no room for the self-test: {e}");
    let buffer = gpu.allocate(right.len() as u64 * 4).map_err(full)?;
    gpu.upload(&buffer, 0, &right).map_err(full)?;
    let right = Arc::new(Right::new(buffer, false, false));
    let gain = of_original.map(|of_original| Gain::Rows { magnitudes, of_original });
    let step = |scale, gain| Step { left: left.clone(), right: Arc::clone(&right), rank: RANK as u64, scale, gain };
    let recipe = recipe(dtype, of_original);
    let Way::Device(tiling) = Way::of(&recipe, dtype, ROWS as u64, COLS as u64) else {
        return Err("the self-test has no path on the device".to_owned());
    };
    let program = Program {
        tiling,
        rows: 0..ROWS as u64,
        from: dtype,
        to: dtype,
        steps: vec![step(0.25, None), step(scale, gain)],
    };
    let sink = Sink { target: 0..raw.len(), out: vec![0; raw.len()], skip: 0 };
    let answer = gpu.submit(raw.into(), program, sink);
    match futures::executor::block_on(gpu.answer(answer)) {
        Ok(out) if out == expected => Ok(()),
        Ok(_) => Err(format!("a known fusion in {dtype} comes out with wrong bits")),
        Err(Wrong::Failed(failure)) => Err(failure.error.message().to_owned()),
        Err(other) => Err(format!("a known fusion in {dtype} fails: {other:?}")),
    }
}

fn recipe(dtype: Dtype, of_original: Option<bool>) -> Fuse {
    let source = |shape: Vec<u64>| Source { object: ObjectId(0), name: "self-test".into(), dtype, shape, offset: 0 };
    let (rows, cols, rank) = (ROWS as u64, COLS as u64, RANK as u64);
    let delta = |scale| LowRank {
        left: Factor { source: source(vec![rows, rank]), transposed: false },
        right: Factor { source: source(vec![rank, cols]), transposed: false },
        rank,
        scale,
    };
    let second = match of_original {
        None => Op::Add(delta(0.7)),
        Some(original) => Op::Dora {
            delta: delta(0.7),
            magnitude: source(vec![rows]),
            norm: Norm::Rows,
            of: if original { DoraNorm::Original } else { DoraNorm::Standing },
        },
    };
    let steps = [Op::Add(delta(0.25)), second].into_iter().map(|op| recipe::Step { adapter: 0, op }).collect();
    Fuse { start: source(vec![rows, cols]), start_adapter: None, steps, keep_non_finite: false }
}
