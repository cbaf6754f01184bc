//! Random recipes: the pipeline gives the bytes of the definition, whatever the parts, the budget and the threads; and the
//! definition is as near to the exact result as fp32 allows.

mod actions;
mod case;
mod requantise;
mod seen;

use proptest::prelude::*;
use shardfuse_merge::plan::task::{Reduce, StatisticValue};
use shardfuse_merge::recipe::op::ExactRows;
use shardfuse_merge::recipe::reference::{self, InMemory, Tensors};
use shardfuse_merge::recipe::{Made, Need, Operand, Recipe, Start, Step, exact};
use shardfuse_merge::statistic::{StatisticId, numbers};
use shardfuse_merge::tensor::float;
use shardfuse_merge::{Dtype, DtypeExt};
use shardfuse_store::{Local, Store};

use super::*;
use actions::actions;
use case::Case;

/// Any shape, or one with many divisors.
fn shapes() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![(1..70u64, 1..300u64), (1..9u64, 1..38u64).prop_map(|(rows, cols)| (rows * 8, cols * 8))]
}

fn dtypes() -> impl Strategy<Value = Dtype> {
    prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::BF16)]
}

/// A case's statistics, made by the pipeline and stored, in the order of the plan.
async fn reduce(case: &Case, memory: u64) -> Vec<(StatisticValue, Vec<u8>)> {
    let store: Arc<dyn Store> = Arc::new(Local::new());
    let mut known: Vec<(StatisticValue, Vec<u8>)> = Vec::new();
    for (i, statistic) in case.statistics.iter().enumerate() {
        let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), memory, 2, Device::Cpu).unwrap();
        let blocks: Vec<u32> = (0..statistic.blocks()).collect();
        let mut assignment = case.bench.assignment(&*store, 1 << 20).await;
        let statistics = known.iter().map(|(value, _)| value.clone()).collect();
        let count = blocks.len();
        assignment.job = Job::Reduce(Reduce { statistic: statistic.clone(), blocks, statistics });
        let (send, mut done) = mpsc::channel(64);
        pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
        let mut states = Vec::new();
        for _ in 0..count {
            let done = done.recv().await.unwrap();
            let Some(v1::piece_done::Result::Sums(state)) = done.result else { panic!("it is a block's state") };
            states.push((done.piece, state));
        }
        states.sort();
        let value = statistic.kind.fold(case.shape.1, states.iter().map(|(_, state)| state.as_slice()));
        let at = case.bench.path(&format!("statistic.{i}"));
        store.put(&at, value.clone().into()).await.unwrap();
        let digest = blake3::hash(&value).to_hex().to_string();
        known.push((StatisticValue { id: StatisticId(i as u32), url: at.to_string(), digest }, value));
    }
    known
}

/// A recipe in f64, from operands in memory, and how far another right result may be from each value.
fn exactly(start: &Start, steps: &[Step], cols: usize, tensors: &InMemory) -> (Vec<f64>, Vec<f64>) {
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
    let matrix = |operand: &Operand| -> Vec<f64> {
        let (view, stored) = (operand.view, tensors.values(&operand.source));
        let gains = operand.row_gains.as_ref().map(|gains| tensors.values(gains));
        let at = |i, j| stored[(view.offset + i * view.row_stride + j * view.col_stride) as usize];
        let gain = |i: u64| gains.as_ref().map_or(1.0, |gains| f64::from(gains[i as usize]));
        (0..view.rows)
            .flat_map(|i| (0..view.cols).map(move |j| (i, j)))
            .map(|(i, j)| f64::from(at(i, j)) * gain(i))
            .collect()
    };
    let made = |made: &Made| -> Vec<f64> {
        let operands: Vec<Vec<f64>> = made.operands().into_iter().map(matrix).collect();
        let operands: Vec<&[f64]> = operands.iter().map(Vec::as_slice).collect();
        made.make(&operands).unwrap()
    };
    let start_values = wide(&tensors.start(start));
    let rows: Vec<u64> = (0..(start_values.len() / cols) as u64).collect();
    let mut w = start_values.clone();
    let mut doubt = vec![0.0; w.len()];
    for step in steps {
        let mut original = step.op.wants_original().then(|| start_values.clone());
        if let Some(delta) = step.op.delta() {
            let values: Vec<Vec<f64>> = delta.inputs().iter().map(|i| matrix(i.operand)).collect();
            let made = delta.matrices().into_iter().map(|matrices| made(matrices.made));
            let values: Vec<Vec<f64>> = values.into_iter().chain(made).collect();
            let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
            for w in original.iter_mut().chain([&mut w]) {
                delta.exact(&mut ExactRows { rows: &rows, column: 0, cols, w, doubt: &mut [] }, &values);
            }
        }
        let own = step.op.own_inputs().into_iter().flat_map(|input| match input.need {
            Need::Derived(id) => {
                let of = tensors.statistic(id);
                let (v, doubts) = exactly(&of.start, &of.steps, cols, tensors);
                let magnitudes = matrix(input.operand);
                let squares = |v: &[f64], j: usize| v.iter().skip(j).step_by(cols).map(|v| v * v).sum::<f64>();
                let gain = |j| exact::dora_gain(magnitudes[j], squares(&v, j)).unwrap_or(f64::NAN);
                let gains: Vec<f64> = (0..cols).map(gain).collect();
                let off = |j: usize| exact::gain_doubt(gains[j], squares(&v, j), squares(&doubts, j));
                let off = (0..cols).map(off).collect();
                vec![gains, off]
            }
            Need::Rows(list) => {
                let values = matrix(input.operand);
                let mut order: Vec<usize> = (0..list.len()).collect();
                order.sort_by_key(|i| list[*i]);
                vec![order.into_iter().flat_map(|i| values[i * cols..][..cols].to_vec()).collect()]
            }
            _ => vec![matrix(input.operand)],
        });
        let own_made = step.op.own_matrices().into_iter().map(|matrices| made(matrices.made));
        let own: Vec<Vec<f64>> = own.chain(own_made).collect();
        let own: Vec<&[f64]> = own.iter().map(Vec::as_slice).collect();
        let mut tile = ExactRows { rows: &rows, column: 0, cols, w: &mut w, doubt: &mut doubt };
        step.op.exact(&mut tile, original.as_deref(), &own);
    }
    (w, doubt)
}

#[test]
fn the_pipeline_gives_the_bytes_of_the_definition() {
    // The strategies are large values, and unoptimised code keeps many copies of them on the stack.
    let held = std::thread::Builder::new().stack_size(64 << 20).spawn(pipeline_and_definition).unwrap();
    held.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    fn pipeline_and_definition(
        shape in shapes(),
        actions in prop::collection::vec(actions(), 1..4),
        from in dtypes(),
        to in dtypes(),
    ) {
        let mut case = Case::new(shape);
        let fuse = case.fuse(from, &actions);
        let tensors = case.tensors(&fuse);
        let Ok(expected) = reference::fuse(&fuse, &tensors) else { return Ok(()) };
        let mut bytes = vec![0; expected.len() * to.bytes().unwrap() as usize];
        prop_assume!(float::encode(to, &expected, &mut bytes).is_none());

        // The definition against the exact result: every step rounds in fp32, and norms divide by what was rounded.
        let cols = shape.1 as usize;
        let (truth, doubt) = exactly(&fuse.start, &fuse.steps, cols, &tensors);
        let largest = truth.iter().chain(&expected.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()).fold(1.0f64, |m, v| m.max(v.abs()));
        for (i, (truth, got)) in truth.iter().zip(&expected).enumerate() {
            let error = (truth - f64::from(*got)).abs();
            prop_assert!(error <= 1e-4 * largest + doubt[i], "element {i}: {got} for {truth}, in doubt by {}", doubt[i]);
        }

        // The pipeline against the definition.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (memory, part_size, threads) in [(1 << 30, 1 << 20, 3), (1 << 30, 1 << 10, 0), (64 << 10, 1 << 13, 2)] {
            let values = runtime.block_on(reduce(&case, memory));
            for (statistic, (_, value)) in case.statistics.iter().zip(&values) {
                let defined = reference::statistic(statistic, &tensors).unwrap();
                prop_assert_eq!(numbers(value), numbers(&defined), "a statistic with {} bytes", memory);
            }
            case.bench.statistics = values.into_iter().map(|(value, _)| value).collect();
            case.bench.place("w", to, Recipe::Fuse(fuse.clone()));
            let made = runtime.block_on(case.bench.make_on(threads, memory, part_size));
            let placed = case.bench.tensors.pop().unwrap();
            case.bench.at = placed.offset;
            let got = &made[placed.offset as usize..][..placed.length as usize];
            prop_assert!(got == bytes, "{} bytes, parts of {}, {} threads", memory, part_size, threads);
        }
    }
}
