//! Codes and scales: the pipeline gives the bytes of the definition, and the statistics that come before them.

use std::collections::HashMap;

use proptest::prelude::*;
use shardfuse_merge::Dtype;
use shardfuse_merge::base::scheme::claim::Rule;
use shardfuse_merge::base::scheme::recode::Recoder;
use shardfuse_merge::inventory::{ObjectId, Source};
use shardfuse_merge::recipe::reference::{self, InMemory};
use shardfuse_merge::recipe::{Fuse, Recipe, Requantise, Start, bytes, statistics};
use shardfuse_merge::statistic::{self, Statistic, StatisticId, numbers};
use shardfuse_merge::tensor::float::{self, Float};

use super::actions::{Action, terms};
use super::case::Case;
use super::reduce;
use crate::pipeline::tests::Bench;

/// How a parameter is stored: scheme, settings, rule, and the tensors by dtype and shape.
#[derive(Debug, Clone)]
struct Form {
    scheme: &'static str,
    settings: Vec<u64>,
    rule: Rule,
    shape: (u64, u64),
    tensors: Vec<(&'static str, Dtype, Vec<u64>)>,
}

fn fp8(rows: u64, cols: u64, block: [u64; 2], rule: u8) -> Form {
    let scale = vec![rows.div_ceil(block[0]), cols.div_ceil(block[1])];
    let tensors = vec![("w", Dtype::F8_E4M3, vec![rows, cols]), ("w_scale", Dtype::F32, scale)];
    Form { scheme: "fp8", settings: vec![block[0], block[1], rows], rule: Rule(rule), shape: (rows, cols), tensors }
}

fn forms() -> impl Strategy<Value = Form> {
    let sides = || (1..40u64, 1..80u64);
    prop_oneof![
        (sides(), 1..9u64, 1..30u64, 0..3u8).prop_map(|((rows, cols), high, wide, rule)| fp8(
            rows,
            cols,
            [high, wide],
            rule
        )),
        sides().prop_map(|(rows, cols)| fp8(rows, cols, [rows, cols], 0)),
        (1..40u64, 1..4u64).prop_map(|(rows, groups)| Form {
            scheme: "compressed-tensors pack-quantized",
            settings: vec![rows, groups * 16, 4, 16],
            rule: Rule(0),
            shape: (rows, groups * 16),
            tensors: vec![
                ("w.weight_packed", Dtype::I32, vec![rows, groups * 2]),
                ("w.weight_scale", Dtype::BF16, vec![rows, groups]),
            ],
        }),
        (1..5u64, 1..20u64, 1..3u64).prop_map(|(experts, outputs, groups)| Form {
            scheme: "mxfp4",
            settings: vec![1],
            rule: Rule(0),
            shape: (experts * groups * 32, outputs),
            tensors: vec![
                ("w_blocks", Dtype::U8, vec![experts, outputs, groups, 16]),
                ("w_scales", Dtype::U8, vec![experts, outputs, groups]),
            ],
        }),
    ]
}

/// Stores a tensor of a form: codes of any value, scales of sensible ones.
fn store(bench: &mut Bench, (name, dtype, shape): &(&'static str, Dtype, Vec<u64>)) -> Source {
    let count: u64 = shape.iter().product();
    if Float::of(*dtype).is_some() {
        let source = bench.source(name, *dtype, shape);
        let at = source.offset as usize;
        let values: Vec<f32> = (0..count).map(|i| 0.01 + (i % 7) as f32 * 0.02).collect();
        float::encode(*dtype, &values, &mut bench.data[at..at + source.bytes() as usize]);
        return source;
    }
    let source = Source {
        name: (*name).into(),
        object: ObjectId(0),
        offset: bench.data.len() as u64,
        dtype: *dtype,
        shape: shape.clone(),
    };
    let byte = |i: u64| match *name {
        "w_scales" => 118 + (i % 5) as u8,
        // 0x7F and 0xFF are no numbers in FP8.
        _ => (i * 37 % 127) as u8 | ((i / 5 % 2) as u8) << 7,
    };
    bench.data.extend((0..source.bytes()).map(byte).map(|byte| if byte & 0x7F == 0x7F { 0 } else { byte }));
    source
}

/// A recipe on a parameter that is stored so, and its statistics.
fn requantise(case: &mut Case, form: &Form, actions: &[Action]) -> Requantise {
    let plain = case.fuse(Dtype::BF16, actions);
    let tensors: Vec<Source> = form.tensors.iter().map(|tensor| store(&mut case.bench, tensor)).collect();
    let start: Start = bytes::read(&bytes::write(&(form.scheme, &tensors, &form.settings))).unwrap();
    assert_eq!(start.matrix(), form.shape);
    let fuse = Fuse { start: start.clone(), ..plain };
    let one_scale = Recoder::of(&start, form.rule).unwrap().has_one_scale();
    let mut add = |needs: Vec<StatisticId>, kind| {
        let id = StatisticId(case.statistics.len() as u32);
        case.statistics.push(Statistic {
            tensor: "w".into(),
            start: start.clone(),
            steps: fuse.steps.clone(),
            needs,
            kind,
        });
        id
    };
    let range = one_scale.then(|| add(Vec::new(), statistic::Kind::Range));
    add(statistics(&fuse.steps).chain(range).collect(), statistic::Kind::Survival { rule: form.rule, range });
    Requantise { fuse, tensor: 0, rule: form.rule, range }
}

/// What the definition reads.
fn tensors(case: &Case, recipe: &Requantise) -> InMemory {
    let start = &recipe.fuse.start;
    let of = |source: &Source| case.bench.data[source.offset as usize..][..source.bytes() as usize].to_vec();
    let bytes: HashMap<String, Vec<u8>> = start.tensors().iter().map(|t| (t.name.clone(), of(t))).collect();
    let (rows, cols) = start.matrix();
    let stored: Vec<Vec<u8>> =
        start.stretches(0..rows).map(|(t, at)| bytes[&t.name][at.start as usize..at.end as usize].to_vec()).collect();
    let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
    let mut values = vec![0.0; (rows * cols) as usize];
    start.decode(0..rows, &stored, &|f, b, o| float::decode(f.dtype(), b, o), &mut values);
    let mut known = case.tensors_beside(&recipe.fuse);
    known.values.insert(start.name().to_owned(), values);
    InMemory { bytes, ..known }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn codes_and_scales_are_those_of_the_definition_however_they_are_cut(
        form in forms(),
        added in prop::collection::vec(terms().prop_map(Action::Add), 1..3),
    ) {
        let mut case = Case::new(form.shape);
        let recipe = requantise(&mut case, &form, &added);
        let known = tensors(&case, &recipe);
        let expected: Vec<Vec<u8>> = (0..2)
            .map(|tensor| reference::requantise(&Requantise { tensor, ..recipe.clone() }, &known).unwrap())
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (memory, part_size, threads) in [(1 << 30, 1 << 20, 3), (1 << 30, 1 << 10, 0), (64 << 10, 1 << 10, 2)] {
            let values = runtime.block_on(reduce(&case, memory));
            for (statistic, (_, value)) in case.statistics.iter().zip(&values) {
                let defined = reference::statistic(statistic, &known).unwrap();
                prop_assert_eq!(numbers(value), numbers(&defined), "{:?} with {} bytes", statistic.kind, memory);
            }
            case.bench.statistics = values.into_iter().map(|(value, _)| value).collect();
            let (begin, placed) = (case.bench.at, case.bench.tensors.len());
            for tensor in 0..2u8 {
                let dtype = recipe.fuse.start.tensors()[usize::from(tensor)].dtype;
                case.bench.place("w", dtype, Recipe::Requantise(Box::new(Requantise { tensor, ..recipe.clone() })));
            }
            let made = runtime.block_on(case.bench.make_on(threads, memory, part_size));
            prop_assert!(made[begin as usize..] == expected.concat(), "{form:?}, {memory} bytes, parts of {part_size}, {threads} threads");
            case.bench.tensors.truncate(placed);
            case.bench.at = begin;
        }
    }
}
