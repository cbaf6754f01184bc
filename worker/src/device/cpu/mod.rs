//! The CPU kernels: one table of functions an instruction set, chosen once at run time.
//!
//! Every table computes exactly what [`shardfuse_merge::recipe::arithmetic`] defines, bit for bit, so a merge's bytes do not depend on
//! the machine that ran it. What differs is the speed:
//!
//! | set | needs | tile of W |
//! |---|---|---|
//! | `scalar` | nothing; it calls the definition | 1 x 16 |
//! | `avx2` | AVX2, FMA, F16C (x86-64-v3) | 6 x 16 |
//! | `avx512` | AVX-512 F, BW, DQ, VL (x86-64-v4) | 8 x 32 |
//! | `neon` | NEON (every aarch64) | 6 x 16 |
//!
//! Only the low-rank tile and the fp16 conversions are written with intrinsics. The rest are the loops of the definition
//! compiled again for the set (`compiled_for`): the compiler vectorises them as well as a person would, and there is
//! one text to be right.
//!
//! The kernels run on the calling thread and share nothing but what they are given; rows may be split among threads at
//! will. W tiles of about 100 rows serve the caches well.

use std::fmt;

use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::arithmetic::Arithmetic;
use shardfuse_merge::tensor::float::Float;

mod pack;
mod scalar;
mod set;
mod sweep;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;

#[cfg(test)]
mod tests;

pub use pack::Packed;
use set::Set;

/// Values that are rounded at a time, on the stack.
const ROUNDED: usize = 1024;

/// The kernels of one instruction set that this CPU can run.
///
/// Copying it copies a reference. It cannot be made but by [`Kernels::best`] and [`Kernels::available`], which is what
/// makes calling it safe.
#[derive(Clone, Copy)]
pub struct Kernels(&'static Set);

impl Kernels {
    /// The fastest set that this CPU can run.
    pub fn best() -> Kernels {
        *Kernels::available().last().expect("the scalar set runs everywhere")
    }

    /// Every set that this CPU can run, the scalar one first and the fastest last.
    pub fn available() -> Vec<Kernels> {
        let mut sets = vec![Kernels(&scalar::SET)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
                sets.push(Kernels(&avx2::SET));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                sets.push(Kernels(&avx512::SET));
            }
        }
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        if std::arch::is_aarch64_feature_detected!("neon") {
            sets.push(Kernels(&neon::SET));
        }
        sets
    }

    /// The set's name: `scalar`, `avx2`, `avx512`, `neon`.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Lays a right factor (`rank` x `cols`, row-major) out for [`Arithmetic::low_rank`]. The layout is the same for every set.
    ///
    /// # Panics
    /// If `right` is not `rank` x `cols`.
    pub fn pack(&self, right: &[f32], rank: usize, cols: usize) -> Packed {
        Packed::new(right, rank, cols)
    }

    /// As [`shardfuse_merge::tensor::float::decode`].
    ///
    /// # Panics
    /// If the lengths do not fit, or `dtype` is not F32, F16 or BF16.
    pub fn decode(&self, dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
        // SAFETY: a `Kernels` exists only where the CPU has the set's features.
        unsafe { (self.0.decode)(dtype, bytes, out) }
    }

    /// As [`shardfuse_merge::tensor::float::encode`]: the index of the first element that is not finite once encoded.
    ///
    /// # Panics
    /// If the lengths do not fit, or `dtype` is not F32, F16 or BF16.
    pub fn encode(&self, dtype: Dtype, values: &[f32], out: &mut [u8]) -> Option<usize> {
        // SAFETY: as in `decode`.
        unsafe { (self.0.encode)(dtype, values, out) }
    }

    /// As [`all_finite`](shardfuse_merge::recipe::arithmetic::all_finite).
    pub fn all_finite(&self, values: &[f32]) -> bool {
        // SAFETY: as in `decode`.
        unsafe { (self.0.shared.all_finite)(values) }
    }

    /// As [`all_zero`](shardfuse_merge::recipe::arithmetic::all_zero).
    pub fn all_zero(&self, values: &[f32]) -> bool {
        // SAFETY: as in `decode`.
        unsafe { (self.0.shared.all_zero)(values) }
    }
}

impl Arithmetic for Kernels {
    type Right = Packed;

    fn low_rank(&self, w: &mut [f32], left: &[f32], right: &Packed, scale: f32) {
        sweep::low_rank(self.0, w, left, right, scale);
    }

    fn add_scaled(&self, w: &mut [f32], delta: &[f32], scale: f32) {
        // SAFETY: a `Kernels` exists only where the CPU has the set's features.
        unsafe { (self.0.shared.add_scaled)(w, delta, scale) }
    }

    fn add_product(&self, w: &mut [f32], a: &[f32], b: &[f32], scale: f32) {
        // SAFETY: as in `add_scaled`.
        unsafe { (self.0.shared.add_product)(w, a, b, scale) }
    }

    fn scale_row(&self, row: &mut [f32], gain: f32) {
        // SAFETY: as in `add_scaled`.
        unsafe { (self.0.shared.scale_row)(row, gain) }
    }

    fn scale_columns(&self, tile: &mut [f32], cols: usize, gains: &[f32]) {
        // SAFETY: as in `add_scaled`.
        unsafe { (self.0.shared.scale_columns)(tile, cols, gains) }
    }

    fn round(&self, w: &mut [f32], to: Float) -> Option<usize> {
        let mut stored = [0; 4 * ROUNDED];
        for (i, w) in w.chunks_mut(ROUNDED).enumerate() {
            let stored = &mut stored[..w.len() * to.bytes() as usize];
            if let Some(at) = self.encode(to.dtype(), w, stored) {
                return Some(i * ROUNDED + at);
            }
            self.decode(to.dtype(), stored, w);
        }
        None
    }

    fn row_squares(&self, row: &[f32]) -> f64 {
        // SAFETY: as in `add_scaled`.
        unsafe { (self.0.shared.row_squares)(row) }
    }

    fn add_column_squares(&self, sums: &mut [f64], tile: &[f32]) {
        // SAFETY: as in `add_scaled`.
        unsafe { (self.0.shared.add_column_squares)(sums, tile) }
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kernels").field(&self.name()).finish()
    }
}
