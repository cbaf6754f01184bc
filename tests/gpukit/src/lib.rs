//! Jobs for a GPU with what the CPU's definition makes of them.

#![allow(missing_docs, reason = "tests read it, and names say most")]

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use shardfuse_merge::Dtype;
use shardfuse_merge::inventory::{ObjectId, Source};
use shardfuse_merge::recipe::reference::{self, InMemory};
use shardfuse_merge::recipe::{self, Add, Along, Dora, DoraNorm, Fuse, LowRank, Norm, Op, Operand, Scale, Start};
use shardfuse_merge::statistic::StatisticId;
use shardfuse_merge::tensor::float;
use shardfuse_worker::device::Slice;
use shardfuse_worker::device::cuda::{Done, Gain, Gpu, Program, Right, Step, Tiling, Way};

/// What is done to a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Lora,
    /// The right factor is stored the other way round.
    Transposed,
    /// Two adapters, one after the other.
    TwoLoras,
    DoraStanding,
    DoraOriginal,
    DoraColumns,
}

pub const KINDS: [Kind; 6] =
    [Kind::Lora, Kind::Transposed, Kind::TwoLoras, Kind::DoraStanding, Kind::DoraOriginal, Kind::DoraColumns];

impl Kind {
    fn steps(self) -> usize {
        // The norm of the start differs from that of what stands after one step only.
        if matches!(self, Kind::TwoLoras | Kind::DoraOriginal) { 2 } else { 1 }
    }

    fn dora(self) -> Option<(Norm, DoraNorm)> {
        match self {
            Kind::Lora | Kind::Transposed | Kind::TwoLoras => None,
            Kind::DoraStanding => Some((Norm::Rows, DoraNorm::Standing)),
            Kind::DoraOriginal => Some((Norm::Rows, DoraNorm::Original)),
            Kind::DoraColumns => Some((Norm::Columns(StatisticId(0)), DoraNorm::Standing)),
        }
    }
}

/// The shape of a weight and the rank of each delta.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub rows: usize,
    pub cols: usize,
    pub rank: usize,
}

/// A job over a whole tensor.
pub struct Job {
    pub kind: Kind,
    pub from: Dtype,
    pub to: Dtype,
    pub shape: Shape,
    raw: Bytes,
    steps: Vec<Delta>,
    /// A magnitude a row, or the gain of each column.
    magnitudes: Vec<f32>,
    tiling: Tiling,
}

struct Delta {
    /// [rows, rank].
    left: Vec<f32>,
    /// [rank, cols].
    right: Vec<f32>,
    scale: f32,
}

/// A splitmix generator: the same job every time.
struct Random(u64);

impl Random {
    /// In [-1, 1), with 24 bits.
    fn value(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.value()).collect()
    }
}

impl Job {
    /// A job whose weights are 0.5 to 1 in size and whose deltas are below a quarter in all, so that no result is much
    /// smaller than what it is made of: a difference in ulp then means something.
    pub fn new(kind: Kind, from: Dtype, to: Dtype, shape: Shape, seed: u64) -> Job {
        let Shape { rows, cols, rank } = shape;
        let mut random = Random(seed);
        let weights: Vec<f32> =
            random.values(rows * cols).iter().map(|v| v.signum() * (0.5 + 0.499 * v.abs())).collect();
        let scale = 0.25 / (rank * kind.steps()) as f32;
        let steps = (0..kind.steps()).map(|_| Delta {
            left: random.values(rows * rank),
            right: random.values(rank * cols),
            scale,
        });
        let steps = steps.collect();
        let magnitudes = match kind.dora() {
            None => Vec::new(),
            Some((Norm::Rows, _)) => {
                let about = 0.75 * (cols as f32).sqrt();
                random.values(rows).iter().map(|v| about * (1.0 + 0.3 * v)).collect()
            }
            Some((Norm::Columns(_), _)) => random.values(cols).iter().map(|v| 1.0 + 0.3 * v).collect(),
        };
        Job::of(kind, (from, to), shape, &weights, steps, magnitudes)
    }

    /// Weights that are only converted: the delta is zero.
    pub fn conversion(from: Dtype, to: Dtype, cols: usize, weights: &[f32]) -> Job {
        let shape = Shape { rows: weights.len() / cols, cols, rank: 1 };
        let zero = Delta { left: vec![0.0; shape.rows], right: vec![0.0; cols], scale: 1.0 };
        Job::of(Kind::Lora, (from, to), shape, weights, vec![zero], Vec::new())
    }

    fn of(
        kind: Kind,
        (from, to): (Dtype, Dtype),
        shape: Shape,
        weights: &[f32],
        steps: Vec<Delta>,
        magnitudes: Vec<f32>,
    ) -> Job {
        let mut raw = vec![0; weights.len() * float::width(from)];
        float::encode(from, weights, &mut raw);
        let Way::Device(tiling) = Way::of(&recipe(kind, from, shape), to, shape.rows as u64, shape.cols as u64) else {
            panic!("{kind:?} of {shape:?} has a path on the device");
        };
        Job { kind, from, to, shape, raw: raw.into(), steps, magnitudes, tiling }
    }

    /// Sets one weight.
    pub fn set(&mut self, row: usize, col: usize, value: f32) {
        let (at, width) = (row * self.shape.cols + col, float::width(self.from));
        let mut raw = self.raw.to_vec();
        float::encode(self.from, &[value], &mut raw[at * width..(at + 1) * width]);
        self.raw = raw.into();
    }

    /// Makes a row zero, its delta too.
    pub fn clear(&mut self, row: usize) {
        for col in 0..self.shape.cols {
            self.set(row, col, 0.0);
        }
        for step in &mut self.steps {
            step.left[row * self.shape.rank..(row + 1) * self.shape.rank].fill(0.0);
        }
    }

    /// Rounds the factors to so many bits of fraction, as the inputs of tensor cores are.
    pub fn shorten_factors(&mut self, fraction: u32) {
        let lost = 23 - fraction;
        for value in self.steps.iter_mut().flat_map(|s| s.left.iter_mut().chain(&mut s.right)) {
            *value = f32::from_bits((value.to_bits() + (1 << (lost - 1))) >> lost << lost);
        }
    }

    /// What the definition makes of it.
    pub fn expected(&self) -> Vec<u8> {
        let mut start = vec![0.0; self.raw.len() / float::width(self.from)];
        float::decode(self.from, &self.raw, &mut start);
        let mut fuse = recipe(self.kind, self.from, self.shape);
        if self.kind == Kind::DoraColumns {
            // The job brings the gains themselves.
            let Some(recipe::Step { op: Op::Dora(dora), .. }) = fuse.steps.pop() else {
                panic!("the last step is DoRA")
            };
            let gains = Operand::vector(Source {
                name: "m".into(),
                shape: vec![self.shape.cols as u64],
                ..fuse.start.tensors()[0].clone()
            });
            let ops = [Op::Add(Add(dora.delta)), Op::Scale(Scale { gains, along: Along::Columns })];
            fuse.steps.extend(ops.map(|op| recipe::Step { adapter: 0, op }));
        }
        let mut tensors = InMemory::default();
        for (i, (step, delta)) in fuse.steps.iter_mut().zip(&self.steps).enumerate() {
            let (Op::Add(Add(recipe::Delta::LowRank(low_rank)))
            | Op::Dora(Dora { delta: recipe::Delta::LowRank(low_rank), .. })) = &mut step.op
            else {
                panic!("a step has a low-rank delta")
            };
            low_rank.scale = delta.scale;
            // Both in plain order: how the right factor is stored changes no value.
            low_rank.right = Operand::matrix(Source {
                shape: vec![self.shape.rank as u64, self.shape.cols as u64],
                ..low_rank.right.source.clone()
            });
            for (operand, name, values) in
                [(&mut low_rank.left, "left", &delta.left), (&mut low_rank.right, "right", &delta.right)]
            {
                operand.source.name = format!("{name}.{i}");
                tensors.values.insert(operand.source.name.clone(), values.clone());
            }
        }
        tensors.values.insert("w".into(), start);
        tensors.values.insert("m".into(), self.magnitudes.clone());
        let w = reference::fuse(&fuse, &tensors).expect("a row has a norm");
        let mut out = vec![0; w.len() * float::width(self.to)];
        assert_eq!(float::encode(self.to, &w, &mut out), None, "the test's values fit");
        out
    }

    /// The right factors, brought to the device once.
    pub fn bring(&self, gpu: &Gpu) -> Vec<Arc<Right>> {
        let bring = |delta: &Delta| {
            let transposed = self.kind == Kind::Transposed;
            let Shape { cols, rank, .. } = self.shape;
            let stored = if transposed {
                (0..cols * rank).map(|i| delta.right[i % rank * cols + i / rank]).collect()
            } else {
                delta.right.clone()
            };
            let buffer = loop {
                let ended = gpu.ended();
                match gpu.room(stored.len() as u64 * 4).expect("the device works") {
                    Some(buffer) => break buffer,
                    None => futures::executor::block_on(ended),
                }
            };
            gpu.put(&buffer, 0, &stored).expect("the device works");
            // Keys are never looked up here; each is another one.
            let key = (format!("{:p}", delta.right.as_ptr()).into(), "".into(), 0);
            gpu.keep(key, buffer, transposed, false)
        };
        self.steps.iter().map(bring).collect()
    }

    /// Hands some rows over, and a buffer for what becomes of them; what comes back is for `Gpu::answer`.
    pub fn submit(
        &self,
        gpu: &Gpu,
        rights: &[Arc<Right>],
        rows: Range<u64>,
        mut part: Vec<u8>,
    ) -> tokio::sync::oneshot::Receiver<Done> {
        let Shape { cols, rank, .. } = self.shape;
        let (first, last) = (rows.start as usize, rows.end as usize);
        let cover = self.tiling.cover(&rows);
        let steps = self.steps.iter().zip(rights).enumerate().map(|(i, (delta, right))| {
            let gain = match self.kind.dora() {
                Some(_) if i + 1 < self.steps.len() => None,
                None => None,
                Some((Norm::Columns(_), _)) => Some(Gain::Columns(Arc::new(self.magnitudes.clone()))),
                Some((Norm::Rows, of)) => Some(Gain::Rows {
                    magnitudes: self.magnitudes[first..last].to_vec(),
                    of_original: of == DoraNorm::Original,
                }),
            };
            let left = delta.left[cover.start as usize * rank..cover.end as usize * rank].to_vec();
            Step { left, right: Arc::clone(right), rank: rank as u64, scale: delta.scale, gain }
        });
        let width = cols * float::width(self.from);
        let program =
            Program { tiling: self.tiling.clone(), rows, from: self.from, to: self.to, steps: steps.collect() };
        let len = (last - first) * cols * float::width(self.to);
        part.resize(len, 0);
        let slice = Slice { part, target: 0..len, skip: 0 };
        gpu.submit(self.raw.slice(first * width..last * width), program, slice)
    }

    /// Fuses some rows and waits.
    pub fn run(&self, gpu: &Gpu, rights: &[Arc<Right>], rows: Range<u64>) -> Done {
        futures::executor::block_on(gpu.answer(self.submit(gpu, rights, rows, Vec::new())))
    }
}

fn recipe(kind: Kind, dtype: Dtype, shape: Shape) -> Fuse {
    let source =
        |name: &str, shape: Vec<u64>| Source { object: ObjectId(0), name: name.into(), dtype, shape, offset: 0 };
    let (rows, cols, rank) = (shape.rows as u64, shape.cols as u64, shape.rank as u64);
    let delta = || {
        let left = Operand::matrix(source("left", vec![rows, rank]));
        let right = match kind {
            Kind::Transposed => Operand::transposed(source("right", vec![cols, rank])),
            _ => Operand::matrix(source("right", vec![rank, cols])),
        };
        recipe::Delta::LowRank(LowRank { left, right, scale: 1.0 })
    };
    let mut ops: Vec<Op> = (0..kind.steps()).map(|_| Op::Add(Add(delta()))).collect();
    if let Some((norm, of)) = kind.dora() {
        ops.pop();
        let outputs = if norm == Norm::Rows { rows } else { cols };
        ops.push(Op::Dora(Dora { delta: delta(), magnitude: Operand::vector(source("m", vec![outputs])), norm, of }));
    }
    let steps = ops.into_iter().map(|op| recipe::Step { adapter: 0, op }).collect();
    Fuse {
        start: Start::plain(source("w", vec![rows, cols])).expect("a float"),
        start_adapter: None,
        steps,
        keep_non_finite: false,
    }
}
