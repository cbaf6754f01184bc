//! A real card, or the stand-in driver, against the CPU's definition:
//!
//! ```text
//! cargo test --release -p shardfuse-worker --test gpu -- --ignored gpu --nocapture --test-threads 1
//! ```
//!
//! The binary that this builds needs nothing of the checkout: it runs on any x86-64 machine with a driver and the CUDA 12
//! libraries. `benches/gpu` measures speed.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use shardfuse_gpukit::{Job, KINDS, Kind, Shape};
use shardfuse_merge::recipe::exact;
use shardfuse_merge::tensor::float;
use shardfuse_merge::{Dtype, DtypeExt};
use shardfuse_worker::device::Limits;
use shardfuse_worker::device::cuda::{self, Gpu, Wrong};

/// Several tiles, a tensor smaller than one tile with odd sizes, and a high rank.
const SHAPES: [Shape; 3] = [
    Shape { rows: 1100, cols: 4096, rank: 16 },
    Shape { rows: 77, cols: 333, rank: 3 },
    Shape { rows: 150, cols: 1024, rank: 256 },
];
const DTYPES: [Dtype; 3] = [Dtype::BF16, Dtype::F16, Dtype::F32];

/// The first usable device. Opening it runs the self-test.
fn gpu() -> &'static Arc<Gpu> {
    static GPU: OnceLock<Arc<Gpu>> = OnceLock::new();
    GPU.get_or_init(|| {
        let limits = Limits { memory: 1 << 30, patience: Duration::from_secs(120) };
        let gpu = cuda::open(None, limits).unwrap_or_else(|why| panic!("no device: {why}")).swap_remove(0);
        println!("{}, class {}", gpu.label(), gpu.class());
        gpu
    })
}

fn all(job: &Job) -> Range<u64> {
    0..job.shape.rows as u64
}

/// The largest difference in ulp of the dtype, and the share of values that differ at all.
fn difference(dtype: Dtype, left: &[u8], right: &[u8]) -> (f64, f64) {
    let decoded = |bytes: &[u8]| {
        let mut values = vec![0.0; bytes.len() / float::width(dtype)];
        float::decode(dtype, bytes, &mut values);
        values
    };
    let (left, right) = (decoded(left), decoded(right));
    let ulps = left.iter().zip(&right).map(|(l, r)| exact::ulp_error(dtype, *l, f64::from(*r)));
    let (mut most, mut differ) = (0.0f64, 0usize);
    for ulp in ulps {
        most = most.max(ulp);
        differ += usize::from(ulp > 0.0);
    }
    (most, differ as f64 / left.len() as f64)
}

/// What two orders of summing may come to, in ulp of the output.
///
/// Before the last rounding the two differ by far less than an ulp of the weight, since a delta is small beside it and the
/// roundings of a sum do not all go one way; so each rounding to fp32 after a product can come out one apart, and one more
/// where the value lies in a lower binade. A gain is rounded, carries the difference of a norm, and multiplies. bf16 and
/// fp16 are coarser: a difference only shows where it crosses a border of rounding. Products in TF32 are found out
/// (`tf32_would_be_noticed`).
fn bound(kind: Kind, dtype: Dtype) -> f64 {
    match kind {
        _ if dtype != Dtype::F32 => 1.0,
        Kind::Lora | Kind::Transposed => 2.0,
        Kind::TwoLoras | Kind::DoraColumns => 4.0,
        Kind::DoraStanding => 6.0,
        Kind::DoraOriginal => 8.0,
    }
}

#[test]
fn tf32_would_be_noticed() {
    for (seed, (kind, shape)) in (1..).zip(KINDS.into_iter().flat_map(|k| SHAPES.into_iter().map(move |s| (k, s)))) {
        // As tall as is needed to see it.
        let shape = Shape { rows: 64, ..shape };
        let mut job = Job::new(kind, Dtype::F32, Dtype::F32, shape, seed);
        let exact = job.expected();
        job.shorten_factors(10);
        let (ulp, _) = difference(Dtype::F32, &job.expected(), &exact);
        assert!(ulp > bound(kind, Dtype::F32), "{kind:?}, {shape:?}: TF32 makes only {ulp} ulp");
    }
}

/// The table, and a bound on each figure in it. Over the stand-in driver, which multiplies in the CPU's order, all are 0.
#[test]
#[ignore = "needs a GPU, or the stand-in driver"]
fn gpu_differs_from_the_cpu_by_the_order_of_sums_and_no_more() {
    println!(
        "{:<14} {:<5} {:>16} {:>5} {:>9} {:>9} {:>9}",
        "kind", "dtype", "rows x cols", "rank", "max ulp", "bound", "differ"
    );
    for (seed, (kind, dtype, shape)) in (1..).zip(cases()) {
        let job = Job::new(kind, dtype, dtype, shape, seed);
        let out = job.run(gpu(), &job.bring(gpu()), all(&job)).expect("it is fused");
        let (ulp, share) = difference(dtype, &out, &job.expected());
        let (bound, size) = (bound(kind, dtype), format!("{} x {}", shape.rows, shape.cols));
        println!(
            "{:<14} {:<5} {size:>16} {:>5} {ulp:>9.1} {bound:>9.0} {:>8.3}%",
            format!("{kind:?}"),
            dtype.name(),
            shape.rank,
            share * 100.0
        );
        assert!(ulp <= bound, "{kind:?} in {dtype}, {shape:?}: {ulp} ulp, more than {bound}");
    }
}

fn cases() -> impl Iterator<Item = (Kind, Dtype, Shape)> {
    KINDS.into_iter().flat_map(|k| DTYPES.into_iter().flat_map(move |d| SHAPES.into_iter().map(move |s| (k, d, s))))
}

/// Bits depend on tensor and device class alone: not on which rows a part has, what else runs, or how often.
#[test]
#[ignore = "needs a GPU, or the stand-in driver"]
fn gpu_repeats_its_bits_however_rows_are_cut() {
    for kind in KINDS {
        let job = Job::new(kind, Dtype::BF16, Dtype::F32, SHAPES[0], 77);
        let rights = job.bring(gpu());
        let whole = job.run(gpu(), &rights, all(&job)).expect("it is fused");
        let row = job.shape.cols * float::width(job.to);
        let cuts = [0, 1, 63, 64, 500, 1023, 1024, 1025, 1099, 1100];
        for round in 0..3 {
            // All of them under way at the same time.
            let answers: Vec<_> = cuts.windows(2).map(|c| job.submit(gpu(), &rights, c[0]..c[1], Vec::new())).collect();
            for (cut, answer) in cuts.windows(2).zip(answers) {
                let out = futures::executor::block_on(gpu().answer(answer)).expect("it is fused");
                let same = out == whole[cut[0] as usize * row..cut[1] as usize * row];
                assert!(same, "{kind:?}, rows {cut:?}, round {round}: other bits than in one piece");
            }
        }
    }
}

/// Every finite value of the short dtypes, and every exponent of fp32.
#[test]
#[ignore = "needs a GPU, or the stand-in driver"]
fn gpu_converts_every_value_as_defined() {
    const COLS: usize = 1024;
    for from in DTYPES {
        let patterns: Vec<f32> = match from {
            Dtype::F32 => (0..1u32 << 17).map(|i| f32::from_bits(i << 15 | i.wrapping_mul(0x9E37) & 0x7fff)).collect(),
            _ => {
                let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
                let mut values = vec![0.0; 1 << 16];
                float::decode(from, &bytes, &mut values);
                values
            }
        };
        for to in DTYPES {
            // What overflows is refused, and another test's.
            let fits = |v: &f32| float::encode(to, &[*v], &mut vec![0; float::width(to)]).is_none();
            let mut values: Vec<f32> = patterns.iter().copied().filter(fits).collect();
            values.resize(values.len().next_multiple_of(COLS), 1.0);
            let job = Job::conversion(from, to, COLS, &values);
            let out = job.run(gpu(), &job.bring(gpu()), all(&job)).expect("it is converted");
            assert!(out == job.expected(), "{from} to {to}: other bits than the definition's");
        }
    }
}

/// The least row and column is named, whatever tile and thread it is in.
#[test]
#[ignore = "needs a GPU, or the stand-in driver"]
fn gpu_names_the_first_value_that_does_not_fit_and_a_row_without_a_norm() {
    let mut job = Job::new(Kind::Lora, Dtype::F32, Dtype::F16, SHAPES[0], 5);
    for (row, col, value) in [(1090, 7, f32::NAN), (1030, 4000, 1e6), (1030, 4001, f32::INFINITY)] {
        job.set(row, col, value);
    }
    let rights = job.bring(gpu());
    match job.run(gpu(), &rights, 1026..1100) {
        Err(Wrong::NonFinite { row: 1030, col: 4000, value }) => assert!((value - 1e6).abs() < 1.0, "{value}"),
        other => panic!("row 1030, column 4000 overflows fp16, not {other:?}"),
    }
    assert!(job.run(gpu(), &rights, 0..1026).is_ok(), "the rows before are as good as ever");

    let mut job = Job::new(Kind::DoraStanding, Dtype::BF16, Dtype::BF16, SHAPES[1], 6);
    job.clear(40);
    let rights = job.bring(gpu());
    match job.run(gpu(), &rights, 10..77) {
        Err(Wrong::Norm { step: 0, row: 40, norm }) => assert_eq!(norm, 0.0),
        other => panic!("row 40 has no norm, not {other:?}"),
    }
}
