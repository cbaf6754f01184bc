//! AVX2 with FMA and F16C: x86-64-v3, every server CPU since 2013 (Intel) and 2015 (AMD).

use std::arch::x86_64::*;

use shardfuse_merge::Dtype;
use shardfuse_merge::tensor::float;

use super::pack::{Line, PANEL};
use super::set::{Set, Strip, compiled_for};

pub(super) const SET: Set = Set { name: "avx2", rows: 6, strip, decode, encode, shared: SHARED };

compiled_for!("avx2,fma,f16c");

#[target_feature(enable = "avx2,fma,f16c")]
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

#[target_feature(enable = "avx2,fma,f16c")]
fn rows<const ROWS: usize>(strip: Strip<'_>) {
    let Strip { w, stride, left, panels, rank, scale } = strip;
    for (p, panel) in panels.chunks_exact(rank).enumerate() {
        tile::<ROWS>(&mut w[p * PANEL..], stride, left, panel, scale);
    }
}

/// ROWS x 16 elements of W. With six rows, the twelve sums, two halves of a line and one broadcast fill fifteen of the
/// sixteen registers, and twelve chains hide the latency of two FMA units.
#[target_feature(enable = "avx2,fma,f16c")]
fn tile<const ROWS: usize>(w: &mut [f32], stride: usize, left: &[f32], panel: &[Line], scale: f32) {
    let rank = panel.len();
    // Sliced to one common length, so that the loop needs no bounds checks.
    let mut left_rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (i, row) in left_rows.iter_mut().enumerate() {
        *row = &left[i * rank..][..rank];
    }
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    for k in 0..rank {
        let right = load(&panel[k]);
        for i in 0..ROWS {
            let left = _mm256_set1_ps(left_rows[i][k]);
            sums[i][0] = _mm256_fmadd_ps(left, right[0], sums[i][0]);
            sums[i][1] = _mm256_fmadd_ps(left, right[1], sums[i][1]);
        }
    }
    let scale = _mm256_set1_ps(scale);
    for (i, sum) in sums.iter().enumerate() {
        let line = w[i * stride..].first_chunk_mut().expect("a tile lies within W");
        let old = load(line);
        store(line, [_mm256_fmadd_ps(scale, sum[0], old[0]), _mm256_fmadd_ps(scale, sum[1], old[1])]);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn load(line: &Line) -> [__m256; 2] {
    // SAFETY: the reference covers the sixteen floats that are read; the loads need no alignment.
    unsafe { [_mm256_loadu_ps(line.as_ptr()), _mm256_loadu_ps(line[8..].as_ptr())] }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn store(line: &mut Line, values: [__m256; 2]) {
    // SAFETY: the reference covers the sixteen floats that are written; the stores need no alignment.
    unsafe {
        _mm256_storeu_ps(line.as_mut_ptr(), values[0]);
        _mm256_storeu_ps(line[8..].as_mut_ptr(), values[1]);
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    if dtype != Dtype::F16 || bytes.len() != out.len() * 2 {
        // Also where the length is wrong: the definition says so.
        return float::decode(dtype, bytes, out);
    }
    let (lines, rest) = out.as_chunks_mut::<8>();
    let (chunks, tail) = bytes.as_chunks::<16>();
    for (line, chunk) in lines.iter_mut().zip(chunks) {
        // SAFETY: the references cover the sixteen bytes read and the eight floats written; no alignment is needed.
        unsafe { _mm256_storeu_ps(line.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(chunk.as_ptr().cast()))) }
    }
    float::decode(dtype, tail, rest);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Option<usize> {
    if dtype != Dtype::F16 || out.len() != values.len() * 2 {
        return float::encode(dtype, values, out);
    }
    let (lines, rest) = values.as_chunks::<8>();
    let (chunks, tail) = out.as_chunks_mut::<16>();
    let exponent = _mm_set1_epi16(0x7C00);
    let mut bad = _mm_setzero_si128();
    for (line, chunk) in lines.iter().zip(chunks) {
        // SAFETY: the reference covers the eight floats that are read; no alignment is needed.
        let values = unsafe { _mm256_loadu_ps(line.as_ptr()) };
        let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(values);
        bad = _mm_or_si128(bad, _mm_cmpeq_epi16(_mm_and_si128(bits, exponent), exponent));
        // SAFETY: the reference covers the sixteen bytes that are written; no alignment is needed.
        unsafe { _mm_storeu_si128(chunk.as_mut_ptr().cast(), bits) }
    }
    let bad_tail = float::encode(dtype, rest, tail).is_some();
    if bad_tail || _mm_movemask_epi8(bad) != 0 { float::first_non_finite(dtype, out) } else { None }
}
