//! NEON, which every aarch64 CPU has.
//!
//! So far it has run under emulation only (QEMU 7.2), where it gave the definition's bits; its speed is not measured.

use std::arch::aarch64::*;

use shardfuse_merge::Dtype;
use shardfuse_merge::tensor::float;

use super::pack::{Line, PANEL};
use super::set::{Set, Strip, compiled_for};

pub(super) const SET: Set = Set { name: "neon", rows: 6, strip, decode, encode, shared: SHARED };

compiled_for!("neon");

#[target_feature(enable = "neon")]
fn strip(strip: Strip<'_>) {
    match strip.left.len() / strip.rank {
        1 => rows::<1>(strip),
        2 => rows::<2>(strip),
        3 => rows::<3>(strip),
        4 => rows::<4>(strip),
        5 => rows::<5>(strip),
        _ => rows::<6>(strip),
    }
}

#[target_feature(enable = "neon")]
fn rows<const ROWS: usize>(strip: Strip<'_>) {
    let Strip { w, stride, left, panels, rank, scale } = strip;
    for (p, panel) in panels.chunks_exact(rank).enumerate() {
        tile::<ROWS>(&mut w[p * PANEL..], stride, left, panel, scale);
    }
}

/// ROWS x 16 elements of W. With six rows, 24 sums and the four quarters of a line leave four of the 32 registers for
/// the left factor.
#[target_feature(enable = "neon")]
fn tile<const ROWS: usize>(w: &mut [f32], stride: usize, left: &[f32], panel: &[Line], scale: f32) {
    let rank = panel.len();
    // Sliced to one common length, so that the loop needs no bounds checks.
    let mut left_rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (i, row) in left_rows.iter_mut().enumerate() {
        *row = &left[i * rank..][..rank];
    }
    let mut sums = [[vdupq_n_f32(0.0); 4]; ROWS];
    for k in 0..rank {
        let right = load(&panel[k]);
        for i in 0..ROWS {
            for q in 0..4 {
                sums[i][q] = vfmaq_n_f32(sums[i][q], right[q], left_rows[i][k]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        let line = w[i * stride..].first_chunk_mut().expect("a tile lies within W");
        let mut values = load(line);
        for (value, sum) in values.iter_mut().zip(sums) {
            *value = vfmaq_n_f32(*value, *sum, scale);
        }
        store(line, values);
    }
}

#[target_feature(enable = "neon")]
fn load(line: &Line) -> [float32x4_t; 4] {
    // SAFETY: the references cover the sixteen floats that are read; the loads need no alignment.
    unsafe {
        [
            vld1q_f32(line.as_ptr()),
            vld1q_f32(line[4..].as_ptr()),
            vld1q_f32(line[8..].as_ptr()),
            vld1q_f32(line[12..].as_ptr()),
        ]
    }
}

#[target_feature(enable = "neon")]
fn store(line: &mut Line, values: [float32x4_t; 4]) {
    for (quarter, value) in line.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        // SAFETY: the reference covers the four floats that are written; the store needs no alignment.
        unsafe { vst1q_f32(quarter.as_mut_ptr(), value) }
    }
}

#[target_feature(enable = "neon")]
fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    if dtype != Dtype::F16 || bytes.len() != out.len() * 2 {
        // Also where the length is wrong: the definition says so.
        return float::decode(dtype, bytes, out);
    }
    let (lines, rest) = out.as_chunks_mut::<4>();
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (line, chunk) in lines.iter_mut().zip(chunks) {
        let bits = vreinterpret_f16_u8(vcreate_u8(u64::from_le_bytes(*chunk)));
        // SAFETY: the reference covers the four floats that are written; the store needs no alignment.
        unsafe { vst1q_f32(line.as_mut_ptr(), vcvt_f32_f16(bits)) }
    }
    float::decode(dtype, tail, rest);
}

#[target_feature(enable = "neon")]
fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Option<usize> {
    if dtype != Dtype::F16 || out.len() != values.len() * 2 {
        return float::encode(dtype, values, out);
    }
    let (lines, rest) = values.as_chunks::<4>();
    let (chunks, tail) = out.as_chunks_mut::<8>();
    let exponent = vdup_n_u16(0x7C00);
    let mut bad = vdup_n_u16(0);
    for (line, chunk) in lines.iter().zip(chunks) {
        // SAFETY: the reference covers the four floats that are read; the load needs no alignment.
        let values = unsafe { vld1q_f32(line.as_ptr()) };
        let bits = vreinterpret_u16_f16(vcvt_f16_f32(values));
        bad = vorr_u16(bad, vceq_u16(vand_u16(bits, exponent), exponent));
        *chunk = vget_lane_u64::<0>(vreinterpret_u64_u16(bits)).to_le_bytes();
    }
    let bad_tail = float::encode(dtype, rest, tail).is_some();
    if bad_tail || vmaxv_u16(bad) != 0 { float::first_non_finite(dtype, out) } else { None }
}
