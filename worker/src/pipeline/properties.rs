//! Random recipes: the pipeline gives the bytes of the definition, whatever the parts, the budget and the threads; and the
//! definition is as near to the exact result as fp32 allows.

use proptest::prelude::*;
use shardfuse_merge::plan::task::{Reduce, StatisticValue};
use shardfuse_merge::recipe::op::ExactRows;
use shardfuse_merge::recipe::reference::{self, InMemory, Tensors};
use shardfuse_merge::recipe::{
    Add, Along, Delta, Dense, Dora, DoraNorm, Fuse, Hadamard, LowRank, Need, Norm, Op, Operand, Recipe, Round, Scale,
    SetRows, Start, Step, exact, sources,
};
use shardfuse_merge::statistic::{self, Statistic, StatisticId, numbers};
use shardfuse_merge::tensor::View;
use shardfuse_merge::tensor::float::{self, Float};
use shardfuse_merge::{Dtype, DtypeExt};
use shardfuse_store::{Local, Store};

use super::tests::Bench;
use super::*;

/// How an operand lies in its tensor.
#[derive(Debug, Clone, Copy)]
enum Layout {
    Plain,
    Transposed,
    /// A slice of a larger tensor, such as one expert of a stack.
    Slice,
    /// Every second row of a larger tensor, such as the gate of a fused projection.
    Interleaved,
    /// Every second column of the transpose.
    Spread,
    /// Every third column, as B of stacked experts has those of one expert.
    Columns,
}

fn layouts() -> impl Strategy<Value = Layout> {
    prop_oneof![
        Just(Layout::Plain),
        Just(Layout::Transposed),
        Just(Layout::Slice),
        Just(Layout::Interleaved),
        Just(Layout::Spread),
        Just(Layout::Columns)
    ]
}

#[derive(Debug, Clone)]
enum Term {
    LowRank { rank: u64, layouts: (Layout, Layout), gains: (bool, bool) },
    Hadamard { ranks: (u64, u64), layouts: (Layout, Layout) },
    Dense(Layout),
}

#[derive(Debug, Clone)]
enum Action {
    Add(Term),
    DoraRows(Term, DoraNorm),
    DoraColumns(Term, DoraNorm),
    SetRows(Layout),
    Scale(Along),
    Round(Float),
}

fn terms() -> impl Strategy<Value = Term> {
    let both = || (layouts(), layouts());
    prop_oneof![
        3 => (1..40u64, both(), any::<(bool, bool)>())
            .prop_map(|(rank, layouts, gains)| Term::LowRank { rank, layouts, gains }),
        2 => ((1..9u64, 1..9u64), both()).prop_map(|(ranks, layouts)| Term::Hadamard { ranks, layouts }),
        1 => layouts().prop_map(Term::Dense),
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    let of = || prop_oneof![Just(DoraNorm::Standing), Just(DoraNorm::Original)];
    prop_oneof![
        3 => terms().prop_map(Action::Add),
        2 => (terms(), of()).prop_map(|(term, of)| Action::DoraRows(term, of)),
        2 => (terms(), of()).prop_map(|(term, of)| Action::DoraColumns(term, of)),
        1 => layouts().prop_map(Action::SetRows),
        1 => prop_oneof![Just(Along::Rows), Just(Along::Columns)].prop_map(Action::Scale),
        2 => prop_oneof![Just(Float::F32), Just(Float::F16), Just(Float::BF16)].prop_map(Action::Round),
    ]
}

fn dtypes() -> impl Strategy<Value = Dtype> {
    prop_oneof![Just(Dtype::F32), Just(Dtype::F16), Just(Dtype::BF16)]
}

/// A recipe on a parameter of `shape`, with its tensors in a bench's input file.
struct Case {
    bench: Bench,
    statistics: Vec<Statistic>,
    shape: (u64, u64),
    names: u32,
}

impl Case {
    fn operand(&mut self, (rows, cols): (u64, u64), layout: Layout) -> Operand {
        self.names += 1;
        let name = format!("operand.{}", self.names);
        let dtype = [Dtype::BF16, Dtype::F32, Dtype::F16][self.names as usize % 3];
        let (shape, view): (Vec<u64>, View) = match layout {
            Layout::Plain => (vec![rows, cols], View::of(&[rows, cols])),
            Layout::Transposed => (vec![cols, rows], View::of(&[cols, rows]).transposed()),
            Layout::Slice => (vec![3, rows, cols], View { offset: rows * cols, ..View::of(&[rows, cols]) }),
            Layout::Interleaved => {
                (vec![2 * rows, cols], View { row_stride: 2 * cols, offset: cols, ..View::of(&[rows, cols]) })
            }
            Layout::Spread => {
                let view = View { rows, cols, row_stride: 2, col_stride: 2 * rows, offset: 1 };
                (vec![cols, 2 * rows], view)
            }
            Layout::Columns => {
                let view = View { rows, cols, row_stride: 3 * cols, col_stride: 3, offset: 2 };
                (vec![rows, 3 * cols], view)
            }
        };
        Operand { source: self.bench.source(&name, dtype, &shape), view, row_gains: None }
    }

    fn gained(&mut self, operand: Operand, gained: bool) -> Operand {
        let rows = operand.view.rows;
        let row_gains = gained.then(|| self.operand((rows, 1), Layout::Plain).source);
        Operand { row_gains, ..operand }
    }

    fn term(&mut self, term: &Term) -> Delta {
        let (rows, cols) = self.shape;
        match term {
            Term::LowRank { rank, layouts, gains } => {
                let left = self.operand((rows, *rank), layouts.0);
                let left = self.gained(left, gains.0);
                let right = self.operand((*rank, cols), layouts.1);
                let right = self.gained(right, gains.1);
                Delta::LowRank(LowRank { left, right, scale: 0.37 })
            }
            Term::Hadamard { ranks, layouts } => {
                let mut pair = |rank| (self.operand((rows, rank), layouts.0), self.operand((rank, cols), layouts.1));
                let (first, second) = (pair(ranks.0), pair(ranks.1));
                Delta::Hadamard(Hadamard { first, second, scale: -0.21 })
            }
            Term::Dense(layout) => Delta::Dense(Dense { tensor: self.operand((rows, cols), *layout), scale: 0.5 }),
        }
    }

    fn fuse(&mut self, from: Dtype, actions: &[Action]) -> Fuse {
        let (rows, cols) = self.shape;
        let start = Start::plain(self.bench.source("start", from, &[rows, cols])).unwrap();
        let mut steps: Vec<Step> = Vec::new();
        for (adapter, action) in actions.iter().enumerate() {
            let op = match action {
                Action::Add(term) => Op::Add(Add(self.term(term))),
                Action::DoraRows(term, of) => Op::Dora(Dora {
                    delta: self.term(term),
                    magnitude: self.operand((rows, 1), Layout::Plain),
                    norm: Norm::Rows,
                    of: *of,
                }),
                Action::DoraColumns(term, of) => {
                    let delta = self.term(term);
                    let magnitude = self.operand((cols, 1), Layout::Plain);
                    let before = if *of == DoraNorm::Original { Vec::new() } else { steps.clone() };
                    let needs = before.iter().flat_map(|s| s.op.statistics()).collect();
                    let add = Step { adapter: adapter as u16, op: Op::Add(Add(delta.clone())) };
                    let id = StatisticId(self.statistics.len() as u32);
                    self.statistics.push(Statistic {
                        tensor: "w".into(),
                        start: start.clone(),
                        steps: before.into_iter().chain([add]).collect(),
                        needs,
                        kind: statistic::Kind::ColumnSquares,
                    });
                    Op::Dora(Dora { delta, magnitude, norm: Norm::Columns(id), of: *of })
                }
                Action::SetRows(layout) => {
                    let set: Vec<u64> = (0..rows).filter(|r| r % 3 == adapter as u64 % 3).rev().collect();
                    let source = self.operand((set.len().max(1) as u64, cols), *layout);
                    Op::SetRows(SetRows { rows: if set.is_empty() { vec![0] } else { set }, source })
                }
                Action::Scale(along) => {
                    let n = if *along == Along::Rows { rows } else { cols };
                    Op::Scale(Scale { gains: self.operand((n, 1), Layout::Plain), along: *along })
                }
                Action::Round(to) => Op::Round(Round { to: *to }),
            };
            steps.push(Step { adapter: adapter as u16, op });
        }
        Fuse { start, start_adapter: None, steps, keep_non_finite: false }
    }

    /// Every tensor that a recipe reads, decoded.
    fn tensors(&self, fuse: &Fuse) -> InMemory {
        let all = fuse.start.tensors().iter().chain(sources(&fuse.steps));
        let values = all.map(|source| {
            let raw = &self.bench.data[source.offset as usize..][..source.bytes() as usize];
            let mut values = vec![0.0; source.elements() as usize];
            float::decode(source.dtype, raw, &mut values);
            (source.name.clone(), values)
        });
        InMemory { values: values.collect(), statistics: self.statistics.clone() }
    }
}

/// A case's statistics, made by the pipeline and stored, in the order of the plan.
async fn reduce(case: &Case, memory: u64) -> Vec<(StatisticValue, Vec<u8>)> {
    let store: Arc<dyn Store> = Arc::new(Local::new());
    let mut known: Vec<(StatisticValue, Vec<u8>)> = Vec::new();
    for (i, statistic) in case.statistics.iter().enumerate() {
        let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), memory, 2, Device::Cpu).unwrap();
        let blocks: Vec<u32> = (0..case.shape.0.div_ceil(statistic.kind.block_rows()) as u32).collect();
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
    let start_values = wide(&tensors.start(start));
    let rows: Vec<u64> = (0..(start_values.len() / cols) as u64).collect();
    let mut w = start_values.clone();
    let mut doubt = vec![0.0; w.len()];
    for step in steps {
        let mut original = step.op.wants_original().then(|| start_values.clone());
        if let Some(delta) = step.op.delta() {
            let values: Vec<Vec<f64>> = delta.inputs().iter().map(|i| matrix(i.operand)).collect();
            let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
            for w in original.iter_mut().chain([&mut w]) {
                delta.exact(w, cols, &values);
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
        let own: Vec<Vec<f64>> = own.collect();
        let own: Vec<&[f64]> = own.iter().map(Vec::as_slice).collect();
        let mut tile = ExactRows { rows: &rows, cols, w: &mut w, doubt: &mut doubt };
        step.op.exact(&mut tile, original.as_deref(), &own);
    }
    (w, doubt)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_pipeline_gives_the_bytes_of_the_definition(
        shape in (1..70u64, 1..300u64),
        actions in prop::collection::vec(actions(), 1..4),
        from in dtypes(),
        to in dtypes(),
    ) {
        let mut case = Case { bench: Bench::new(), statistics: Vec::new(), shape, names: 0 };
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
