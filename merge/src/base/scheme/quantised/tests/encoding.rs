//! What holds of every scheme that encodes values again.

use proptest::prelude::*;

use super::super::{fp8, mxfp4, mxfp4_packed, packed};
use super::tensor;
use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::{Rule, Scheme, Whole};
use crate::base::scheme::recode::{MADE, Recoder, Rows};
use crate::base::scheme::stored::{Start, Stored};
use crate::inventory::Source;
use crate::tensor::Dtype;
use crate::tensor::float::{self, Float};

fn floats(float: Float, bytes: &[u8], out: &mut [f32]) {
    float::decode(float.dtype(), bytes, out);
}

/// A stored parameter with its bytes, tensor by tensor.
struct Case {
    name: &'static str,
    start: Start,
    rule: Rule,
    bytes: Vec<Vec<u8>>,
}

fn case(
    name: &'static str,
    (scheme, settings): (&'static dyn Scheme, &[u64]),
    rule: u8,
    tensors: Vec<(Source, Vec<u8>)>,
) -> Case {
    let (tensors, bytes) = tensors.into_iter().unzip();
    let stored = Stored { scheme, tensors, settings: Ok(settings.to_vec()) };
    Case { name, start: stored.start().unwrap(), rule: Rule(rule), bytes }
}

/// Numbers from 0 to below `below`, of a seed.
fn random(seed: u64, count: usize, below: u64) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(seed: u64, count: usize) -> Vec<u8> {
    random(seed, count, 256).into_iter().map(|byte| byte as u8).collect()
}

fn f32s(seed: u64, count: usize) -> Vec<u8> {
    random(seed, count, 1000).into_iter().flat_map(|n| (0.001 * (n + 1) as f32).to_le_bytes()).collect()
}

/// Every form, with random codes and scales.
fn cases(seed: u64) -> Vec<Case> {
    use Dtype::{BF16, F8_E4M3, F32, I32, U8};
    let e4m3 =
        |count| bytes(seed, count).into_iter().map(|code| if code & 0x7F == 0x7F { code - 1 } else { code }).collect();
    let powers = |count: usize| random(seed + 1, count, 8).into_iter().map(|n| 120 + n as u8).collect::<Vec<_>>();
    let bf16s = |count| f32s(seed + 2, count).as_chunks::<4>().0.iter().flat_map(|b| [b[2], b[3]]).collect::<Vec<_>>();
    let order = |count: usize| (0..count).flat_map(|i| ((i * 7 % 3) as u32).to_le_bytes()).collect::<Vec<_>>();
    let fp8 = |rows: u64, cols: u64, scale: Source, scales: Vec<u8>| {
        vec![(tensor("w", F8_E4M3, &[rows, cols]), e4m3((rows * cols) as usize)), (scale, scales)]
    };
    let blocks =
        |shape: &[u64]| fp8(7, 10, tensor("s", F32, shape), f32s(seed, shape.iter().product::<u64>() as usize));
    vec![
        case("blocks", (&fp8::Fp8, &[2, 4, 7]), 0, blocks(&[4, 3])),
        case("blocks of transformers", (&fp8::Fp8, &[3, 4, 7]), 1, blocks(&[3, 3])),
        case("blocks with powers of two", (&fp8::Fp8, &[2, 4, 7]), 2, blocks(&[4, 3])),
        case("rows", (&fp8::Fp8, &[1, 10, 7]), 0, fp8(7, 10, tensor("s", BF16, &[7, 1]), bf16s(7))),
        case("one scale", (&fp8::Fp8, &[7, 10, 7]), 0, blocks(&[])),
        case("microscaling", (&fp8::Fp8, &[1, 32, 3]), 4, fp8(3, 64, tensor("s", U8, &[3, 2]), powers(6))),
        case("microscaling of ModelOpt", (&fp8::Fp8, &[1, 32, 3]), 3, fp8(3, 64, tensor("s", U8, &[3, 2]), powers(6))),
        case(
            "matrices that are stacked",
            (&fp8::Fp8, &[2, 4, 3]),
            0,
            fp8(6, 5, tensor("s", F32, &[4, 2]), f32s(seed, 8)),
        ),
        case(
            "gpt-oss",
            (&mxfp4::Mxfp4, &[1]),
            0,
            vec![(tensor("b", U8, &[3, 2, 2, 16]), bytes(seed, 192)), (tensor("s", U8, &[3, 2, 2]), powers(12))],
        ),
        case(
            "mxfp4",
            (&mxfp4_packed::Mxfp4Packed, &[]),
            0,
            vec![
                (tensor("m.weight_packed", U8, &[4, 32]), bytes(seed, 128)),
                (tensor("m.weight_scale", U8, &[4, 2]), powers(8)),
            ],
        ),
        case(
            "int4",
            (&packed::Packed, &[5, 20, 4, 8]),
            0,
            vec![
                (tensor("m.weight_packed", I32, &[5, 3]), bytes(seed, 60)),
                (tensor("m.weight_scale", BF16, &[5, 3]), bf16s(15)),
            ],
        ),
        case(
            "int4 in an order",
            (&packed::Packed, &[5, 20, 4, 8]),
            0,
            vec![
                (tensor("m.weight_packed", I32, &[5, 3]), bytes(seed, 60)),
                (tensor("m.weight_scale", F32, &[5, 3]), f32s(seed, 15)),
                (tensor("m.weight_g_idx", I32, &[20]), order(20)),
            ],
        ),
        case(
            "int8",
            (&packed::Packed, &[5, 12, 8, 12]),
            0,
            vec![
                (tensor("m.weight_packed", I32, &[5, 3]), bytes(seed, 60)),
                (tensor("m.weight_scale", F32, &[5, 1]), f32s(seed, 5)),
            ],
        ),
        case(
            "int2",
            (&packed::Packed, &[3, 16, 2, 4]),
            0,
            vec![
                (tensor("m.weight_packed", I32, &[3, 1]), bytes(seed, 12)),
                (tensor("m.weight_scale", F32, &[3, 4]), f32s(seed, 12)),
            ],
        ),
    ]
}

impl Case {
    fn stored(&self, rows: &std::ops::Range<u64>) -> Vec<Vec<u8>> {
        let place = |source: &Source| self.start.tensors().iter().position(|own| own.name == source.name).unwrap();
        let of = |(source, bytes): (&Source, std::ops::Range<u64>)| {
            self.bytes[place(source)][bytes.start as usize..bytes.end as usize].to_vec()
        };
        self.start.stretches(rows.clone()).map(of).collect()
    }

    fn before(&self) -> Vec<f32> {
        let (rows, cols) = self.start.matrix();
        let stored = self.stored(&(0..rows));
        let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
        let mut values = vec![0.0; (rows * cols) as usize];
        self.start.decode(0..rows, &stored, &floats, &mut values);
        values
    }

    /// Codes and scales of some rows.
    fn encode(&self, rows: std::ops::Range<u64>, after: &[f32]) -> [Vec<u8>; MADE] {
        let (before, cols) = (self.before(), self.start.matrix().1);
        let largest = after.iter().fold(0.0f32, |a, b| a.max(b.abs()));
        let recoder = Recoder::of(&self.start, self.rule).unwrap();
        let whole = recoder.has_one_scale().then(|| Whole { largest, changed: before != after });
        let values = (rows.start * cols) as usize..(rows.end * cols) as usize;
        let stored = self.stored(&rows);
        let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
        let (before, after) = (&before[values.clone()], &after[values]);
        recoder.encode(&Rows { rows: &rows, before, after, stored: &stored, whole }, &floats)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn what_does_not_change_keeps_its_bytes(seed in 1..1_000_000u64) {
        for case in cases(seed) {
            let [codes, scales] = case.encode(0..case.start.matrix().0, &case.before());
            prop_assert!(codes == case.bytes[0] && scales == case.bytes[1], "{}", case.name);
        }
    }

    #[test]
    fn any_run_of_units_gives_the_same_bytes(seed in 1..1_000_000u64, cut in 0..20u64, changed in prop::collection::vec((0..10_000usize, -1.0..1.0f32), 1..6)) {
        for case in cases(seed) {
            let mut after = case.before();
            let count = after.len();
            changed.iter().for_each(|(at, delta)| after[at % count] += delta);
            let (rows, recoder) = (case.start.matrix().0, Recoder::of(&case.start, case.rule).unwrap());
            let all = case.encode(0..rows, &after);
            let cut = (cut * recoder.unit()).min(rows);
            for run in [0..cut, cut..rows].into_iter().filter(|run| !run.is_empty()) {
                let own = case.encode(run.clone(), &after);
                for (tensor, (own, all)) in own.iter().zip(&all).enumerate() {
                    let bytes = recoder.bytes_of(tensor, &run);
                    prop_assert_eq!(own, &all[bytes.start as usize..bytes.end as usize], "{} {:?}", case.name, run);
                    // Any bytes of the run are found again in rows that hold them.
                    for at in bytes {
                        let found = recoder.rows_for(tensor, &(at..at + 1));
                        let made = recoder.bytes_of(tensor, &found);
                        prop_assert!(made.contains(&at), "{}: byte {} is not made by {:?}", case.name, at, found);
                        prop_assert!(found.start.is_multiple_of(recoder.unit()), "{}", case.name);
                    }
                }
            }
        }
    }

    #[test]
    fn every_value_is_half_a_step_away_at_most(seed in 1..1_000_000u64, delta in prop::collection::vec(-1.0..1.0f32, 200)) {
        for case in cases(seed) {
            let mut after = case.before();
            for (value, delta) in after.iter_mut().zip(delta.iter().cycle()) {
                *value += delta * 0.3;
            }
            let rows = 0..case.start.matrix().0;
            let [codes, scales] = case.encode(rows.clone(), &after);
            let stored = case.stored(&rows);
            let new = [codes.as_slice(), &scales].into_iter().chain(stored.iter().skip(MADE).map(Vec::as_slice));
            let (values, steps) = Recoder::of(&case.start, case.rule).unwrap().judged(&rows, &new.collect::<Vec<_>>(), &floats);
            for (at, (value, (wanted, step))) in values.iter().zip(after.iter().zip(&steps)).enumerate() {
                let most = step.abs() * 1.001 + 1e-6;
                prop_assert!((value - wanted).abs() <= most, "{} {}: {} for {}, half a step is {}", case.name, at, value, wanted, step);
            }
        }
    }
}

/// A change in one block leaves the bytes of all others.
#[test]
fn a_change_in_one_block_leaves_all_others() {
    for case in cases(5) {
        let mut after = case.before();
        after[0] += 1000.0;
        let [codes, scales] = case.encode(0..case.start.matrix().0, &after);
        let moved = |new: &[u8], old: &[u8]| new.iter().zip(old).filter(|(a, b)| a != b).count();
        let (all, some) = (codes.len(), moved(&codes, &case.bytes[0]));
        assert!(some > 0 && moved(&scales, &case.bytes[1]) > 0, "{}", case.name);
        assert!(some <= if case.name == "one scale" { all } else { all / 2 }, "{}: {some} of {all}", case.name);
    }
}

#[test]
fn a_rule_follows_from_the_method_and_the_scales() {
    let of = |dtype: Dtype, scale: Dtype, said: serde_json::Value| {
        let tensors = vec![tensor("w", dtype, &[4, 64]), tensor("s", scale, &[4, 2])];
        let stored = Stored { scheme: &fp8::Fp8, tensors, settings: Ok(vec![1, 32, 4]) };
        stored.rule(&Quantisation::of(&serde_json::json!({"quantization_config": said})))
    };
    let named = |method: &str| serde_json::json!({"quant_method": method});
    use Dtype::{BF16, F8_E4M3, F8_E5M2, F32, U8};
    assert_eq!(of(F8_E4M3, F32, named("fp8")), Ok(Rule(1)));
    assert_eq!(of(F8_E4M3, BF16, named("fp8")), Ok(Rule(0)));
    assert_eq!(of(F8_E4M3, F32, serde_json::json!({"quant_method": "fp8", "scale_fmt": "ue8m0"})), Ok(Rule(2)));
    assert_eq!(of(F8_E4M3, U8, named("fp8")), Ok(Rule(2)));
    assert_eq!(of(F8_E4M3, BF16, named("compressed-tensors")), Ok(Rule(0)));
    assert_eq!(of(F8_E4M3, U8, named("compressed-tensors")), Ok(Rule(4)));
    assert_eq!(of(F8_E4M3, U8, named("modelopt")), Ok(Rule(3)));
    assert_eq!(of(F8_E4M3, F32, named("fbgemm_fp8")), Ok(Rule(0)));
    assert!(of(F8_E5M2, F32, named("fp8")).unwrap_err().contains("E5M2"));
    assert!(of(F8_E4M3, F32, named("quark")).unwrap_err().contains("quark"));
    assert!(of(F8_E4M3, F32, serde_json::json!(null)).unwrap_err().contains("no quantization_config"));
}

/// The formulas, worked out by hand for one block each.
#[test]
fn codes_and_scales_are_those_of_the_published_formulas() {
    let one = |name: &str, seed: u64| cases(seed).into_iter().find(|case| case.name == name).unwrap();
    // A row of 10: the largest magnitude is 7, so the scale is 7 / 448 = 2^-6 and a code is that of 64 x.
    let case = one("rows", 1);
    let mut after = case.before();
    after[..10].copy_from_slice(&[7.0, -3.5, 0.0, 1.0, 1.0 / 64.0, 0.03, -0.0, 6.9, 2.0, 0.5]);
    let [codes, scales] = case.encode(0..7, &after);
    assert_eq!(scales[..2], [0x80, 0x3C], "2^-6 in bf16");
    assert_eq!(codes[..5], [0x7E, 0xF6, 0x00, 0x68, 0x38]);
    // A group of 8 in INT4: 7.5 / 7.5 = 1; 7.5 is cut off at 7, -7.5 goes to the even -8, 2.5 to 2, 3.5 to 4.
    let case = one("int4", 1);
    let mut after = case.before();
    after[..8].copy_from_slice(&[7.5, -7.5, 2.5, 3.5, 0.4, -0.6, 0.0, 1.0]);
    let [codes, scales] = case.encode(0..5, &after);
    assert_eq!(scales[..2], [0x80, 0x3F]);
    assert_eq!(codes[..4], [0x0F, 0xCA, 0x78, 0x98]);
    // MXFP4: 7 is 1.75 x 4, so compressed-tensors takes the next power, 8 / 4 = 2; gpt-oss the one above 7 / 6, 2 as well.
    // 6 is 1.5 x 4: 4 / 4 = 1; for gpt-oss 6 / 6 = 1.
    // Each with the scale and the code of its largest value.
    for (largest, ct, oss) in
        [(7.0, (128, 6), (128, 6)), (6.0, (127, 7), (127, 7)), (6.5, (127, 7), (128, 5)), (4.5, (127, 6), (127, 6))]
    {
        let case = one("mxfp4", 1);
        let mut after = case.before();
        after[..32].fill(0.0);
        (after[0], after[1]) = (largest, -1.0);
        let [codes, scales] = case.encode(0..4, &after);
        assert_eq!((scales[0], codes[0] & 15), ct, "{largest}");
        assert_eq!(codes[0] >> 4, if ct.0 == 127 { 10 } else { 9 }, "-1 beside {largest}");
        let case = one("gpt-oss", 1);
        let mut after = case.before();
        (0..32).for_each(|input| after[input * 2] = 0.0);
        after[0] = largest;
        let [codes, scales] = case.encode(0..case.start.matrix().0, &after);
        assert_eq!((scales[0], codes[0] & 7), oss, "{largest}");
    }
}
