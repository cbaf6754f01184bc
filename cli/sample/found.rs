//! What a sample found.

use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::Placed;
use shardfuse_merge::recipe::exact::{NOISE, ulp_error};
use shardfuse_merge::tensor::float::decode_f64;

/// What was found for one kind of tensor.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Found {
    /// Tensors of the kind.
    pub tensors: u64,
    /// Rows that were computed.
    pub rows: u64,
    /// The largest error in units in the last place of the output dtype, or in steps of its codes.
    pub worst_ulp: f64,
    /// Where it is.
    pub at: String,
    /// Rows whose error is neither rounding nor fp32 noise, or copied rows that differ.
    pub wrong: u64,
}

impl Found {
    /// Adds those of another tensor of the kind.
    pub fn add(&mut self, other: Found) {
        self.tensors += other.tensors;
        self.rows += other.rows;
        // Where a wrong row is counts for more than where the largest error is.
        if other.worst_ulp > self.worst_ulp || (other.wrong > 0 && self.wrong == 0) {
            self.at = other.at;
        }
        self.worst_ulp = self.worst_ulp.max(other.worst_ulp);
        self.wrong += other.wrong;
    }

    /// Notes a copied row.
    pub fn copied(&mut self, tensor: &Placed, row: u64, equal: bool) {
        self.rows += 1;
        if !equal {
            self.wrong += 1;
            self.at = format!("{} row {row}", tensor.name);
        }
    }

    /// Holds a computed row against the exact one, with what an earlier rounding leaves open.
    pub fn computed(&mut self, tensor: &Placed, row: u64, stored: &[u8], (want, doubt): (&[f64], &[f64])) {
        let mut have = vec![0.0; want.len()];
        decode_f64(tensor.dtype, stored, &mut have);
        let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let mut wrong = false;
        for (have, (want, doubt)) in have.iter().zip(want.iter().zip(doubt)) {
            // What an earlier rounding leaves open is not held against the output.
            let want = want + (have - want).max(-doubt).min(*doubt);
            let ulp = if want.is_finite() { ulp_error(tensor.dtype, *have as f32, want) } else { 0.0 };
            if ulp > self.worst_ulp {
                self.worst_ulp = ulp;
                self.at = format!("{} row {row}", tensor.name);
            }
            wrong |= ulp > 0.5 + 1e-3 && (have - want).abs() > NOISE * largest + half_ulp(tensor.dtype, want);
        }
        self.rows += 1;
        self.wrong += u64::from(wrong);
    }

    /// Holds an encoded row against the exact one: each value with how far its code may be from what it was made of. Errors are
    /// told in steps of the codes.
    pub fn encoded(
        &mut self,
        tensor: &str,
        row: u64,
        (have, steps): (&[f32], &[f32]),
        (want, doubt): (&[f64], &[f64]),
    ) {
        let largest = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let mut wrong = false;
        for ((have, half), (want, doubt)) in have.iter().zip(steps).zip(want.iter().zip(doubt)) {
            let (have, half) = (f64::from(*have), f64::from(half.abs()));
            let error = ((have - want).abs() - doubt).max(0.0);
            let steps = if error == 0.0 { 0.0 } else { error / (2.0 * half) };
            if steps > self.worst_ulp {
                self.worst_ulp = steps;
                self.at = format!("{tensor} row {row}");
            }
            wrong |= error.is_nan() || error > half * (1.0 + 1e-3) + NOISE * largest;
        }
        self.rows += 1;
        self.wrong += u64::from(wrong);
    }
}

/// Half a unit in the last place at `value`.
pub fn half_ulp(dtype: Dtype, value: f64) -> f64 {
    let digits = match dtype {
        Dtype::BF16 => 8,
        Dtype::F16 => 11,
        _ => 24,
    };
    value.abs() * 2f64.powi(-digits)
}
