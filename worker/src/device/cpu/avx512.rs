//! AVX-512 with F, BW, DQ and VL: x86-64-v4, Intel servers since 2017 and AMD's since 2022.
//!
//! AVX512-BF16 is not used: its conversion flushes subnormals.
//!
//! So far it has run under emulation only (Bochs 2.7 as a Skylake-X), where it gave the definition's bits; its speed is
//! not measured. That emulator's own conversion to fp16 is off by one ulp now and then, in the AVX2 form too, which
//! on hardware is right for every fp32 there is: so there `encode` to fp16 was held against AVX2's.

use std::arch::x86_64::*;

use shardfuse_merge::Dtype;
use shardfuse_merge::tensor::float;

use super::pack::{Line, PANEL};
use super::set::{Set, Strip, compiled_for};

pub(super) const SET: Set = Set { name: "avx512", rows: 8, strip, decode, encode, shared: SHARED };

compiled_for!("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn strip(strip: Strip<'_>) {
    match strip.left.len() / strip.rank {
        1 => rows::<1>(strip),
        2 => rows::<2>(strip),
        3 => rows::<3>(strip),
        4 => rows::<4>(strip),
        5 => rows::<5>(strip),
        6 => rows::<6>(strip),
        7 => rows::<7>(strip),
        _ => rows::<8>(strip),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn rows<const ROWS: usize>(strip: Strip<'_>) {
    let Strip { w, stride, left, panels, rank, scale } = strip;
    let pairs = panels.chunks_exact(2 * rank);
    let last = pairs.remainder();
    for (p, pair) in pairs.enumerate() {
        let (first, second) = pair.split_at(rank);
        tile::<ROWS, 2>(&mut w[2 * p * PANEL..], stride, left, [first, second], scale);
    }
    if !last.is_empty() {
        let at = (panels.len() / rank - 1) * PANEL;
        tile::<ROWS, 1>(&mut w[at..], stride, left, [last], scale);
    }
}

/// ROWS x (16 * PANELS) elements of W, one vector a row and panel. Eight rows by two panels are sixteen chains, which
/// hide the latency of two FMA units with half of the registers; the broadcasts are folded into the multiply-adds.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn tile<const ROWS: usize, const PANELS: usize>(
    w: &mut [f32],
    stride: usize,
    left: &[f32],
    mut panels: [&[Line]; PANELS],
    scale: f32,
) {
    let rank = panels[0].len();
    // Sliced to one common length, so that the loop needs no bounds checks.
    for panel in &mut panels {
        *panel = &panel[..rank];
    }
    let mut left_rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (i, row) in left_rows.iter_mut().enumerate() {
        *row = &left[i * rank..][..rank];
    }
    let mut sums = [[_mm512_setzero_ps(); PANELS]; ROWS];
    for k in 0..rank {
        let mut right = [_mm512_setzero_ps(); PANELS];
        for (right, panel) in right.iter_mut().zip(&panels) {
            *right = load(&panel[k]);
        }
        for i in 0..ROWS {
            let left = _mm512_set1_ps(left_rows[i][k]);
            for p in 0..PANELS {
                sums[i][p] = _mm512_fmadd_ps(left, right[p], sums[i][p]);
            }
        }
    }
    let scale = _mm512_set1_ps(scale);
    for (i, sums) in sums.iter().enumerate() {
        for (p, sum) in sums.iter().enumerate() {
            let line = w[i * stride + p * PANEL..].first_chunk_mut().expect("a tile lies within W");
            store(line, _mm512_fmadd_ps(scale, *sum, load(line)));
        }
    }
}

#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512 {
    // SAFETY: the reference covers the sixteen floats that are read; the load needs no alignment.
    unsafe { _mm512_loadu_ps(line.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn store(line: &mut Line, values: __m512) {
    // SAFETY: the reference covers the sixteen floats that are written; the store needs no alignment.
    unsafe { _mm512_storeu_ps(line.as_mut_ptr(), values) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    if dtype != Dtype::F16 || bytes.len() != out.len() * 2 {
        // Also where the length is wrong: the definition says so.
        return float::decode(dtype, bytes, out);
    }
    let (lines, rest) = out.as_chunks_mut();
    let (chunks, tail) = bytes.as_chunks::<32>();
    for (line, chunk) in lines.iter_mut().zip(chunks) {
        // SAFETY: the reference covers the 32 bytes that are read; the load needs no alignment.
        let bits = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast()) };
        store(line, _mm512_cvtph_ps(bits));
    }
    float::decode(dtype, tail, rest);
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Option<usize> {
    if dtype != Dtype::F16 || out.len() != values.len() * 2 {
        return float::encode(dtype, values, out);
    }
    let (lines, rest) = values.as_chunks();
    let (chunks, tail) = out.as_chunks_mut::<32>();
    let exponent = _mm256_set1_epi16(0x7C00);
    let mut bad = _mm256_setzero_si256();
    for (line, chunk) in lines.iter().zip(chunks) {
        let bits = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(load(line));
        bad = _mm256_or_si256(bad, _mm256_cmpeq_epi16(_mm256_and_si256(bits, exponent), exponent));
        // SAFETY: the reference covers the 32 bytes that are written; the store needs no alignment.
        unsafe { _mm256_storeu_si256(chunk.as_mut_ptr().cast(), bits) }
    }
    let bad_tail = float::encode(dtype, rest, tail).is_some();
    if bad_tail || _mm256_movemask_epi8(bad) != 0 { float::first_non_finite(dtype, out) } else { None }
}
