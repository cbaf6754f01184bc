//! The pipeline on real files: every step, in memory and by column ranges, whatever the budget and the part size.

use std::time::Duration;

use half::bf16;
use shardfuse_merge::inventory::{Object, ObjectId, Source};
use shardfuse_merge::output::Parts;
use shardfuse_merge::plan::task::{Fill, Part, Reduce, StatisticValue};
use shardfuse_merge::recipe::{
    Add, Delta, Dense, Dora, DoraNorm, Fuse, LowRank, Norm, Op, Operand, Placed, Recipe, SetRows, Start, Step, sources,
};
use shardfuse_merge::statistic::{self, Statistic, StatisticId};

use shardfuse_merge::{Dtype, DtypeExt, Kind};
use shardfuse_store::fault::{Fault, Faulty, Operation};
use shardfuse_store::{ErrorKind, Local, Location, Store, UploadId};

use super::flow::Budget;
use super::read::range_width;
use super::*;

const HEADER: u64 = 40;

/// Inputs in one file, and an output that grows from them.
pub(super) struct Bench {
    pub dir: tempfile::TempDir,
    pub data: Vec<u8>,
    pub tensors: Vec<Placed>,
    pub statistics: Vec<StatisticValue>,
    pub at: u64,
    seed: u64,
}

impl Bench {
    pub fn new() -> Self {
        let (dir, at) = (tempfile::tempdir().unwrap(), HEADER);
        Bench { dir, data: vec![0; 3], tensors: Vec::new(), statistics: Vec::new(), at, seed: 1 }
    }

    /// Values in (-1, 1) that bf16 and f32 hold exactly.
    fn value(&mut self) -> f32 {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        bf16::from_f32(((self.seed >> 40) as f32) / (1u64 << 23) as f32 - 1.0).to_f32()
    }

    pub fn source(&mut self, name: &str, dtype: Dtype, shape: &[u64]) -> Source {
        let offset = self.data.len() as u64;
        let count = shape.iter().product::<u64>();
        for _ in 0..count {
            let value = self.value();
            match dtype {
                Dtype::BF16 => self.data.extend(bf16::from_f32(value).to_le_bytes()),
                Dtype::F16 => self.data.extend(half::f16::from_f32(value).to_le_bytes()),
                _ => self.data.extend(value.to_le_bytes()),
            }
        }
        Source { name: name.into(), object: ObjectId(0), offset, dtype, shape: shape.into() }
    }

    /// A tensor of integers.
    pub fn places(&mut self, name: &str, shape: &[u64], places: &[i32]) -> Source {
        let offset = self.data.len() as u64;
        self.data.extend(places.iter().flat_map(|place| place.to_le_bytes()));
        Source { name: name.into(), object: ObjectId(0), offset, dtype: Dtype::I32, shape: shape.into() }
    }

    fn low_rank(&mut self, name: &str, (rows, cols, rank): (u64, u64, u64), transposed: bool) -> Delta {
        let shape = |a, b| if transposed { [b, a] } else { [a, b] };
        let operand = |source| if transposed { Operand::transposed(source) } else { Operand::matrix(source) };
        let left = self.source(&format!("{name}.B"), Dtype::BF16, &shape(rows, rank));
        let right = self.source(&format!("{name}.A"), Dtype::F32, &shape(rank, cols));
        Delta::LowRank(LowRank { left: operand(left), right: operand(right), scale: 0.37 })
    }

    fn add(&mut self, name: &str, shape: (u64, u64, u64), transposed: bool) -> Op {
        Op::Add(Add(self.low_rank(name, shape, transposed)))
    }

    pub fn place(&mut self, name: &str, dtype: Dtype, recipe: Recipe) {
        let shape = recipe.dims().to_vec();
        let length = shape.iter().product::<u64>() * dtype.bytes().unwrap();
        self.tensors.push(Placed { name: name.into(), dtype, shape, offset: self.at, length, recipe, portion: None });
        self.at += length;
    }

    fn fuse(&mut self, name: &str, shape: &[u64], ops: impl FnOnce(&mut Self) -> Vec<Op>) {
        let start = self.source(name, Dtype::BF16, shape);
        let steps = ops(self).into_iter().enumerate().map(|(i, op)| Step { adapter: i as u16, op }).collect();
        let start = Start::plain(start).unwrap();
        let fuse = Fuse { start, start_adapter: None, steps, keep_non_finite: false };
        self.place(name, Dtype::BF16, Recipe::Fuse(fuse));
    }

    fn copy(&mut self, name: &str, shape: &[u64]) {
        let source = self.source(name, Dtype::BF16, shape);
        self.place(name, Dtype::BF16, Recipe::Copy(source));
    }

    pub fn path(&self, name: &str) -> Location {
        Location::at_path(&self.dir.path().join(name)).unwrap()
    }

    /// Writes the inputs and begins the output.
    pub async fn assignment(&self, store: &dyn Store, part_size: u64) -> Assignment {
        let (input, header, output) = (self.path("in"), self.path("header"), self.path("out"));
        store.put(&input, self.data.clone().into()).await.unwrap();
        store.put(&header, vec![7; HEADER as usize].into()).await.unwrap();
        let pin = store.head(&input).await.unwrap().pin;
        let upload = store.begin(&output, self.at).await.unwrap();
        let object = Object {
            url: input.to_string(),
            size: self.data.len() as u64,
            pin: pin.as_str().into(),
            seen: String::new(),
        };
        let fill = Fill {
            url: output.to_string(),
            upload: upload.as_str().into(),
            size: self.at,
            parts: Part::all(&Parts::even(self.at, part_size)),
            copied: false,
            check: false,
            header: (header.to_string(), HEADER),
            tensors: self.tensors.clone(),
            statistics: self.statistics.clone(),
        };
        Assignment {
            merge: "m".into(),
            task: 1,
            epoch: 1,
            lease_ms: 1,
            objects: vec![(0, object)],
            job: Job::Fill(fill),
        }
    }

    /// The output's bytes, made under a budget in parts.
    async fn make(&self, memory: u64, part_size: u64) -> Vec<u8> {
        self.make_on(3, memory, part_size).await
    }

    pub async fn make_on(&self, threads: usize, memory: u64, part_size: u64) -> Vec<u8> {
        let store: Arc<dyn Store> = Arc::new(Local::new());
        let assignment = self.assignment(&*store, part_size).await;
        let stores = Arc::new(Stores::all(store.clone()));
        let pipeline = Pipeline::new(stores, memory, threads, Device::Cpu).unwrap();
        let (send, mut done) = mpsc::channel(10_000);
        pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
        assert_eq!(pipeline.shared.lent(), 0, "every share is given back");
        drop(send);
        let mut count = 0;
        while done.recv().await.is_some() {
            count += 1;
        }
        let Job::Fill(fill) = &assignment.job else { unreachable!("it fills") };
        assert_eq!(count, fill.parts.len());
        let (at, upload) = (fill.url.parse().unwrap(), UploadId::new(&fill.upload));
        store.read_part(&at, &upload, 0, vec![0; fill.size as usize]).await.unwrap()
    }
}

/// Each step at least once, copies that are neighbours, and factors of every orientation.
async fn everything() -> Bench {
    let mut b = Bench::new();
    b.copy("norm.0", &[100]);
    b.copy("norm.1", &[300]);
    b.fuse("add", &[70, 1024], |b| vec![b.add("add", (70, 1024, 32), false)]);
    b.fuse("flipped", &[90, 640], |b| vec![b.add("flipped", (90, 640, 64), true)]);
    b.fuse("dora", &[33, 768], |b| {
        let dora = |b: &mut Bench, name: &str, of| {
            let delta = b.low_rank(name, (33, 768, 40), false);
            let magnitude = Operand::vector(b.source(&format!("{name}.m"), Dtype::F32, &[33]));
            Op::Dora(Dora { delta, magnitude, norm: Norm::Rows, of })
        };
        vec![dora(b, "dora.0", DoraNorm::Standing), dora(b, "dora.1", DoraNorm::Original)]
    });
    b.copy("gap", &[5, 7]);
    b.fuse("rows", &[50, 200], |b| {
        let tensor = Operand::matrix(b.source("bias", Dtype::F32, &[50, 200]));
        let source = Operand::matrix(b.source("tokens", Dtype::BF16, &[4, 200]));
        vec![
            Op::Add(Add(Delta::Dense(Dense { tensor, scale: 0.5 }))),
            Op::SetRows(SetRows { rows: vec![40, 3, 4, 49], source }),
        ]
    });
    let sums: Vec<u8> = (0..512).flat_map(|i| (3.0 + f64::from(i)).to_le_bytes()).collect();
    Local::new().put(&b.path("norms"), sums.clone().into()).await.unwrap();
    let digest = blake3::hash(&sums).to_hex().to_string();
    b.statistics.push(StatisticValue { id: StatisticId(4), url: b.path("norms").to_string(), digest });
    b.fuse("measured", &[30, 512], |b| {
        let delta = b.low_rank("measured", (30, 512, 48), true);
        let magnitude = Operand::vector(b.source("measured.m", Dtype::BF16, &[512]));
        vec![Op::Dora(Dora { delta, magnitude, norm: Norm::Columns(StatisticId(4)), of: DoraNorm::Standing })]
    });
    b
}

/// A right factor of 128 KiB is whole in the larger budget and read by ranges of columns in the smaller one.
#[tokio::test]
async fn budget_and_part_size_change_no_bit() {
    let b = everything().await;
    let delta = match &b.tensors[2].recipe {
        Recipe::Fuse(fuse) => fuse.steps[0].op.delta().unwrap().clone(),
        Recipe::Copy(_) | Recipe::Requantise(_) => unreachable!("it is fused"),
    };
    let loading = |memory: u64| Budget::new(memory / 8).bytes();
    let by_ranges = |memory| range_width(&delta, 1024, loading(memory)).is_some();
    assert!(!by_ranges(1 << 30) && by_ranges(256 << 10));
    let whole = b.make(1 << 30, 1 << 20).await;
    for (memory, part_size) in [(1 << 30, 1 << 10), (1 << 30, 1 << 16), (256 << 10, 1 << 20), (256 << 10, 1 << 14)] {
        assert!(b.make(memory, part_size).await == whole, "{memory} bytes, parts of {part_size}");
    }
}

#[tokio::test]
async fn threads_or_none_change_no_bit() {
    let b = everything().await;
    for memory in [1 << 30, 256 << 10] {
        let pool = b.make_on(3, memory, 1 << 14).await;
        assert!(b.make_on(0, memory, 1 << 14).await == pool, "{memory} bytes");
    }
}

async fn failing(b: &Bench, store: Arc<Faulty>, limit: u64) -> (Failure, u64) {
    let assignment = b.assignment(&*store, 1 << 20).await;
    let before = store.calls(Operation::Read);
    let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), limit, 1, Device::Cpu).unwrap();
    let (send, _done) = mpsc::channel(64);
    let failure = pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap_err();
    (failure, store.calls(Operation::Read) - before)
}

#[tokio::test]
async fn a_check_reports_what_a_put_would_and_puts_nothing() {
    let mut b = Bench::new();
    b.fuse("w", &[256, 64], |b| vec![b.add("w", (256, 64, 4), false)]);
    let store = Arc::new(Faulty::new(Arc::new(Local::new())));
    let mut assignment = b.assignment(&*store, 8 << 10).await;
    let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), 1 << 30, 2, Device::Cpu).unwrap();
    let mut chainings = Vec::new();
    for check in [false, true] {
        let Job::Fill(fill) = &mut assignment.job else { panic!("parts are filled") };
        fill.check = check;
        let before = store.calls(Operation::PutPart);
        let (send, mut done) = mpsc::channel(1000);
        pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
        drop(send);
        let mut all = std::collections::BTreeMap::new();
        while let Some(report) = done.recv().await {
            let Some(v1::piece_done::Result::Part(part)) = report.result else { panic!("it is a part") };
            assert_eq!(part.store_id.is_empty(), check);
            all.insert(report.piece, (part.length, part.chaining));
        }
        assert_eq!(store.calls(Operation::PutPart) - before, if check { 0 } else { all.len() as u64 });
        chainings.push(all);
    }
    assert!(chainings[0].len() > 1);
    assert_eq!(chainings[0], chainings[1]);
}

#[tokio::test]
async fn the_meter_of_an_attempt_counts_what_is_read_fused_and_put() {
    let mut b = Bench::new();
    b.copy("norm", &[50]);
    b.fuse("w", &[256, 64], |b| vec![b.add("w", (256, 64, 4), false)]);
    let store = Arc::new(Local::new());
    let assignment = b.assignment(&*store, 1 << 20).await;
    let pipeline = Pipeline::new(Arc::new(Stores::all(store)), 1 << 30, 2, Device::Cpu).unwrap();
    let (send, _done) = mpsc::channel(1000);
    let meter = Meter::default();
    pipeline.work(&assignment, &send, &Gate::open(), &meter).await.unwrap();
    let Job::Fill(fill) = &assignment.job else { panic!("parts are filled") };
    let effort = meter.effort();
    assert_eq!((effort.bytes_fused, effort.bytes_put), (256 * 64 * 2, fill.size));
    assert_eq!(effort.bytes_read, pipeline.usage().bytes_read);
}

#[tokio::test]
async fn neighbours_are_read_together() {
    let mut b = Bench::new();
    for i in 0..20 {
        b.copy(&format!("norm.{i}"), &[50]);
        // Something that the output does not take lies between.
        b.source("skipped", Dtype::BF16, &[30]);
    }
    let store = Arc::new(Faulty::new(Arc::new(Local::new())));
    let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), 1 << 30, 2, Device::Cpu).unwrap();
    let (send, _done) = mpsc::channel(1000);
    let assignment = b.assignment(&*store, 1 << 20).await;
    let before = store.calls(Operation::Read);
    pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
    assert_eq!(store.calls(Operation::Read) - before, 2, "the header and all twenty tensors");
}

#[tokio::test]
async fn a_factor_is_read_once_for_all_parts() {
    let mut b = Bench::new();
    let store = Arc::new(Faulty::new(Arc::new(Local::new())));
    let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), 1 << 30, 2, Device::Cpu).unwrap();
    let (send, _done) = mpsc::channel(1000);
    b.fuse("w", &[256, 64], |b| vec![b.add("w", (256, 64, 4), false)]);
    let assignment = b.assignment(&*store, 8 << 10).await;
    let before = store.calls(Operation::Read);
    pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
    let parts = (HEADER + 256 * 64 * 2).div_ceil(8 << 10);
    assert_eq!(
        store.calls(Operation::Read) - before,
        1 + 2 * parts + 1,
        "header; rows and left of each part; one right"
    );
}

#[tokio::test]
async fn a_failure_names_tensor_adapter_and_object() {
    let mut b = Bench::new();
    b.fuse("model.w", &[4, 8], |b| vec![b.add("lora.w", (4, 8, 2), false)]);
    let bad = match &b.tensors[0].recipe {
        Recipe::Fuse(fuse) => sources(&fuse.steps).nth(1).unwrap().offset,
        Recipe::Copy(_) | Recipe::Requantise(_) => unreachable!("it is fused"),
    };
    b.data[bad as usize..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    let (failure, _) = failing(&b, Arc::new(Faulty::new(Arc::new(Local::new()))), 1 << 30).await;
    let text = failure.error.message();
    assert_eq!((failure.retry, failure.error.kind()), (v1::ErrorKind::Permanent, Kind::NonFinite));
    for part in ["model.w", "adapter 1", "lora.w.A", "NaN", b.path("in").to_string().as_str()] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }

    let store = Arc::new(Faulty::new(Arc::new(Local::new())));
    store.plan_run(Operation::Read, 1, u64::MAX, Fault::Before(ErrorKind::Permission));
    let mut b = Bench::new();
    b.copy("model.c", &[4000]);
    b.copy("model.d", &[4000]);
    let (failure, _) = failing(&b, store, 1 << 30).await;
    assert_eq!(failure.retry, v1::ErrorKind::WorkerLocal, "others may have the right credentials");
}

#[tokio::test]
async fn what_no_budget_holds_is_refused_before_it_is_allocated() {
    let mut b = Bench::new();
    b.copy("w", &[4]);
    let store = Local::new();
    let mut assignment = b.assignment(&store, 1 << 20).await;
    // A row of 64 TiB, as a hostile coordinator may claim.
    let start = Source { shape: vec![1, 1 << 45], ..b.tensors[0].recipe.starts()[0].clone() };
    let Job::Fill(fill) = &mut assignment.job else { unreachable!("it fills") };
    fill.size = 1 << 50;
    fill.tensors[0].length = 1 << 46;
    fill.tensors[0].shape = start.shape.clone();
    let start = Start::plain(start).unwrap();
    fill.tensors[0].recipe =
        Recipe::Fuse(Fuse { start, start_adapter: None, steps: Vec::new(), keep_non_finite: false });
    let pipeline = Pipeline::new(Arc::new(Stores::new()), 1 << 30, 1, Device::Cpu).unwrap();
    let (send, _done) = mpsc::channel(64);
    let failure = pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap_err();
    assert_eq!(failure.retry, v1::ErrorKind::WorkerLocal);
    assert!(failure.error.message().contains("of memory"), "{}", failure.error);
}

#[tokio::test(start_paused = true)]
async fn a_held_attempt_begins_no_part() {
    let mut b = Bench::new();
    b.copy("w", &[4000]);
    let store = Arc::new(Faulty::new(Arc::new(Local::new())));
    let assignment = b.assignment(&*store, 1 << 10).await;
    let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), 1 << 30, 1, Device::Cpu).unwrap();
    let (send, mut done) = mpsc::channel(64);
    let gate = Gate::open();
    gate.set(false);
    let before = store.calls(Operation::Read);
    let held = gate.clone();
    let work = tokio::spawn(async move { pipeline.work(&assignment, &send, &held, &Meter::default()).await });
    // Time is paused: it passes once nothing else can happen. A part that began would read at once, and time would stand.
    assert!(tokio::time::timeout(Duration::from_millis(100), done.recv()).await.is_err());
    assert_eq!(store.calls(Operation::Read), before);
    gate.set(true);
    work.await.unwrap().unwrap();
    assert!(done.recv().await.is_some());
}

/// Sums by column do not depend on how the right factor is read.
#[tokio::test]
async fn measured_sums_are_the_same_by_ranges() {
    let mut b = Bench::new();
    let start = Start::plain(b.source("w", Dtype::BF16, &[1500, 1024])).unwrap();
    let delta = b.low_rank("w", (1500, 1024, 32), false);
    let steps = vec![Step { adapter: 0, op: Op::Add(Add(delta)) }];
    let kind = statistic::Kind::ColumnSquares;
    let statistic = Statistic { tensor: "w".into(), start, steps, needs: Vec::new(), kind };
    b.copy("c", &[1]);
    let store: Arc<dyn Store> = Arc::new(Local::new());
    let mut assignment = b.assignment(&*store, 1 << 20).await;
    assignment.job = Job::Reduce(Reduce { statistic, blocks: vec![0, 1], statistics: Vec::new() });
    let mut sums = Vec::new();
    for memory in [1 << 30, 256 << 10] {
        let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), memory, 2, Device::Cpu).unwrap();
        let (send, mut done) = mpsc::channel(64);
        pipeline.work(&assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
        let mut blocks = vec![done.recv().await.unwrap(), done.recv().await.unwrap()];
        blocks.sort_unstable_by_key(|d| d.piece);
        sums.push(blocks.into_iter().map(|d| d.result).collect::<Vec<_>>());
    }
    assert!(sums[0] == sums[1]);
}
