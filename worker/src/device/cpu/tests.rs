//! Every set that this CPU can run, against the definition, bit by bit.

use proptest::prelude::*;
use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::arithmetic::{self, Arithmetic};
use shardfuse_merge::recipe::op::norm;
use shardfuse_merge::statistic::column_squares;
use shardfuse_merge::tensor::float::{self, Float};

use super::Kernels;

const DTYPES: [(Dtype, usize); 3] = [(Dtype::F32, 4), (Dtype::F16, 2), (Dtype::BF16, 2)];

/// Values from a seed: cheap enough for a rank of 2048, where a strategy an element is not.
struct Stream(u64);

impl Stream {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn values(&mut self, len: usize, kind: Values) -> Vec<f32> {
        (0..len).map(|_| kind.pick(self.next())).collect()
    }
}

/// What a slice is filled with.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Weights as models have them.
    Ordinary,
    /// Mostly ordinary, with zeros of both signs, subnormals, and values whose sums cancel.
    Awkward,
    /// Exponents so low that products and sums are subnormal.
    Tiny,
    /// Any finite bit pattern: sums overflow.
    Finite,
    /// Any bit pattern at all.
    Any,
}

impl Values {
    fn pick(self, random: u64) -> f32 {
        let (bits, choice) = (random as u32, random >> 32);
        let ordinary = (bits as i32 as f32) * 2.0_f32.powi(-33);
        match self {
            Values::Ordinary => ordinary,
            Values::Awkward => match choice % 8 {
                0 => 0.0,
                1 => -0.0,
                2 => f32::from_bits(bits & 0x807F_FFFF),
                3 => ordinary * 1e6,
                _ => ordinary,
            },
            Values::Tiny => f32::from_bits((bits & 0x807F_FFFF) | (0x1E00_0000 + ((choice as u32 % 8) << 23))),
            Values::Finite if bits & 0x7F80_0000 == 0x7F80_0000 => ordinary,
            Values::Finite | Values::Any => f32::from_bits(bits),
        }
    }
}

fn kinds() -> impl Strategy<Value = Values> {
    prop_oneof![
        4 => Just(Values::Ordinary),
        4 => Just(Values::Awkward),
        2 => Just(Values::Tiny),
        1 => Just(Values::Finite),
        1 => Just(Values::Any),
    ]
}

/// Equal bits; any NaN equals any other, since which operand's payload survives is not part of the arithmetic.
fn same(name: &str, got: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let equal = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
        prop_assert!(equal, "{}: element {} is {:e}, expected {:e}", name, i, got, expected);
    }
    Ok(())
}

fn check_low_rank(rows: usize, cols: usize, rank: usize, kind: Values, seed: u64) -> Result<(), TestCaseError> {
    let mut stream = Stream(seed);
    let w = stream.values(rows * cols, kind);
    let left = stream.values(rows * rank, kind);
    let right = stream.values(rank * cols, kind);
    let scale = if seed.is_multiple_of(5) { -0.0 } else { kind.pick(stream.next()) };
    let mut expected = w.clone();
    arithmetic::low_rank(&mut expected, cols, &left, &right, rank, scale);
    for kernels in Kernels::available() {
        let mut got = w.clone();
        kernels.low_rank(&mut got, &left, &kernels.pack(&right, rank, cols), scale);
        same(kernels.name(), &got, &expected)?;
    }
    Ok(())
}

/// Offsets, so that neither the bytes nor the floats are aligned.
fn check_slices(len: usize, offset: usize, kind: Values, seed: u64) -> Result<(), TestCaseError> {
    let mut stream = Stream(seed);
    let values = &stream.values(len + offset, kind)[offset..];
    let other = &stream.values(len + offset, kind)[offset..];
    let scale = kind.pick(stream.next());
    for kernels in Kernels::available() {
        let name = kernels.name();
        prop_assert_eq!(kernels.all_finite(values), arithmetic::all_finite(values));
        prop_assert_eq!(kernels.all_zero(values), arithmetic::all_zero(values));
        let (got, expected) = (kernels.row_squares(values), norm::row_squares(values));
        prop_assert!(got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan()), "{}", name);

        let (mut got, mut expected) = (values.to_vec(), values.to_vec());
        kernels.add_scaled(&mut got, other, scale);
        arithmetic::add_scaled(&mut expected, other, scale);
        same(name, &got, &expected)?;
        kernels.add_product(&mut got, values, other, scale);
        arithmetic::add_product(&mut expected, values, other, scale);
        same(name, &got, &expected)?;
        kernels.scale_row(&mut got, scale);
        arithmetic::scale_row(&mut expected, scale);
        same(name, &got, &expected)?;

        for to in [Float::F32, Float::F16, Float::BF16] {
            // Longer than what is rounded at a time.
            let values = values.repeat(1 + 2 * super::ROUNDED / len.max(1));
            let (mut got, mut expected) = (values.clone(), values.clone());
            let bad = kernels.round(&mut got, to);
            prop_assert_eq!(bad, arithmetic::round(&mut expected, to), "{} {:?}", name, to);
            match bad {
                None => same(name, &got, &expected)?,
                Some(at) => prop_assert!(got[at].to_bits() == values[at].to_bits(), "{} {:?}", name, to),
            }
        }
        for (dtype, size) in DTYPES {
            let (mut got, mut expected) = (vec![0; len * size + offset], vec![0; len * size + offset]);
            let bad = kernels.encode(dtype, values, &mut got[offset..]);
            prop_assert_eq!(bad, float::encode(dtype, values, &mut expected[offset..]), "{} {}", name, dtype);
            prop_assert_eq!(&got, &expected, "{} {}", name, dtype);
            // Any bytes decode, not only those that encoding makes.
            let bytes: Vec<u8> = (0..len * size + offset).map(|_| stream.next() as u8).collect();
            let (mut got, mut expected) = (vec![0.0; len + offset], vec![0.0; len + offset]);
            kernels.decode(dtype, &bytes[offset..], &mut got[offset..]);
            float::decode(dtype, &bytes[offset..], &mut expected[offset..]);
            prop_assert!(
                got.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits())),
                "{} {}",
                name,
                dtype
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn low_rank_is_the_definition(
        rows in 1..20_usize, cols in 1..80_usize, rank in 1..40_usize, kind in kinds(), seed: u64,
    ) {
        check_low_rank(rows, cols, rank, kind, seed)?;
    }

    #[test]
    fn slices_are_the_definition(len in 0..200_usize, offset in 0..8_usize, kind in kinds(), seed: u64) {
        check_slices(len, offset, kind, seed)?;
    }

    #[test]
    fn columns_are_the_definition(rows in 0..20_usize, cols in 1..70_usize, kind in kinds(), seed: u64) {
        let mut stream = Stream(seed);
        let tile = stream.values(rows * cols, kind);
        let gains = stream.values(cols, kind);
        let start: Vec<f64> = (0..cols).map(|_| (stream.next() >> 40) as f64 * 1e-9).collect();
        for kernels in Kernels::available() {
            let (mut got, mut expected) = (tile.clone(), tile.clone());
            kernels.scale_columns(&mut got, cols, &gains);
            arithmetic::scale_columns(&mut expected, cols, &gains);
            same(kernels.name(), &got, &expected)?;
            let (mut got, mut expected) = (start.clone(), start.clone());
            kernels.add_column_squares(&mut got, &tile);
            column_squares::add_column_squares(&mut expected, &tile);
            let equal = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            prop_assert!(got.iter().zip(&expected).all(equal), "{}", kernels.name());
        }
    }

    /// From stored bytes to stored bytes, over every pair of dtypes, with two adapters.
    #[test]
    fn a_merge_is_the_definition_from_bytes_to_bytes(
        rows in 1..10_usize, cols in 1..40_usize, ranks in [1..20_usize, 1..20_usize], seed: u64,
    ) {
        for ((from, from_size), (to, to_size)) in DTYPES.into_iter().flat_map(|a| DTYPES.map(|b| (a, b))) {
            let mut stream = Stream(seed);
            let mut stored = vec![0; rows * cols * from_size];
            float::encode(from, &stream.values(rows * cols, Values::Awkward), &mut stored);
            let factors = ranks.map(|rank| {
                (rank, stream.values(rows * rank, Values::Ordinary), stream.values(rank * cols, Values::Awkward))
            });
            let mut expected = vec![0; rows * cols * to_size];
            let mut w = vec![0.0; rows * cols];
            float::decode(from, &stored, &mut w);
            for (rank, left, right) in &factors {
                arithmetic::low_rank(&mut w, cols, left, right, *rank, 0.3);
            }
            let expected_bad = float::encode(to, &w, &mut expected);
            for kernels in Kernels::available() {
                let mut got = vec![0; rows * cols * to_size];
                kernels.decode(from, &stored, &mut w);
                for (rank, left, right) in &factors {
                    kernels.low_rank(&mut w, left, &kernels.pack(right, *rank, cols), 0.3);
                }
                prop_assert_eq!(kernels.encode(to, &w, &mut got), expected_bad, "{}", kernels.name());
                prop_assert_eq!(&got, &expected, "{} {} to {}", kernels.name(), from, to);
            }
        }
    }
}

/// Ranks around every place where a library, or a block of the sweep, might cut.
#[test]
fn the_rank_is_never_split() {
    for rank in [1, 2, 3, 7, 8, 63, 64, 65, 127, 255, 256, 257, 511, 512, 513, 1000, 1023, 1024, 1025, 2047, 2048] {
        for (rows, cols) in [(1, 1), (7, 17), (9, 83)] {
            check_low_rank(rows, cols, rank, Values::Awkward, rank as u64).unwrap();
        }
    }
}

/// Wide enough for several blocks of the packed factor, with one panel or a pair, a short one, or none at the end.
#[test]
fn blocks_join_without_a_seam() {
    for cols in [1024, 1025, 1040, 1056, 2047, 2048, 2080] {
        check_low_rank(13, cols, 64, Values::Awkward, cols as u64).unwrap();
    }
    check_low_rank(3, 130, 2048, Values::Ordinary, 1).unwrap();
}

/// How the rows are dealt to calls, and so to threads and workers, changes nothing.
#[test]
fn cutting_rows_changes_nothing() {
    let (rows, cols, rank) = (29, 50, 24);
    let mut stream = Stream(7);
    let w = stream.values(rows * cols, Values::Ordinary);
    let left = stream.values(rows * rank, Values::Ordinary);
    let right = stream.values(rank * cols, Values::Ordinary);
    for kernels in Kernels::available() {
        let packed = kernels.pack(&right, rank, cols);
        let mut whole = w.clone();
        kernels.low_rank(&mut whole, &left, &packed, 0.5);
        for cut in 1..rows {
            let mut parts = w.clone();
            for (w, left) in parts.chunks_mut(cut * cols).zip(left.chunks(cut * rank)) {
                kernels.low_rank(w, left, &packed, 0.5);
            }
            same(kernels.name(), &parts, &whole).unwrap();
        }
    }
}

/// Every fp16 there is, and a wide sample of fp32, in slices long enough for whole vectors.
#[test]
fn conversions_are_the_definition_for_every_half() {
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let singles: Vec<f32> = (0..=u32::MAX).step_by(4099).map(f32::from_bits).collect();
    for kernels in Kernels::available() {
        for dtype in [Dtype::F16, Dtype::BF16] {
            let (mut got, mut expected) = (vec![0.0; 1 << 16], vec![0.0; 1 << 16]);
            kernels.decode(dtype, &halves, &mut got);
            float::decode(dtype, &halves, &mut expected);
            assert!(got.iter().map(|v| v.to_bits()).eq(expected.iter().map(|v| v.to_bits())), "{dtype}");
            let (mut got, mut expected) = (vec![0; singles.len() * 2], vec![0; singles.len() * 2]);
            let bad = kernels.encode(dtype, &singles, &mut got);
            assert_eq!(bad, float::encode(dtype, &singles, &mut expected));
            assert!(got == expected, "{} {dtype}", kernels.name());
        }
    }
}

/// The one bad value is found wherever it stands in a vector, and also where only rounding makes it bad.
#[test]
fn encoding_names_the_first_bad_element() {
    for kernels in Kernels::available() {
        for (dtype, size) in DTYPES {
            let bad = match dtype {
                Dtype::F16 => 65520.0,
                Dtype::BF16 => f32::MAX,
                _ => f32::INFINITY,
            };
            for at in 0..70 {
                let mut values = [1.0; 71];
                values[at] = bad;
                values[70] = f32::NAN;
                let mut bytes = [0; 71 * 4];
                assert_eq!(kernels.encode(dtype, &values, &mut bytes[..71 * size]), Some(at));
                assert_eq!(kernels.encode(dtype, &values[..at], &mut bytes[..at * size]), None);
            }
        }
    }
}

#[test]
fn a_factor_without_rank_or_columns_is_no_work() {
    for kernels in Kernels::available() {
        let mut w = [1.0, -0.0];
        kernels.low_rank(&mut w, &[], &kernels.pack(&[], 0, 2), 2.0);
        assert_eq!(w.map(f32::to_bits), [1.0_f32, 0.0].map(f32::to_bits));
        kernels.low_rank(&mut [], &[], &kernels.pack(&[], 4, 0), 2.0);
        kernels.low_rank(&mut [], &[], &kernels.pack(&[1.0], 1, 1), 2.0);
    }
}

#[test]
fn the_sets_are_named_and_the_best_is_the_last() {
    let names: Vec<_> = Kernels::available().iter().map(Kernels::name).collect();
    assert_eq!(names[0], "scalar");
    assert_eq!(Kernels::best().name(), *names.last().unwrap());
}
