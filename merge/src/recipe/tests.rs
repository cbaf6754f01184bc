use proptest::prelude::*;

use super::arithmetic::*;
use super::exact;
use super::op::ExactRows;
use super::op::norm::*;
use super::{Delta, Dense, LowRank, Operand};
use crate::Dtype;
use crate::inventory::{ObjectId, Source};
use crate::statistic::column_squares::*;
use crate::tensor::float::*;

#[test]
fn each_step_of_the_chain_is_fused() {
    // The square of 1 + 2^-12 needs one bit more than fp32 has: only a fused step keeps it.
    let x = 1.0 + 2.0_f32.powi(-12);
    let mut w = [0.0];
    low_rank(&mut w, 1, &[x, -1.0], &[x, 1.0 + 2.0_f32.powi(-11)], 2, 1.0);
    assert_eq!(w, [0.0], "the first product is rounded when it enters the sum");
    low_rank(&mut w, 1, &[-1.0, x], &[1.0 + 2.0_f32.powi(-11), x], 2, 1.0);
    assert_eq!(w, [2.0_f32.powi(-24)], "the second is not rounded before the sum");
    let mut w = [-(1.0 + 2.0_f32.powi(-11))];
    low_rank(&mut w, 1, &[x], &[1.0], 1, x);
    assert_eq!(w, [2.0_f32.powi(-24)], "nor is the scaled sum before the weight");
}

#[test]
fn the_chain_runs_in_the_order_of_the_rank() {
    let (left, right) = ([1e8, 1.0, -1e8, 1.0], [1.0; 4]);
    let mut w = [0.0];
    low_rank(&mut w, 1, &left, &right, 4, 1.0);
    assert_eq!(w, [1.0]);
}

#[test]
fn shapes_without_elements_are_allowed() {
    let mut w = [1.5, -0.0];
    low_rank(&mut w, 2, &[], &[], 0, 1.0);
    assert_eq!(w.map(f32::to_bits), [1.5_f32, 0.0].map(f32::to_bits), "-0.0 plus a zero delta is 0.0");
    low_rank(&mut [], 0, &[], &[], 3, 1.0);
    scale_columns(&mut [], 0, &[]);
    add_column_squares(&mut [], &[]);
    assert_eq!(row_squares(&[]), 0.0);
}

#[test]
fn sums_of_blocks_are_added() {
    let blocks: [&[f64]; 3] = [&[1.0, 2.0], &[3.0, 5.0], &[0.5, 0.0]];
    assert_eq!(fold_blocks(2, blocks), [4.5, 7.0]);
}

#[test]
fn the_exact_delta_is_added_to_what_is_there() {
    let source = |name: &str, shape: &[u64]| Source {
        name: name.into(),
        object: ObjectId(0),
        offset: 0,
        dtype: Dtype::F32,
        shape: shape.into(),
    };
    let (left, right) = (Operand::matrix(source("b", &[2, 1])), Operand::matrix(source("a", &[1, 2])));
    let low_rank = Delta::LowRank(LowRank { left, right, scale: 0.5 });
    let (mut w, rows) = ([1.0, 2.0, 3.0, 4.0], [0, 1]);
    low_rank.exact(
        &mut ExactRows { rows: &rows, column: 0, cols: 2, w: &mut w, doubt: &mut [] },
        &[&[2.0, 4.0], &[1.0, 3.0]],
    );
    assert_eq!(w, [2.0, 5.0, 5.0, 10.0]);
    low_rank.exact(&mut ExactRows { rows: &rows, column: 0, cols: 2, w: &mut w, doubt: &mut [] }, &[&[], &[]]);
    assert_eq!(w, [2.0, 5.0, 5.0, 10.0], "factors without a rank change nothing");
    let dense = Delta::Dense(Dense { tensor: Operand::matrix(source("d", &[1, 2])), scale: 3.0 });
    assert_eq!((dense.scale(), low_rank.scale()), (3.0, 0.5));
}

#[test]
fn zeros_and_non_finite_values_are_seen_wherever_they_are() {
    assert!(all_finite(&[]) && all_zero(&[]));
    let mut values = vec![-0.0; 2500];
    assert!(all_finite(&values) && all_zero(&values));
    for at in [0, 1023, 1024, 2499] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            values[at] = bad;
            assert!(!all_finite(&values) && !all_zero(&values));
        }
        values[at] = f32::from_bits(1);
        assert!(all_finite(&values) && !all_zero(&values));
        values[at] = 0.0;
    }
}

#[test]
fn a_norm_that_gives_no_gain_is_refused() {
    assert_eq!(dora_gain(3.0, 4.0), Some(1.5));
    assert_eq!(dora_gain(0.0, 4.0), Some(0.0));
    assert_eq!(dora_gain(1.0, 0.0), None);
    assert_eq!(dora_gain(1.0, f64::INFINITY), None);
    assert_eq!(dora_gain(1.0, f64::NAN), None);
    assert_eq!(dora_gain(f32::NAN, 1.0), None);
    assert_eq!(dora_gain(f32::MAX, 1e-20), None, "overflows fp32");
    let least = f64::from(f32::from_bits(1));
    assert_eq!(
        dora_gain(1e-30, least * least),
        Some((1e-30_f32 as f64 / least) as f32),
        "subnormal weights have a norm"
    );
}

#[test]
fn an_ulp_is_the_spacing_of_the_dtype_at_the_exact_value() {
    assert_eq!(exact::ulp_error(Dtype::BF16, 1.0, 1.0 + 2.0_f64.powi(-8)), 0.5);
    assert_eq!(exact::ulp_error(Dtype::BF16, 1.0, 1.0 - 2.0_f64.powi(-9)), 0.5);
    assert_eq!(exact::ulp_error(Dtype::F16, 1.0, 1.0 + 2.0_f64.powi(-9)), 2.0);
    assert_eq!(exact::ulp_error(Dtype::F32, 1.0, 1.0 + 2.0_f64.powi(-24)), 0.5);
    assert_eq!(exact::ulp_error(Dtype::F16, 2.0_f32.powi(-24), 0.0), 1.0, "subnormals are evenly spaced");
    assert_eq!(exact::ulp_error(Dtype::F32, f32::from_bits(3), 0.0), 3.0);
    assert_eq!(exact::ulp_error(Dtype::BF16, f32::NAN, 1.0), f64::INFINITY);
    assert_eq!(exact::ulp_error(Dtype::BF16, 1.0, f64::INFINITY), f64::INFINITY);
}

fn values(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-2.0..2.0_f32, len)
}

proptest! {
    #[test]
    fn lanes_are_as_documented(row in values(0..70)) {
        let mut lanes = [0.0_f64; LANES];
        for (j, v) in row.iter().enumerate() {
            lanes[j % LANES] += f64::from(*v).powi(2);
        }
        let eight: Vec<f64> = (0..8).map(|i| lanes[i] + lanes[i + 8]).collect();
        let four: Vec<f64> = (0..4).map(|i| eight[i] + eight[i + 4]).collect();
        let expected = (four[0] + four[2]) + (four[1] + four[3]);
        prop_assert_eq!(row_squares(&row).to_bits(), expected.to_bits());
    }

    /// Whoever measures which blocks, in tiles of whatever height: the same sums.
    #[test]
    fn cutting_a_measurement_on_blocks_changes_nothing(
        rows in 1..2600_usize, cols in 1..4_usize, tile_rows in 1..1500_usize, seed in values(97),
    ) {
        let w: Vec<f32> = (0..rows * cols).map(|i| seed[i % 97] * (i as f32).sqrt()).collect();
        let whole: Vec<Vec<f64>> = w.chunks(BLOCK_ROWS * cols).map(|block| {
            let mut acc = vec![0.0; cols];
            add_column_squares(&mut acc, block);
            acc
        }).collect();
        let tiled: Vec<Vec<f64>> = w.chunks(BLOCK_ROWS * cols).map(|block| {
            let mut acc = vec![0.0; cols];
            block.chunks(tile_rows * cols).for_each(|tile| add_column_squares(&mut acc, tile));
            acc
        }).collect();
        let bits = |blocks: &[Vec<f64>]| -> Vec<u64> {
            fold_blocks(cols, blocks.iter().map(Vec::as_slice)).into_iter().map(f64::to_bits).collect()
        };
        prop_assert_eq!(bits(&whole), bits(&tiled));
    }

    /// The promise of the merge: half an ulp of the output dtype, and fp32 noise.
    #[test]
    fn a_merged_row_is_the_exact_one_rounded(
        rank in 1..40_usize, cols in 1..20_usize, w in values(20), left in values(40), right in values(800),
    ) {
        let (left, right, scale) = (&left[..rank], &right[..rank * cols], 0.37_f32);
        let mut merged = w[..cols].to_vec();
        low_rank(&mut merged, cols, left, right, rank, scale);
        let mut truth = wide(&w[..cols]);
        for (j, truth) in truth.iter_mut().enumerate() {
            let product = (0..rank).map(|k| f64::from(left[k]) * f64::from(right[k * cols + j])).sum::<f64>();
            *truth += f64::from(scale) * product;
        }
        // Sums stay below 4 * rank + 2, and each of the rank + 1 roundings is at most 2^-24 of that.
        let noise = (4 * rank + 2) as f64 * (rank + 1) as f64 * 2.0_f64.powi(-24);
        for (truth, merged) in truth.iter().zip(&merged) {
            prop_assert!((truth - f64::from(*merged)).abs() <= noise);
        }
        for (dtype, size) in [(Dtype::BF16, 2), (Dtype::F16, 2), (Dtype::F32, 4)] {
            let (mut bytes, mut stored) = (vec![0; cols * size], vec![0.0; cols]);
            prop_assert_eq!(encode(dtype, &merged, &mut bytes), None);
            decode(dtype, &bytes, &mut stored);
            for (stored, merged) in stored.iter().zip(&merged) {
                prop_assert!(exact::ulp_error(dtype, *stored, f64::from(*merged)) <= 0.5);
            }
        }
    }

    /// Two roundings to fp32, the gain's and the product's, and nothing else.
    #[test]
    fn a_dora_row_is_near_the_exact_one(v in values(1..40), magnitude in 0.1..2.0_f32) {
        let Some(gain) = dora_gain(magnitude, row_squares(&v)) else { return Ok(()) };
        let (mut scaled, mut truth) = (v.clone(), wide(&v));
        scale_row(&mut scaled, gain);
        let exact_gain = exact::dora_gain(f64::from(magnitude), exact::squares(&truth)).unwrap();
        truth.iter_mut().for_each(|v| *v *= exact_gain);
        for (truth, scaled) in truth.iter().zip(&scaled) {
            prop_assert!(exact::ulp_error(Dtype::F32, *scaled, *truth) <= 1.6);
        }
        let mut tile = [v.clone(), v].concat();
        scale_columns(&mut tile, scaled.len(), &vec![gain; scaled.len()]);
        prop_assert_eq!(tile, [scaled.clone(), scaled].concat());
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}
