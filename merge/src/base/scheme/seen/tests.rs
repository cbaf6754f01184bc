use super::*;
use crate::base::scheme::stored::Stored;
use crate::inventory::ObjectId;
use crate::tensor::{Dtype, float};

fn seen(tensor: &Source, code: Code, block: u64, from: Float, transposed: bool) -> Result<Stored, String> {
    Stored::seen(tensor, code, Scales { block, from, down: transposed }, None)
}

fn matrix(dtype: Dtype, rows: u64, cols: u64) -> Source {
    Source { name: "w".into(), object: ObjectId(0), offset: 0, dtype, shape: vec![rows, cols] }
}

fn encoded(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * float::width(dtype)];
    assert_eq!(float::encode(dtype, values, &mut bytes), None);
    bytes
}

/// Rows as a worker decodes them: from the ranges that it is told to read.
fn rows_of(stored: &Stored, bytes: &[u8], rows: Range<u64>) -> Vec<f32> {
    rows_with(stored, bytes, rows, None)
}

/// The same with the value of a statistic.
fn rows_with(stored: &Stored, bytes: &[u8], rows: Range<u64>, sum: Option<f64>) -> Vec<f32> {
    let start = stored.start().unwrap();
    let (_, cols) = start.matrix();
    let spans = start.ranges(rows.clone());
    let read = spans.iter().map(|s| &bytes[s.bytes.start as usize..s.bytes.end as usize]);
    let sum = sum.map(f64::to_le_bytes);
    let read: Vec<&[u8]> = read.chain(sum.as_ref().map(|sum| &sum[..])).collect();
    let mut out = vec![0.0; ((rows.end - rows.start) * cols) as usize];
    let floats = |of: Float, bytes: &[u8], out: &mut [f32]| float::decode(of.dtype(), bytes, out);
    start.decode(rows, &read, &floats, &mut out);
    out
}

/// Values without order, small enough for fp16.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Float::BF16.nearest((state >> 8) as f32 / 8_388_608.0 - 1.0)
    };
    (0..count).map(next).collect()
}

#[test]
fn a_block_is_codes_times_its_largest_value() {
    let tensor = matrix(Dtype::F32, 1, 64);
    let mut w = vec![0.0; 64];
    // Over the largest, -4: -1, 0.5, 0.25, the limit 0.03979014977812767 (the code below it is 0), and 0.04.
    w[..5].copy_from_slice(&[-4.0, 2.0, 1.0, 4.0 * 0.039_790_15, 0.16]);
    let read = |code, from| rows_of(&seen(&tensor, code, 64, from, false).unwrap(), &encoded(Dtype::F32, &w), 0..1);
    let nf4 = read(Code::Nf4, Float::F32);
    let expected = [-4.0, 4.0 * 0.440_709_83, 4.0 * 0.246_112_3, 0.0, 4.0 * 0.079_580_3, 0.0];
    assert_eq!(nf4[..6], expected);
    assert_eq!(read(Code::Nf4, Float::BF16)[1], 1.765_625, "1.7628 in bf16");
    assert_eq!(read(Code::Fp4, Float::F32)[..6], [-4.0, 2.0, 1.0, 4.0 * 0.005_208_333_3, 4.0 * 0.005_208_333_3, 0.0]);
}

#[test]
fn int8_rounds_to_even_by_rows() {
    let tensor = matrix(Dtype::BF16, 2, 4);
    let bytes = encoded(Dtype::BF16, &[127.0, 2.5, 3.5, -0.5, 0.0, 0.0, -0.0, 0.0]);
    let read = rows_of(&seen(&tensor, Code::Int8, 64, Float::BF16, false).unwrap(), &bytes, 0..2);
    // 127 x 127 x 0.0078740157 in fp32, and a row of zeros, which has no scale.
    let scale = |n: f32| n * 127.0 * 0.007_874_016;
    assert_eq!(read, [scale(127.0), scale(2.0), scale(4.0), 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn what_is_loaded_in_another_dtype_is_rounded_first() {
    let tensor = matrix(Dtype::F32, 1, 64);
    // 1 + 2^-9 is 1 in bf16, so it is the block's largest value and not above it.
    let mut w = vec![0.0; 64];
    w[..2].copy_from_slice(&[1.0 + 2f32.powi(-9), -1.0]);
    let bytes = encoded(Dtype::F32, &w);
    let read = |from| rows_of(&seen(&tensor, Code::Nf4, 64, from, false).unwrap(), &bytes, 0..1);
    assert_eq!(read(Float::F32)[..2], [1.0 + 2f32.powi(-9), -(1.0 + 2f32.powi(-9))]);
    assert_eq!(read(Float::BF16)[..2], [1.0, -1.0]);
}

#[test]
fn zeros_and_the_smallest_values_stay_finite_and_no_value_has_no_result() {
    let tensor = matrix(Dtype::F32, 3, 64);
    let mut w = vec![0.0; 192];
    w[64] = f32::from_bits(3);
    w[65] = -f32::from_bits(1);
    w[130] = f32::INFINITY;
    for code in [Code::Nf4, Code::Fp4, Code::Int8] {
        let read = rows_of(&seen(&tensor, code, 64, Float::F32, false).unwrap(), &encoded_raw(&w), 0..3);
        assert_eq!(read[..64], [0.0; 64], "{code:?}");
        assert!(read[64..128].iter().all(|v| v.abs() < 1e-37), "{code:?}");
        assert!(read[128..].iter().all(|v| v.is_nan()), "{code:?}");
    }
    let large = encoded(Dtype::F32, &[70_000.0; 64]);
    let one = matrix(Dtype::F32, 1, 64);
    assert!(rows_of(&seen(&one, Code::Int8, 64, Float::F32, false).unwrap(), &large, 0..1)[0].is_nan(), "not in fp16");
}

fn encoded_raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The whole weight by the definition: flattened as the layer has it, cut into groups.
fn defined(w: &[f32], rows: usize, cols: usize, form: Form, mean: f32) -> Vec<f32> {
    let place = |at: usize| if form.transposed { at % rows * cols + at / rows } else { at };
    let mut out = vec![0.0; w.len()];
    for begin in (0..w.len()).step_by(form.run() as usize) {
        let all: Vec<usize> = (begin..(begin + form.run() as usize).min(w.len())).map(place).collect();
        let mut group: Vec<f32> = all.iter().map(|at| w[*at]).collect();
        form.see(&mut group, mean);
        all.iter().zip(group).for_each(|(at, value)| out[*at] = value);
    }
    out
}

#[test]
fn rows_are_the_same_wherever_they_are_cut() {
    // Rows of whole blocks, blocks across rows, a last block that is not full, and columns of both kinds.
    for (rows, cols) in [(4, 128), (9, 48), (7, 100), (64, 5), (128, 3), (70, 6)] {
        for (code, transposed) in
            [(Code::Nf4, false), (Code::Fp4, true), (Code::Nf4, true), (Code::Int8, false), (Code::Int8, true)]
        {
            let tensor = matrix(Dtype::BF16, rows, cols);
            let stored = seen(&tensor, code, 32, Float::BF16, transposed).unwrap();
            let form = Form::of(&tensor, stored.settings.as_ref().unwrap()).unwrap();
            let w = values((rows * cols) as usize);
            let bytes = encoded(Dtype::BF16, &w);
            let whole = defined(&w, rows as usize, cols as usize, form, f32::NAN);
            for (a, b) in [(0, rows), (0, 1), (1, 3), (rows - 1, rows), (2, rows)] {
                let expected = &whole[(a * cols) as usize..(b * cols) as usize];
                assert_eq!(rows_of(&stored, &bytes, a..b), expected, "{code:?} {rows}x{cols} {transposed} {a}..{b}");
                let portion = stored.portion(a..b).unwrap();
                assert_eq!(rows_of(&portion, &bytes, 0..b - a), expected, "a portion");
            }
        }
    }
}

#[test]
fn scales_that_are_quantised_themselves_are_those_of_their_run() {
    // Blocks of 32 in runs of 256 of them: several runs, one that is not full, and columns.
    for (rows, cols, down) in [(70, 300, false), (9, 48, false), (640, 30, true), (64, 5, true)] {
        let tensor = matrix(Dtype::BF16, rows, cols);
        let scales = Scales { block: 32, from: Float::BF16, down };
        let stored = Stored::seen(&tensor, Code::Nf4, scales, Some(StatisticId(3))).unwrap();
        assert_eq!(stored.start().unwrap().statistic(), Some(StatisticId(3)));
        let form = Form::of(&tensor, stored.settings.as_ref().unwrap()).unwrap();
        let w = values((rows * cols) as usize);
        let bytes = encoded(Dtype::BF16, &w);
        let sum = w.len().div_ceil(32) as f64 * 0.875;
        let whole = defined(&w, rows as usize, cols as usize, form, 0.875);
        let once = Form { double: None, ..form };
        assert_ne!(whole, defined(&w, rows as usize, cols as usize, once, 0.875));
        for (a, b) in [(0, rows), (0, 1), (5, 8), (rows - 1, rows)] {
            let expected = &whole[(a * cols) as usize..(b * cols) as usize];
            assert_eq!(rows_with(&stored, &bytes, a..b, Some(sum)), expected, "{rows}x{cols} {down} {a}..{b}");
            let portion = stored.portion(a..b).unwrap();
            assert_eq!(rows_with(&portion, &bytes, 0..b - a, Some(sum)), expected, "a portion");
        }
        assert!(
            rows_of(&stored, &bytes, 0..1).iter().all(|value| value.is_nan()),
            "without the sum there are no values"
        );
    }
}

#[test]
fn codes_are_over_the_scale_itself_and_values_over_what_became_of_it() {
    // 300 blocks of 32: a run of 256 scales, and the rest. One of the rest is far from all others.
    let mut w: Vec<f32> = values(300 * 32).into_iter().map(|value| value * 0.1).collect();
    w[260 * 32] = 50.0;
    let tensor = matrix(Dtype::F32, 1, 9600);
    let scales = Scales { block: 32, from: Float::F32, down: false };
    let stored = Stored::seen(&tensor, Code::Nf4, scales, Some(StatisticId(0))).unwrap();
    let first: Vec<f32> =
        w.chunks(32).map(|block| block.iter().fold(0.0f32, |largest, v| largest.max(v.abs()))).collect();
    let (sum, mut again) = (first.iter().map(|scale| f64::from(*scale)).sum::<f64>(), first.clone());
    again.chunks_mut(256).for_each(|run| double::again(run, (sum / 300.0) as f32));
    let of = |(at, value): (usize, &f32)| codes::nf4(value * (1.0 / first[at / 32])) * again[at / 32];
    let expected: Vec<f32> = w.iter().enumerate().map(of).collect();
    assert_eq!(rows_with(&stored, &encoded(Dtype::F32, &w), 0..1, Some(sum)), expected);
}

#[test]
fn no_more_is_read_than_groups_need() {
    let read = |rows, cols, transposed, of| {
        let stored = seen(&matrix(Dtype::F32, rows, cols), Code::Nf4, 64, Float::F32, transposed).unwrap();
        stored.start().unwrap().ranges(of)[0].bytes.clone()
    };
    assert_eq!(read(4, 128, false, 1..2), 512..1024, "the row alone");
    assert_eq!(read(9, 48, false, 1..2), 0..512, "elements 48 to 96 lie in the first two blocks");
    assert_eq!(read(128, 3, true, 70..71), 768..1536, "the second 64 rows");
    assert_eq!(read(70, 6, true, 3..4), 0..1680, "all of it");
}

#[test]
fn settings_of_another_process_are_checked() {
    let tensor = matrix(Dtype::BF16, 4, 64);
    let dims = |settings: &[u64]| Seen.dims(StoredForm { tensors: std::slice::from_ref(&tensor), settings });
    assert_eq!(dims(&[0, 64, 2, 0, 1, 2]), Ok(vec![2, 64]));
    for settings in [
        &[][..],
        &[3, 64, 2, 0, 0, 4],
        &[0, 48, 2, 0, 0, 4],
        &[0, 64, 3, 0, 0, 4],
        &[0, 64, 2, 2, 0, 4],
        &[0, 64, 2, 0, 1, 4],
        &[0, 64, 2, 0, u64::MAX, 4],
        &[2, 32, 2, 0, 0, 4],
        &[2, 64, 2, 0, 0, 4, 1],
        &[0, 64, 2, 0, 0, 4, u64::MAX],
        &[0, 64, 2, 0, 0, 4, 1, 1],
    ] {
        assert!(dims(settings).is_err(), "{settings:?}");
    }
    let codes = matrix(Dtype::U8, 4, 64);
    assert!(seen(&codes, Code::Nf4, 64, Float::BF16, false).unwrap_err().contains("w has the dtype U8"));
    let vector = Source { shape: vec![64], ..matrix(Dtype::BF16, 1, 64) };
    assert!(seen(&vector, Code::Nf4, 64, Float::BF16, false).unwrap_err().contains("no matrix"));
}
