//! A base as bitsandbytes showed it: the pipeline gives the values of the definition wherever rows are cut, and the sum of scales
//! that comes before them.

use proptest::prelude::*;
use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::reference::{self, InMemory};
use shardfuse_merge::recipe::{DoraNorm, Fuse, Recipe, Start, bytes, statistics};
use shardfuse_merge::statistic::scales::Scales;
use shardfuse_merge::statistic::{self, Statistic, StatisticId, numbers};
use shardfuse_merge::tensor::float::{self, Float};

use super::actions::{Action, Layout, Term, terms};
use super::case::Case;
use super::reduce;

/// How a weight is seen: type and size of blocks, whether they run down the columns, and whether scales are quantised themselves.
#[derive(Debug, Clone, Copy)]
struct Form {
    code: u64,
    block: u64,
    down: bool,
    double: bool,
}

fn forms() -> impl Strategy<Value = Form> {
    (0..2u64, prop_oneof![Just(32u64), Just(64), Just(512)], any::<bool>(), prop::bool::weighted(0.8))
        .prop_map(|(code, block, down, double)| Form { code, block, down, double })
}

/// A recipe on a weight that is seen so, and its statistics: first the sum of scales.
fn seen(case: &mut Case, form: Form, actions: &[Action]) -> Fuse {
    let (rows, cols) = case.shape;
    let weight = case.bench.source("seen", Dtype::BF16, &[rows, cols]);
    let id = form.double.then_some(StatisticId(0));
    if form.double {
        let scales = Scales { block: form.block, from: Float::BF16, down: form.down };
        case.statistics.push(Statistic {
            tensor: "w".into(),
            start: Start::plain(weight.clone()).unwrap(),
            steps: Vec::new(),
            needs: Vec::new(),
            kind: statistic::Kind::Scales(scales),
        });
    }
    let settings = [form.code, form.block, 2, u64::from(form.down), 0, rows];
    let settings: Vec<u64> = settings.into_iter().chain(id.map(|id| u64::from(id.0))).collect();
    let start: Start = bytes::read(&bytes::write(&("seen through bitsandbytes", vec![&weight], settings))).unwrap();
    assert_eq!((start.matrix(), start.statistic()), ((rows, cols), id));
    let fuse = Fuse { start: start.clone(), ..case.fuse(Dtype::BF16, actions) };
    for later in case.statistics.iter_mut().skip(usize::from(form.double)) {
        later.start = start.clone();
        later.needs = id.into_iter().chain(statistics(&later.steps)).collect();
    }
    fuse
}

/// What the definition reads: the values of the whole weight, decoded at once with the sum that the definition gives. And the sum.
fn tensors(case: &Case, fuse: &Fuse) -> (InMemory, Option<Vec<u8>>) {
    let weight = &fuse.start.tensors()[0];
    let stored = &case.bench.data[weight.offset as usize..][..weight.bytes() as usize];
    let mut known = case.tensors_beside(fuse);
    let (rows, cols) = fuse.start.matrix();
    let mut values = vec![0.0; (rows * cols) as usize];
    float::decode(weight.dtype, stored, &mut values);
    known.values.insert("seen".to_owned(), values.clone());
    let sum = fuse.start.statistic().map(|id| reference::statistic(&known.statistics[id.0 as usize], &known).unwrap());
    let read: Vec<&[u8]> = std::iter::once(stored).chain(sum.as_deref()).collect();
    fuse.start.decode(0..rows, &read, &|f, b, o| float::decode(f.dtype(), b, o), &mut values);
    known.values.insert("seen".to_owned(), values);
    (known, sum)
}

/// A budget in bytes, the size of parts, and a number of threads.
type Way = (u64, u64, usize);

/// Holds the pipeline against the definition: statistics and the output, whatever the budget, the parts and the threads.
fn check(shape: (u64, u64), form: Form, action: Action, ways: &[Way]) {
    let mut case = Case::new(shape);
    let fuse = seen(&mut case, form, &[action]);
    let (known, sum) = tensors(&case, &fuse);
    let Ok(expected) = reference::fuse(&fuse, &known) else { return };
    let mut bytes = vec![0; expected.len() * 4];
    if float::encode(Dtype::F32, &expected, &mut bytes).is_some() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (memory, part_size, threads) in ways.iter().copied() {
        let what = format!("{form:?} {shape:?}, {memory} bytes, parts of {part_size}, {threads} threads");
        let values = runtime.block_on(reduce(&case, memory));
        for (statistic, (_, value)) in case.statistics.iter().zip(&values) {
            let defined = match statistic.kind {
                statistic::Kind::Scales(_) => sum.clone().unwrap(),
                _ => reference::statistic(statistic, &known).unwrap(),
            };
            assert_eq!(numbers(value), numbers(&defined), "{:?} of {what}", statistic.kind);
        }
        case.bench.statistics = values.into_iter().map(|(value, _)| value).collect();
        case.bench.place("w", Dtype::F32, Recipe::Fuse(fuse.clone()));
        let made = runtime.block_on(case.bench.make_on(threads, memory, part_size));
        let placed = case.bench.tensors.pop().unwrap();
        case.bench.at = placed.offset;
        assert!(made[placed.offset as usize..][..placed.length as usize] == bytes, "{what}");
    }
}

/// Runs of scales go through all rows, so a tile decoded by itself would decode the whole weight.
#[test]
fn a_weight_whose_rows_share_runs_of_scales_is_decoded_at_once() {
    let form = Form { code: 0, block: 64, down: true, double: true };
    let action = Action::DoraColumns(Term::Dense(Layout::Plain), DoraNorm::Standing);
    check((1664, 350), form, action, &[(1 << 30, 1 << 20, 3), (64 << 10, 1 << 20, 0)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_weight_is_seen_as_defined_however_it_is_cut(
        (rows, cols) in (1..130u64, 1..300u64),
        form in forms(),
        term in terms(),
        of_columns in any::<bool>(),
    ) {
        // Blocks that run down the columns end with them.
        let block = if form.down { form.block.min(64) } else { form.block };
        let rows = if form.down { rows.next_multiple_of(block) } else { rows };
        let action = if of_columns { Action::DoraColumns(term, DoraNorm::Standing) } else { Action::Add(term) };
        let ways = [(1 << 30, 1 << 20, 3), (1 << 30, 1 << 13, 0), (64 << 10, 1 << 16, 2)];
        check((rows, cols), Form { block, ..form }, action, &ways);
    }
}
